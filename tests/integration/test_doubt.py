"""Calls whose effect can be looked for, calls that wait for a budget, sessions, and what operations say."""

import asyncio
import hashlib
import time
from itertools import pairwise
from typing import Any

import pytest

from routing.front import Caller, Front
from tests.servers.gateway import start_gateway
from tests.servers.rabbitmq import BOTH_BROKERS
from tests.servers.stack import API_KEY, Stack
from tests.servers.waiting import until_async
from toolswarm import AsyncClient, Client
from toolswarm.errors import ValueGone
from toolswarm.messages import Context, SubmitBody, ToolResult, WholeValue, encode
from toolswarm.states import State

ME = Caller()


def body(operation: str, **arguments: object) -> SubmitBody:
    return SubmitBody(operation=f"trial.{operation}", arguments=arguments)


def sha256_of(value: object) -> str:
    """Of its JSON."""
    return hashlib.sha256(encode({"": value})[4:-1]).hexdigest()


async def call(front: Front, request: SubmitBody) -> ToolResult:
    submitted = await front.submit(request, ME)
    return await front.result(submitted.id, ME, 30)


async def test_a_verifiable_whose_worker_died_after_the_effect_is_found_and_not_repeated(
    stack: Stack, front: Front
) -> None:
    stack.start_beat()
    first = stack.start_worker("trial", "w1")
    submitted = await front.submit(body("verifiable", label="a", effect_first=True), ME)
    await until_async(lambda: "begin a" in stack.marked(), "the effect has happened")
    stack.kill(first)
    stack.start_worker("trial", "w2")

    result = await front.result(submitted.id, ME, 30)

    assert (result.status, result.value) == (State.SUCCEEDED, "found a")
    assert stack.marked().count("effect a") == 1


async def test_a_verifiable_whose_worker_died_before_the_effect_is_run_again(stack: Stack, front: Front) -> None:
    stack.start_beat()
    first = stack.start_worker("trial", "w1")
    submitted = await front.submit(body("verifiable", label="a", effect_first=False), ME)
    await until_async(lambda: "begin a" in stack.marked(), "the attempt has begun")
    stack.kill(first)
    stack.start_worker("trial", "w2")

    result = await front.result(submitted.id, ME, 30)

    assert (result.status, result.value) == (State.SUCCEEDED, "did a")
    assert stack.marked() == ["begin a", "look a", "effect a", "begin a"]


async def test_a_verifiable_that_lost_sight_of_its_effect_looks_for_it(stack: Stack, front: Front) -> None:
    stack.start_beat()
    stack.start_worker("trial", "w1")

    result = await call(front, body("loses_sight", label="a", effect_first=True))

    assert (result.status, result.value, result.meta.attempts) == (State.SUCCEEDED, "found a", 2)


async def test_an_exception_after_the_effect_had_begun_is_told_as_unknown_with_the_evidence(
    stack: Stack, front: Front
) -> None:
    stack.start_worker("trial", "w1")

    result = await call(front, body("breaks", label="a"))

    assert (result.status, result.error and result.error.code) == (State.UNKNOWN, "internal")
    assert result.error
    assert result.error.details["worker"] == "w1"
    assert stack.marked() == ["effect a"]


async def test_an_exception_after_an_effect_that_can_be_looked_for_makes_the_next_attempt_look(
    stack: Stack, front: Front
) -> None:
    stack.start_beat()
    stack.start_worker("trial", "w1")

    result = await call(front, body("breaks_but_can_tell", label="a", effect_first=True))

    assert (result.status, result.value) == (State.SUCCEEDED, "found a")
    assert stack.marked() == ["effect a", "look a"]


async def test_an_effect_whose_answer_is_too_large_has_succeeded_and_tells_the_beginning(
    stack: Stack, front: Front
) -> None:
    stack.start_worker("trial", "w1")

    result = await call(front, body("answers_at_length", label="a", size_bytes=9_000_000))

    assert result.status is State.SUCCEEDED
    assert (result.value["truncated"], result.value["size_bytes"]) == (True, 9_000_002)
    assert result.value["beginning"].startswith('"aaaa')
    assert result.meta.whole == WholeValue(size_bytes=9_000_002, sha256=sha256_of("a" * 9_000_000), kept=True)


