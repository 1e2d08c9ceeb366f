"""A call's states as server-sent events."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.drain import Drain
from gateway.events import EventStream
from tests.gateway.fake_front import BROKER_DOWN
from tests.gateway.serving import Served, until
from toolswarm.ids import new_call_id
from toolswarm.messages import CallEvent
from toolswarm.states import State

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _accepted(gateway: Served) -> str:
    answer = await gateway.http.post("/v1/calls", json={"operation": "echo.wait"})
    return str(answer.json()["id"])


def _states(text: str) -> list[str]:
    return [line.partition(",")[2].split('"')[3] for line in text.splitlines() if line.startswith("data:")]


async def test_each_state_is_an_event_and_the_last_one_has_the_result(gateway: Served) -> None:
    call_id = await _accepted(gateway)
    front = gateway.front

    async with gateway.http.stream("GET", f"/v1/calls/{call_id}/events") as answer:
        text = ""
        async for line in answer.aiter_lines():
            text += line + "\n"
            if '"accepted"' in line:
                front.start(call_id)
            elif '"running"' in line:
                front.finish(call_id, {"lines": 3})

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert _states(text) == ["accepted", "running", "succeeded"]
    assert text.count("event: state") == 3
    assert '"value":{"lines":3}' in text.splitlines()[-2]
    assert front.followers == 0


async def test_a_call_that_has_ended_is_told_at_once(gateway: Served) -> None:
    call_id = await _accepted(gateway)
    gateway.front.finish(call_id, 1)

    answer = await gateway.http.get(f"/v1/calls/{call_id}/events")

    assert _states(answer.text) == ["succeeded"]


@pytest.mark.parametrize("call_id", [new_call_id(), "nonsense"])
async def test_the_events_of_an_unknown_call_are_a_404(gateway: Served, call_id: str) -> None:
    answer = await gateway.http.get(f"/v1/calls/{call_id}/events")

    assert answer.status_code == 404
    assert answer.json()["code"] == "call_not_found"


async def test_a_caller_that_goes_away_is_no_longer_followed(gateway: Served) -> None:
    call_id = await _accepted(gateway)

    async with gateway.http.stream("GET", f"/v1/calls/{call_id}/events") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("event"):
                break
        assert gateway.front.followers == 1

    await until(lambda: gateway.front.followers == 0)


async def test_a_broker_that_is_lost_on_the_way_is_told(gateway: Served) -> None:
    call_id = await _accepted(gateway)

    async with gateway.http.stream("GET", f"/v1/calls/{call_id}/events") as answer:
        text = ""
        async for line in answer.aiter_lines():
            text += line + "\n"
            if '"accepted"' in line:
                gateway.front.raising["events"] = BROKER_DOWN
                gateway.front.wake()

    assert "event: error\ndata: " in text
    assert '"code":"broker_unavailable"' in text


async def test_a_quiet_stream_is_kept_alive() -> None:
    sent: list[bytes] = []
    quiet_enough = asyncio.Event()

    async def quiet() -> AsyncIterator[CallEvent]:
        await quiet_enough.wait()
        yield CallEvent(id="x", state=State.CANCELLED, at=1.0)

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))
        if sent.count(b": keep-alive\n\n") == 2:
            quiet_enough.set()

    await EventStream(quiet(), Drain(), keep_alive_s=0.01)({"type": "http"}, receive, send)

    assert sent[-2].startswith(b"event: state\n")
    assert sent[-1] == b""
