"""`AsyncClient` has the methods of `Client` and the same rules."""

import asyncio
import inspect
from collections.abc import AsyncIterator

import msgspec
import pytest

from client.tests.scripted_gateway import (
    CALL_ID,
    READ_FILE,
    Answer,
    ScriptedGateway,
    ended,
    problem,
    running,
    succeeded,
)
from toolswarm import AsyncClient, Client
from toolswarm.async_client import AsyncCallHandle
from toolswarm.errors import CallFailed, GatewayUnreachable, UnknownOperation, WaitTimedOut
from toolswarm.handle import CallHandle
from toolswarm.messages import CallEvent
from toolswarm.states import State

SUBMIT = "POST /v1/calls"
CALL = f"GET /v1/calls/{CALL_ID}"


@pytest.fixture
async def swarm(gateway: ScriptedGateway) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(gateway.url, "the-key", timeout_s=5) as client:
        yield client


@pytest.mark.parametrize(("blocking", "awaited"), [(Client, AsyncClient), (CallHandle, AsyncCallHandle)])
def test_both_clients_have_the_same_methods(blocking: type, awaited: type) -> None:
    def signatures(kind: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(each).parameters) for name, each in methods if not name.startswith("_")}

    assert signatures(blocking) == signatures(awaited)


async def test_a_call_gives_its_value(gateway: ScriptedGateway, swarm: AsyncClient) -> None:
    gateway.answers(SUBMIT, running())
    gateway.answers(CALL, running(), succeeded({"a": 1}))

    assert await swarm.call("read_file", path="a") == {"a": 1}
    assert gateway.asked[0].headers["authorization"] == "Bearer the-key"


async def test_a_call_that_fails_raises(gateway: ScriptedGateway, swarm: AsyncClient) -> None:
    gateway.answers(SUBMIT, ended(State.FAILED))

    with pytest.raises(CallFailed, match="not_found"):
        await swarm.call("x")


async def test_a_lost_answer_is_asked_for_again_under_the_same_key(
    gateway: ScriptedGateway, swarm: AsyncClient
) -> None:
    gateway.answers(SUBMIT, Answer(lost=True), problem("unavailable", 503, "full", retry_after="0"), succeeded(1))

    assert await swarm.call("x") == 1
    assert len({asked.headers["idempotency-key"] for asked in gateway.asked}) == 1


async def test_many_calls_wait_at_the_same_time(gateway: ScriptedGateway, swarm: AsyncClient) -> None:
    gateway.answers(SUBMIT, running())
    gateway.answers(CALL, running(), succeeded(1))

    assert await asyncio.gather(*(swarm.call("x") for _ in range(20))) == [1] * 20


async def test_a_handle_waits_cancels_and_follows(gateway: ScriptedGateway, swarm: AsyncClient) -> None:
    over = msgspec.json.encode(CallEvent(id=CALL_ID, state=State.SUCCEEDED, at=2.0, result=succeeded(3)))
    gateway.answers(SUBMIT, running())
    gateway.answers(CALL, running(), running(), succeeded(3))
    gateway.answers(f"DELETE /v1/calls/{CALL_ID}", running())
    gateway.answers(
        f"GET /v1/calls/{CALL_ID}/events", Answer(chunks=(b"data: ", over, b"\n\n")), Answer(b": nothing\n\n")
    )

    handle = await swarm.submit("x")

    assert await handle.status() is State.RUNNING
    assert await handle.cancel() is State.RUNNING
    assert [event.state async for event in handle.events()] == [State.SUCCEEDED]
    assert await handle.result() == 3
    with pytest.raises(GatewayUnreachable, match="ended the events"):
        [event async for event in handle.events()]


async def test_waiting_ends_at_the_timeout(gateway: ScriptedGateway, swarm: AsyncClient) -> None:
    gateway.answers(CALL, running())

    with pytest.raises(WaitTimedOut):
        await swarm.handle(CALL_ID).result(0.2)


async def test_many_calls_go_in_one_batch(gateway: ScriptedGateway, swarm: AsyncClient) -> None:
    gateway.answers("POST /v1/calls:batch", {"results": [succeeded(1, "a"), running("c")]})
    gateway.answers("GET /v1/calls/c", succeeded(2, "c"))

    results = await swarm.call_many([("x", {}), ("y", {})])

    assert [result.value for result in results] == [1, 2]


async def test_the_catalogue_is_read_and_an_unknown_name_told(gateway: ScriptedGateway, swarm: AsyncClient) -> None:
    gateway.answers("GET /v1/tools", {"operations": [READ_FILE]})
    gateway.answers("GET /v1/tools/x", problem("unknown_operation", 404, "no"))

    assert await swarm.tools() == [READ_FILE]
    with pytest.raises(UnknownOperation):
        await swarm.tools("x")


async def test_a_gateway_that_is_not_there_is_named() -> None:
    async with AsyncClient("http://127.0.0.1:1", timeout_s=1) as swarm:
        with pytest.raises(GatewayUnreachable, match=r"http://127\.0\.0\.1:1"):
            await swarm.call("x")