async def test_an_effect_whose_answer_is_no_json_has_succeeded_all_the_same(stack: Stack, front: Front) -> None:
    stack.start_worker("trial", "w1")

    result = await call(front, body("answers_in_tongues", label="a"))

    assert (result.status, stack.marked()) == (State.SUCCEEDED, ["effect a"])
    assert "cannot be written as JSON" in result.value["left_out"]


async def test_the_client_fetches_a_value_whole_that_is_too_large_for_the_result(stack: Stack) -> None:
    stack.start_worker("trial", "w1")
    url = start_gateway(stack)

    async with AsyncClient(url, API_KEY) as swarm:
        value = await swarm.call("trial.reads_at_length", size_bytes=9_000_000)
    with Client(url, API_KEY) as blocking:
        handle = await asyncio.to_thread(blocking.submit, "trial.answers_at_length", label="b", size_bytes=9_000_000)
        again = await asyncio.to_thread(handle.result)

    assert (value, again) == ("x" * 9_000_000, "b" * 9_000_000)


async def test_a_whole_value_that_is_not_kept_any_more_is_told_as_gone(stack: Stack) -> None:
    stack.start_worker("trial", "w1")
    url = start_gateway(stack)
    with Client(url, API_KEY) as swarm:
        handle = await asyncio.to_thread(swarm.submit, "trial.answers_at_length", label="b", size_bytes=9_000_000)
        await asyncio.to_thread(handle.outcome)
        with stack.valkey.client() as connected:
            cache: Any = connected
            cache.execute_command("SELECT", 1)
            cache.flushdb()

        with pytest.raises(ValueGone):
            await asyncio.to_thread(handle.result)


async def test_a_read_that_is_too_large_and_cannot_be_kept_fails_and_says_what_to_do(
    stack: Stack, front: Front
) -> None:
    stack.settings["TOOLSWARM_STORE__CACHE_URL"] = "unix:///nowhere.sock?db=0"
    stack.start_worker("trial", "w1")

    result = await call(front, body("reads_at_length", size_bytes=9_000_000))

    assert (result.status, result.error and result.error.code) == (State.FAILED, "result_too_large")


async def test_a_transient_failure_that_is_safe_to_repeat_is_retried(stack: Stack, front: Front) -> None:
    stack.start_beat()
    stack.start_worker("trial", "w1")

    result = await call(front, body("flaky", label="a", failures=2))

    assert (result.status, result.value, result.meta.attempts) == (State.SUCCEEDED, "a", 3)


async def test_a_failure_that_does_not_pass_is_told_after_the_last_attempt(stack: Stack, front: Front) -> None:
    stack.start_beat()
    stack.start_worker("trial", "w1")

    result = await call(front, body("flaky", label="a", failures=9))

    assert (result.status, result.error and result.error.code) == (State.FAILED, "upstream_failed")
    assert (result.meta.attempts, stack.marked()) == (3, ["try a"] * 3)


@BOTH_BROKERS
async def test_a_postponed_call_comes_again_and_never_before_its_time(stack: Stack, front: Front) -> None:
    stack.start_beat()
    stack.start_worker("trial", "w1", TOOLSWARM_WORKERS__TRIAL__CONCURRENCY="1")
    submitted = await front.submit(body("postponed", label="a", times=2, delay_s=0.6), ME)
    await until_async(lambda: stack.has_marked(1), "it was postponed once")

    meanwhile = await call(front, body("echo", text="the slot is free"))
    result = await front.result(submitted.id, ME, 30)

    tries = [float(line.split()[2]) for line in result.value]
    assert meanwhile.status is State.SUCCEEDED
    assert (len(tries), result.meta.attempts) == (3, 1)
    assert all(later - earlier >= 0.6 for earlier, later in pairwise(tries))


async def test_a_call_postponed_past_its_deadline_fails_now_and_says_why(stack: Stack, front: Front) -> None:
    stack.start_worker("trial", "w1")
    began = time.monotonic()

    result = await call(front, body("postponed", label="a", times=1, delay_s=3600.0))

    assert (result.status, result.error and result.error.code) == (State.FAILED, "rate_limited")
    assert time.monotonic() - began < 10


