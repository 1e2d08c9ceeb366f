"""What holds when RabbitMQ carries the tasks: nothing is lost with it, little lies in it, and nobody waits longer."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import amqp  # pyright: ignore[reportMissingTypeStubs]
import pytest

from routing.front import Caller, Front
from routing.rabbitmq import DEAD
from tests.servers.rabbitmq import PASSWORD, RabbitMq
from tests.servers.stack import Stack
from tests.servers.valkey import Valkey
from tests.servers.waiting import until_async
from toolswarm.messages import SubmitBody, ToolResult
from toolswarm.states import State

ME = Caller()
QUEUE = "tool.trial"


@pytest.fixture
def stack(valkey: Valkey, rabbitmq: RabbitMq) -> Iterator[Stack]:
    processes = Stack(valkey)
    processes.carry_tasks_by(rabbitmq)
    yield processes
    processes.close()


@pytest.fixture
async def front(stack: Stack) -> AsyncIterator[Front]:
    opened = await stack.front()
    yield opened
    await opened.close()


def body(operation: str, **arguments: object) -> SubmitBody:
    return SubmitBody(operation=f"trial.{operation}", arguments=arguments)


async def reads(front: Front, count: int, caller: Caller = ME, seconds: float = 0.02) -> list[str]:
    bodies = [body("slow_read", label=f"{caller.tenant}-{n}", seconds=seconds) for n in range(count)]
    return [one.id for one in await front.submit_many(bodies, caller) if isinstance(one, ToolResult)]


async def results(front: Front, ids: list[str], caller: Caller = ME) -> list[ToolResult]:
    return list(await asyncio.gather(*(front.result(one, caller, 60) for one in ids)))


def stop_consuming(stack: Stack) -> None:
    """A worker publishes the operations, and is gone."""
    stack.kill(stack.start_worker("trial", "w0"))


async def test_no_accepted_call_is_lost_when_rabbitmq_is_killed(stack: Stack, front: Front, rabbitmq: RabbitMq) -> None:
    stack.start_beat()
    worker = stack.start_worker("trial", "w1")

    await until_async(lambda: rabbitmq.has_on_disk(QUEUE), "a kill spares the queue")

    ids = await reads(front, 100)
    await until_async(lambda: stack.has_marked(20), "some of them run")
    rabbitmq.kill()
    ids += await reads(front, 20)  # accepted all the same: they wait in the ledger
    rabbitmq.start()
    ended = await results(front, ids)

    assert len(ids) == 120
    assert {result.status for result in ended} == {State.SUCCEEDED}, stack.log("w1")[-3000:]
    assert worker.poll() is None
    assert len(stack.marked()) == 120  # no read ran twice, either: its worker lived
    assert PASSWORD not in stack.log("w1") + stack.log("beat")


async def test_what_rabbitmq_has_lost_is_published_again(stack: Stack, front: Front, rabbitmq: RabbitMq) -> None:
    stack.start_beat()
    stop_consuming(stack)
    (read,) = await reads(front, 1)
    await until_async(lambda: rabbitmq.length(QUEUE) == 1, "it is in RabbitMQ")
    with rabbitmq.connect() as connection:
        connection.channel().queue_purge(QUEUE)
    stack.start_worker("trial", "w1")

    result = await front.result(read, ME, 30)

    assert (result.status, result.meta.attempts) == (State.SUCCEEDED, 1)


async def test_a_task_that_is_there_twice_runs_once(stack: Stack, front: Front, rabbitmq: RabbitMq) -> None:
    stop_consuming(stack)
    submitted = await front.submit(body("slow_once", label="a", seconds=0.2), ME)
    await until_async(lambda: rabbitmq.length(QUEUE) == 1, "it is in RabbitMQ")
    with rabbitmq.connect() as connection:
        channel = connection.channel()
        task = channel.basic_get(QUEUE, no_ack=True)
        for _ in range(3):
            channel.basic_publish(task, routing_key=QUEUE)
    stack.start_worker("trial", "w1")

    result = await front.result(submitted.id, ME, 30)
    await until_async(lambda: rabbitmq.length(QUEUE) == 0, "all of them were seen to")

    assert result.status is State.SUCCEEDED
    assert len(stack.marked()) == 1


async def test_rabbitmq_never_holds_arguments(stack: Stack, front: Front, rabbitmq: RabbitMq) -> None:
    stop_consuming(stack)
    await front.submit(body("echo", text="canary-in-the-mine"), ME)
    await until_async(lambda: rabbitmq.length(QUEUE) == 1, "it is in RabbitMQ")

    task = rabbitmq.take(QUEUE)

    assert "canary" not in f"{task.body}{task.properties}"


async def test_a_forged_task_in_rabbitmq_runs_nothing(stack: Stack, front: Front, rabbitmq: RabbitMq) -> None:
    stack.start_worker("trial", "w1")
    (read,) = await reads(front, 1)
    await front.result(read, ME, 30)
    headers = {"lang": "py", "task": "trial.slow_read", "id": read, "toolswarm": {"v": 1}}
    with rabbitmq.connect() as connection:
        forged = amqp.Message(
            json.dumps([[], {}, {}]),
            content_type="application/json",
            content_encoding="utf-8",
            application_headers=headers,
        )
        connection.channel().basic_publish(forged, routing_key=QUEUE)

    await until_async(lambda: "refused" in stack.log("w1"), "it is refused")

    assert len(stack.marked()) == 1


async def test_little_lies_in_rabbitmq_and_a_small_tenant_does_not_wait_behind_a_large_one(
    stack: Stack, front: Front, rabbitmq: RabbitMq
) -> None:
    large, small = Caller(tenant="large"), Caller(tenant="small")
    stop_consuming(stack)
    many = await reads(front, 400, large)
    few = await reads(front, 4, small)
    await until_async(lambda: rabbitmq.length(QUEUE) >= 16, "RabbitMQ holds what it may")
    in_rabbitmq = rabbitmq.length(QUEUE)
    stack.start_worker("trial", "w1", TOOLSWARM_WORKERS__TRIAL__CONCURRENCY="4")

    ended = await results(front, few, small)
    served_before = sum("begin large" in mark for mark in stack.marked())
    others = await results(front, many, large)

    assert {result.status for result in (*ended, *others)} == {State.SUCCEEDED}
    assert in_rabbitmq <= 2 * 16
    assert served_before < 100


async def test_a_call_that_is_cancelled_in_its_queue_never_runs(stack: Stack, front: Front, rabbitmq: RabbitMq) -> None:
    stop_consuming(stack)
    ids = await reads(front, 60)  # some in RabbitMQ, some not
    await until_async(lambda: rabbitmq.length(QUEUE) >= 4, "some are in RabbitMQ")

    cancelled = [await front.cancel(one, ME) for one in ids]
    stack.start_worker("trial", "w1")
    (after,) = await reads(front, 1)

    assert {result.status for result in cancelled} == {State.CANCELLED}
    assert (await front.result(after, ME, 30)).status is State.SUCCEEDED
    assert len(stack.marked()) == 1
    with stack.valkey.client() as connected:
        client: Any = connected
        await until_async(lambda: not client.exists("ts:unacked:tool.trial"), "nothing counts as held")


async def test_a_task_that_no_worker_can_take_ends_as_poison_and_not_at_the_first_time(
    stack: Stack, front: Front, rabbitmq: RabbitMq
) -> None:
    stack.settings["TOOLSWARM_BROKER__DELIVERY_LIMIT"] = "2"
    crowd = await stack.front()
    stack.start_beat()
    stop_consuming(stack)
    await front.close()  # its limit is another one
    (read,) = await reads(crowd, 1)
    given_back = Counter[str]()
    await until_async(lambda: rabbitmq.length(QUEUE), "it is in RabbitMQ")

    def give_back() -> bool:
        """As a worker that dies before it has claimed the call."""
        with rabbitmq.connect() as connection:
            channel = connection.channel()
            task = channel.basic_get(QUEUE)
            if task is not None:
                given_back[task.properties["message_id"]] += 1
                channel.basic_reject(task.delivery_tag, requeue=True)
        return given_back[read] >= 9

    await until_async(give_back, "it came back nine times")
    result = await crowd.result(read, ME, 30)
    await crowd.close()

    assert (result.status, result.error and result.error.code) == (State.FAILED, "poison")
    await until_async(lambda: rabbitmq.length(DEAD) == 0, "what was put aside was seen to")


async def test_a_queue_that_has_other_properties_is_named_with_what_helps(
    stack: Stack, front: Front, rabbitmq: RabbitMq, caplog: pytest.LogCaptureFixture
) -> None:
    with rabbitmq.connect() as connection:
        connection.channel().queue_declare(QUEUE, durable=True, auto_delete=False)
    worker = stack.start_worker("trial", "w1")

    (read,) = await reads(front, 1)

    await until_async(lambda: "set broker.delivery_limit as it was" in caplog.text, "the error is told")
    assert (await front.cancel(read, ME)).status is State.CANCELLED
    assert worker.poll() is None
