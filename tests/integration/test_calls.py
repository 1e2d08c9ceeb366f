"""Calls through real workers on a real broker, and what becomes of them when things are killed."""

import asyncio
import json
import os
import signal
import time
from functools import partial
from typing import Any

import pytest

from routing.front import Caller, Front
from tests.servers.rabbitmq import BOTH_BROKERS
from tests.servers.stack import API_KEY, Stack
from tests.servers.waiting import until_async
from toolswarm import Client
from toolswarm.errors import InvalidArguments
from toolswarm.messages import SubmitBody, ToolResult
from toolswarm.states import State

ME = Caller()


def body(operation: str, **arguments: object) -> SubmitBody:
    return SubmitBody(operation=f"trial.{operation}", arguments=arguments)


async def call(front: Front, operation: str, **arguments: object) -> ToolResult:
    submitted = await front.submit(body(operation, **arguments), ME)
    return await front.result(submitted.id, ME, 30)


@BOTH_BROKERS
async def test_a_call_goes_the_whole_way(stack: Stack, front: Front) -> None:
    stack.start_worker("trial", "w1")

    result = await call(front, "echo", text="hello")

    assert (result.status, result.value) == (State.SUCCEEDED, "hello")
    assert (result.meta.worker, result.meta.attempts) == ("w1", 1)


@BOTH_BROKERS
async def test_a_thousand_calls_at_once_all_come_back_right(stack: Stack, front: Front) -> None:
    stack.start_worker("trial", "w1")

    submitted = await front.submit_many([body("echo", text=str(number)) for number in range(1000)], ME)
    results = await asyncio.gather(*(front.result(one.id, ME, 60) for one in submitted if isinstance(one, ToolResult)))

    assert [result.value for result in results] == [str(number) for number in range(1000)]


@BOTH_BROKERS
async def test_a_read_whose_worker_is_killed_succeeds_on_another_within_six_seconds(stack: Stack, front: Front) -> None:
    stack.start_beat()
    first = stack.start_worker("trial", "w1")
    submitted = await front.submit(body("slow_read", label="a", seconds=0.5), ME)
    await until_async(lambda: stack.marked(), "the read has begun")
    killed_at = time.monotonic()
    stack.kill(first)
    stack.start_worker("trial", "w2")

    result = await front.result(submitted.id, ME, 30)

    assert (result.status, result.meta.worker, result.meta.attempts) == (State.SUCCEEDED, "w2", 2)
    assert time.monotonic() - killed_at < 6


@BOTH_BROKERS
async def test_a_once_whose_worker_is_killed_is_unknown_with_evidence_and_ran_once(stack: Stack, front: Front) -> None:
    stack.start_beat()
    first = stack.start_worker("trial", "w1")
    submitted = await front.submit(body("slow_once", label="a", seconds=20.0), ME)
    await until_async(lambda: stack.marked(), "the effect has begun")
    stack.kill(first)
    stack.start_worker("trial", "w2")

    result = await front.result(submitted.id, ME, 30)

    assert result.status is State.UNKNOWN
    assert result.error is not None
    assert result.error.details["worker"] == "w1"
    assert len(stack.marked()) == 1


async def test_a_call_that_kills_its_workers_ends_as_poison(stack: Stack, front: Front) -> None:
    stack.start_beat()
    workers = [stack.start_worker("trial", f"w{number}") for number in range(4)]

    result = await call(front, "poison", label="a")

    assert (result.status, result.error and result.error.code) == (State.FAILED, "poison")
    assert len(stack.marked()) == 3
    assert sum(worker.poll() is not None for worker in workers) == 3


@BOTH_BROKERS
async def test_no_accepted_call_is_lost_when_the_broker_is_killed_again_and_again(stack: Stack, front: Front) -> None:
    stack.start_beat()
    worker = stack.start_worker("trial", "w1")

    for _ in range(4):
        before = len(stack.marked())
        accepted = await front.submit_many([body("slow_read", label=str(n), seconds=0.05) for n in range(100)], ME)
        ids = [one.id for one in accepted if isinstance(one, ToolResult)]
        await until_async(partial(stack.has_marked, before + 20), "some of them run")
        stack.valkey.kill()
        stack.valkey.start()
        results = await asyncio.gather(*(front.result(one, ME, 60) for one in ids))

        assert len(ids) == 100
        assert {result.status for result in results} == {State.SUCCEEDED}, stack.log("w1")[-3000:]

    assert worker.poll() is None


