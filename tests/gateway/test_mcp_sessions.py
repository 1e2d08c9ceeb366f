"""Sessions of the older era: broken streams are taken up again, words for a log, and to whom a session belongs."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import mcp_types as types
import pytest
from mcp.server.lowlevel import Server
from mcp.server.streamable_http import EventMessage

from gateway.mcp.sessions import Events, Sessions
from routing.front import Caller
from tests.gateway.mcp_stack import Swarm, swarm
from tests.servers.mcp_clients import MODERN, connected
from tests.servers.stack import API_KEY

LEGACY = "2025-11-25"
HEADERS = {
    "authorization": f"Bearer {API_KEY}",
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": LEGACY,
}


@pytest.fixture(scope="module")
def running() -> Iterator[Swarm]:
    with swarm(TOOLSWARM_MCP__SESSIONS="true") as found:
        yield found


def message(text: str) -> types.JSONRPCMessage:
    return types.JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params={"data": text})


async def replayed(session: Any, after: str) -> tuple[str | None, list[str | None]]:
    events: list[EventMessage] = []

    async def note(event: EventMessage) -> None:
        events.append(event)

    return await session.replay_events_after(after, note), [event.event_id for event in events]


async def begun(http: httpx.AsyncClient, url: str) -> str:
    """The id of a new session."""
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "by hand", "version": "1"}}
    asked = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    answer = await http.post(url, json=asked)
    session = answer.headers["mcp-session-id"]
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    await http.post(url, json=ready, headers={"mcp-session-id": session})
    return str(session)


async def events(answer: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """The id and the message of each event; a priming one has none."""
    event_id = ""
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            event_id = value
        elif name == "data" or line == "data:":
            yield event_id, json.loads(value) if value.strip() else {}


async def test_what_came_after_an_event_is_sent_again_to_its_session_alone() -> None:
    kept = Events()
    mine, other = kept.of_session(), kept.of_session()
    first = await mine.store_event("1", None)
    await other.store_event("1", message("theirs"))
    second = await mine.store_event("1", message("mine"))
    await mine.store_event("2", message("of another stream"))

    assert await replayed(mine, first) == ("1", [second])
    assert await replayed(other, first) == (None, [])


async def test_the_oldest_events_go_first() -> None:
    kept = Events(most_bytes=2000)
    session = kept.of_session()
    numbers = [await session.store_event("1", message("x" * 100)) for _ in range(20)]

    assert await replayed(session, numbers[0]) == (None, [])
    assert await replayed(session, numbers[-2]) == ("1", [numbers[-1]])


async def test_a_client_whose_stream_broke_comes_back_for_its_answer(running: Swarm) -> None:
    params = {"name": "trial_slow_once", "arguments": {"label": "resumed", "seconds": 0.5}}
    asked = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    url = f"{running.url}/mcp"

    async with httpx.AsyncClient(headers=HEADERS, trust_env=False) as http:
        http.headers["mcp-session-id"] = await begun(http, url)
        async with http.stream("POST", url, json=asked) as broken:
            last_seen, _ = await anext(events(broken))
        async with asyncio.timeout(10), http.stream("GET", url, headers={"last-event-id": last_seen}) as resumed:
            answer = await anext(one async for _, one in events(resumed) if one.get("id") == 7)

    assert answer["result"]["content"][0]["text"] == "resumed"
    assert sum(line.startswith("effect resumed ") for line in running.stack.marked()) == 1


@pytest.mark.parametrize("level", ["debug", "error"])
async def test_a_session_hears_what_is_as_grave_as_it_asked_for(running: Swarm, level: Any) -> None:
    heard: list[Any] = []

    async def note(params: types.LoggingMessageNotificationParams) -> None:
        heard.append((params.level, params.logger, params.data))

    async with connected(running.url, "legacy", logging_callback=note) as client:
        await client.session.send_request(
            types.SetLevelRequest(params=types.SetLevelRequestParams(level=level)), types.EmptyResult
        )
        await client.call_tool("conformance_test_tool_with_logging", {})

    said = ("Tool execution started", "Tool processing data", "Tool execution completed")
    expected = [("info", "conformance.test_tool_with_logging", one) for one in said]
    assert heard == (expected if level == "debug" else [])


async def test_a_tool_asks_the_client_of_a_session_while_it_waits(running: Swarm) -> None:
    async def answer(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"name": "Ada"})

    async with connected(running.url, "legacy", elicitation_callback=answer) as client:
        result = await client.call_tool("conformance_test_input_required_result_elicitation", {})

    assert result.content == [types.TextContent(text="Hello, Ada!")]


async def test_a_client_of_the_newer_era_asks_for_a_log_with_its_call(running: Swarm) -> None:
    heard: list[Any] = []

    async def note(params: types.LoggingMessageNotificationParams) -> None:
        heard.append(params.data)

    async with connected(running.url, MODERN, logging_callback=note, log_level="info") as client:
        await client.call_tool("conformance_test_tool_with_logging", {})

    assert heard == ["Tool execution started", "Tool processing data", "Tool execution completed"]


async def test_who_did_not_ask_for_a_log_is_told_it_as_progress(running: Swarm) -> None:
    told: list[str | None] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(message)

    async with connected(running.url) as client:
        await client.call_tool("conformance_test_tool_with_logging", {}, progress_callback=note)

    assert told[-3:] == ["Tool execution started", "Tool processing data", "Tool execution completed"]


async def test_a_session_is_its_callers_alone() -> None:
    sessions = Sessions(Server("test"), max_body_bytes=100_000)

    def seen_by(caller: Caller) -> httpx.AsyncClient:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await sessions.handle(scope, receive, send, caller)

        return httpx.AsyncClient(transport=httpx.ASGITransport(app), headers=HEADERS, base_url="http://localhost")

    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    async with sessions.run(), seen_by(Caller("t", "one")) as one, seen_by(Caller("t", "other")) as other:
        session = await begun(one, "/mcp")
        own = await one.post("/mcp", json=ping, headers={"mcp-session-id": session})
        foreign = await other.post("/mcp", json=ping, headers={"mcp-session-id": session})

    assert own.status_code == 200
    assert foreign.status_code == 404