async def test_followers_hear_what_an_operation_says_before_its_end(stack: Stack, front: Front) -> None:
    stack.start_worker("trial", "w1")
    submitted = await front.submit(body("chatty", lines=40), ME)

    events = [event async for event in front.events(submitted.id, ME)]

    said = [event.output["line"] for event in events if event.output]
    assert said == list(range(said[0], 40))
    assert events[-1].state is State.SUCCEEDED


async def test_calls_of_a_session_go_to_the_worker_that_it_lives_in(stack: Stack, front: Front) -> None:
    for number in range(3):
        stack.start_worker("trial", f"w{number}")
    session_id = (await call(front, body("open_session"))).value

    uses = [(await call(front, body("count_in_session", session_id=session_id))).value for _ in range(6)]
    in_context = SubmitBody(operation="count_in_session", context=Context(session=session_id))

    assert uses == [1, 2, 3, 4, 5, 6]
    assert (await call(front, in_context)).value == 7


@BOTH_BROKERS
async def test_a_session_whose_worker_died_is_lost_at_once(stack: Stack, front: Front) -> None:
    stack.start_beat()
    first = stack.start_worker("trial", "w1")
    session_id = (await call(front, body("open_session"))).value
    stack.start_worker("trial", "w2")
    stack.kill(first)
    began = time.monotonic()

    results = [await call(front, body("count_in_session", session_id=session_id)) for _ in range(2)]

    assert {result.error and result.error.code for result in results} == {"session_lost"}
    assert time.monotonic() - began < 8


async def test_a_target_that_fails_again_and_again_is_left_alone_by_all_workers_until_one_call_succeeds(
    stack: Stack, front: Front
) -> None:
    stack.start_beat()
    settings = {"TOOLSWARM_WORKERS__TRIAL__BREAKER_FAILURES": "3"}
    settings["TOOLSWARM_WORKERS__TRIAL__BREAKER_RESET_TIMEOUT_S"] = "1.5"
    for number in range(2):
        stack.start_worker("trial", f"w{number}", **settings)
    await call(front, body("depend", target="web-1", works=False))
    tried = len(stack.marked())

    refused = [await call(front, body("depend", target="web-1", works=True)) for _ in range(4)]
    elsewhere = await call(front, body("depend", target="web-2", works=True))
    codes = [result.error and result.error.code for result in refused]

    async def closed() -> bool:
        return (await call(front, body("depend", target="web-1", works=True))).status is State.SUCCEEDED

    await until_async(closed, "the breaker is closed again")
    assert tried == 3
    assert codes == ["breaker_open"] * 4
    assert elsewhere.status is State.SUCCEEDED


async def test_a_result_that_the_broker_could_not_take_survives_the_worker(stack: Stack, front: Front) -> None:
    worker = stack.start_worker("trial", "w1")
    submitted = await front.submit(body("slow_once", label="a", seconds=1.0), ME)
    await until_async(lambda: stack.has_marked(1), "the effect has begun")
    stack.valkey.kill()
    await until_async(lambda: list((stack.folder / "spool").glob("*.result")), "the result is spooled")
    stack.kill(worker)
    stack.valkey.start()
    stack.start_worker("trial", "w2")

    result = await front.result(submitted.id, ME, 30)

    assert (result.status, result.value, result.meta.worker) == (State.SUCCEEDED, "a", "w1")
    assert len(stack.marked()) == 1
    await until_async(lambda: not list((stack.folder / "spool").iterdir()), "the spool is empty")


@BOTH_BROKERS
async def test_after_an_outage_workers_that_lived_through_it_end_their_calls_before_the_sweep(
    stack: Stack, front: Front
) -> None:
    stack.settings["TOOLSWARM_STORE__LEASE_S"] = "1.0"
    stack.start_beat()
    stack.start_worker("trial", "w1")
    submitted = await front.submit(body("slow_once", label="a", seconds=0.3), ME)
    await until_async(lambda: stack.has_marked(1), "the effect has begun")
    stack.valkey.kill()
    lease_is_over_at = time.monotonic() + 1.2
    await until_async(lambda: time.monotonic() > lease_is_over_at, "the lease is over")
    stack.valkey.start()

    result = await front.result(submitted.id, ME, 30)

    assert (result.status, result.value) == (State.SUCCEEDED, "a")