async def test_a_worker_lives_through_restarts_of_the_broker_at_any_moment(stack: Stack, front: Front) -> None:
    stack.start_beat()
    worker = stack.start_worker("trial", "w1")

    for _ in range(5):
        submitted = await front.submit(body("echo", text="x"), ME)
        stack.valkey.kill()
        stack.valkey.start()

        assert (await front.result(submitted.id, ME, 30)).status is State.SUCCEEDED

    assert worker.poll() is None, stack.log("w1")[-3000:]


@BOTH_BROKERS
async def test_a_worker_that_is_told_to_stop_finishes_what_it_runs(stack: Stack, front: Front) -> None:
    worker = stack.start_worker("trial", "w1", TOOLSWARM_WORKERS__TRIAL__CONCURRENCY="60")
    submitted = await front.submit_many([body("slow_once", label=str(n), seconds=1.0) for n in range(50)], ME)
    await until_async(lambda: len(stack.marked()) == 50, "all of them run")

    worker.send_signal(signal.SIGTERM)
    results = await asyncio.gather(*(front.result(one.id, ME, 30) for one in submitted if isinstance(one, ToolResult)))

    assert {result.status for result in results} == {State.SUCCEEDED}
    assert worker.wait(timeout=20) == 0
    assert len(stack.marked()) == 50


@pytest.mark.parametrize("stack", ["redis"], indirect=True)  # test_rabbitmq.py forges there
async def test_a_task_that_was_forged_or_copied_runs_nothing(stack: Stack, front: Front) -> None:
    stack.start_worker("trial", "w1")
    begun = await front.submit(body("slow_once", label="a", seconds=0.1), ME)
    await front.result(begun.id, ME, 30)
    with stack.valkey.client() as client:
        forged = {
            "body": "W1tdLCB7fSwge31d",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": "trial.slow_once", "id": begun.id, "toolswarm": {"v": 1}},
            "properties": {
                "delivery_tag": "t",
                "body_encoding": "base64",
                "delivery_info": {"exchange": "", "routing_key": "tool.trial"},
            },
        }
        client.lpush("tool.trial", json.dumps(forged))
        client.lpush("ts:bell:tool.trial", "1")
        queue, held = "tool.trial", "ts:unacked:tool.trial"
        await until_async(lambda: not client.exists(queue) and not client.exists(held), "it was dropped")

    assert len(stack.marked()) == 1
    assert "refused" in stack.log("w1")


@BOTH_BROKERS
async def test_a_running_call_is_cancelled_and_a_once_that_has_begun_is_unknown(stack: Stack, front: Front) -> None:
    stack.start_worker("trial", "w1")
    read = await front.submit(body("slow_read", label="a", seconds=20.0), ME)
    once = await front.submit(body("slow_once", label="b", seconds=20.0), ME)
    await until_async(lambda: len(stack.marked()) == 2, "both run")

    await front.cancel(read.id, ME)
    await front.cancel(once.id, ME)

    assert (await front.result(read.id, ME, 10)).status is State.CANCELLED
    assert (await front.result(once.id, ME, 10)).status is State.UNKNOWN


async def test_a_function_in_a_thread_is_stopped_by_its_time_limit(stack: Stack, front: Front) -> None:
    stack.start_worker("trial", "w1")

    result = await call(front, "stubborn", label="a")

    assert (result.status, result.error and result.error.code) == (State.FAILED, "time_limit")


@BOTH_BROKERS
async def test_a_call_that_waits_past_its_deadline_expires(stack: Stack, front: Front) -> None:
    stack.start_beat()
    worker = stack.start_worker("trial", "w1")
    worker.send_signal(signal.SIGTERM)
    worker.wait(timeout=20)
    submitted = await front.submit(
        SubmitBody(operation="trial.echo", arguments={"text": "x"}, deadline=time.time() + 1), ME
    )

    result = await front.result(submitted.id, ME, 20)

    assert result.status is State.EXPIRED


