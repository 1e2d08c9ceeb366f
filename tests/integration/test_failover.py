"""Calls while Redis behind Sentinel fails over: what was replicated goes on, on the new master."""

import asyncio
from collections.abc import Iterator

import pytest

from routing.front import Caller
from tests.servers.sentinels import PASSWORD, Sentinels
from tests.servers.stack import Stack
from tests.servers.waiting import until_async
from toolswarm.messages import SubmitBody, ToolResult
from toolswarm.states import State

ME = Caller()


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    servers = Sentinels()
    servers.start()
    yield servers
    servers.stop()


@pytest.fixture
def stack(sentinels: Sentinels) -> Iterator[Stack]:
    processes = Stack(sentinels)
    yield processes
    processes.close()


async def test_no_replicated_call_is_lost_when_the_master_is_killed(stack: Stack, sentinels: Sentinels) -> None:
    front = await stack.front()
    stack.start_beat()
    worker = stack.start_worker("trial", "w1")
    bodies = [SubmitBody(operation="trial.slow_read", arguments={"label": str(n), "seconds": 0.1}) for n in range(200)]
    accepted = await front.submit_many(bodies, ME)
    ids = [one.id for one in accepted if isinstance(one, ToolResult)]
    await until_async(lambda: stack.has_marked(20), "some of them run")

    old = sentinels.kill_master()
    results = await asyncio.gather(*(front.result(one, ME, 60) for one in ids))
    await front.close()

    assert len(ids) == 200
    assert {result.status for result in results} == {State.SUCCEEDED}, stack.log("w1")[-3000:]
    assert sentinels.master() != old
    assert worker.poll() is None
    assert PASSWORD not in stack.log("w1") + stack.log("beat")