async def test_an_exception_of_an_operation_shows_nothing_of_its_arguments(stack: Stack, front: Front) -> None:
    stack.start_worker("trial", "w1")

    result = await call(front, "crash", secret="canary-in-the-mine")

    assert (result.status, result.error and result.error.code) == (State.FAILED, "internal")
    assert "canary" not in repr(result)
    assert "canary" not in stack.log("w1")


@pytest.mark.parametrize("stack", ["redis"], indirect=True)
async def test_the_broker_never_holds_arguments_in_a_queue(stack: Stack, front: Front) -> None:
    worker = stack.start_worker("trial", "w1")
    worker.send_signal(signal.SIGTERM)
    worker.wait(timeout=20)
    await front.submit(body("echo", text="canary-in-the-mine"), ME)

    with stack.valkey.client() as connected:
        client: Any = connected
        (message,) = client.lrange("tool.trial\x06\x163", 0, -1)

    assert b"canary" not in message


async def test_a_wrong_argument_is_refused_before_anything_is_accepted(stack: Stack, front: Front) -> None:
    stack.start_worker("trial", "w1")

    with pytest.raises(InvalidArguments, match="'text' is missing"):
        await front.submit(body("echo"), ME)
    with pytest.raises(InvalidArguments, match="no argument 'txt'"):
        await front.submit(body("echo", text="a", txt="b"), ME)
    with pytest.raises(InvalidArguments, match="text: ") as refused:
        await front.submit(body("echo", text=5), ME)

    assert refused.value.details["field"] == "text"


@BOTH_BROKERS
@pytest.mark.parametrize("kind", ["prefork", "threads", "solo"])
async def test_celerys_own_pools_run_calls_too(stack: Stack, front: Front, kind: str) -> None:
    settings = {"TOOLSWARM_WORKERS__TRIAL__KIND": kind, "TOOLSWARM_WORKERS__TRIAL__CONCURRENCY": "2"}
    worker = stack.start_worker("trial", "w1", **settings)

    results = [await call(front, "where") for _ in range(4)]

    assert {result.status for result in results} == {State.SUCCEEDED}
    assert (worker.pid in {result.value for result in results}) == (kind != "prefork")


@BOTH_BROKERS
async def test_events_tell_each_state_and_end_with_the_result(stack: Stack, front: Front) -> None:
    stack.start_worker("trial", "w1")
    submitted = await front.submit(body("slow_once", label="a", seconds=0.5), ME)

    states = [event.state async for event in front.events(submitted.id, ME)]

    assert states[-1] is State.SUCCEEDED
    assert states == sorted(states, key=list(State).index)


async def test_a_client_without_the_gateway_gets_the_same_through_the_intake_queue(stack: Stack, front: Front) -> None:
    stack.start_worker("trial", "w1")
    stack.start_worker("intake", "intake-1")

    def through_the_broker() -> object:
        client = Client(stack.valkey.url, api_key=API_KEY)
        try:
            return client.call("trial.echo", text="hello")
        finally:
            client.close()

    assert await asyncio.to_thread(through_the_broker) == "hello"


async def test_a_silent_worker_loses_its_calls_and_its_late_result_is_not_taken(stack: Stack, front: Front) -> None:
    stack.start_beat()
    frozen = stack.start_worker("trial", "w1")
    submitted = await front.submit(body("slow_read", label="a", seconds=1.0), ME)
    await until_async(lambda: stack.marked(), "the read has begun")
    os.killpg(frozen.pid, signal.SIGSTOP)
    stack.start_worker("trial", "w2")

    result = await front.result(submitted.id, ME, 30)
    os.killpg(frozen.pid, signal.SIGCONT)

    assert (result.status, result.meta.worker) == (State.SUCCEEDED, "w2")

    async def refused() -> bool:
        return "lease" in stack.log("w1")

    await until_async(refused, "the frozen worker learns that it is too late")
