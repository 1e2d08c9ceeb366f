"""Calls over MCP: the official client and requests by hand, a real gateway, real workers."""

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError

from routing.front import Caller
from tests.gateway.mcp_stack import Swarm, swarm
from tests.servers.mcp_clients import MODERN, ask, connected, request
from tests.servers.waiting import until, until_async
from toolswarm.states import State

BOTH_ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])
KEY = "toolswarm/idempotencyKey"


@pytest.fixture(scope="module")
def running() -> Iterator[Swarm]:
    with swarm(TOOLSWARM_MCP__ANSWER_BYTES="20000", TOOLSWARM_GATEWAY__MAX_BODY_BYTES="100000") as found:
        yield found


def keyed(key: str) -> types.RequestParamsMeta:
    return cast("types.RequestParamsMeta", {KEY: key})


def text_of(result: types.CallToolResult) -> str:
    block = result.content[0]
    assert isinstance(block, types.TextContent)
    return block.text


def call_id_of(result: Any) -> str:
    return str(result.meta["toolswarm/call"]["id"])


@BOTH_ERAS
async def test_a_call_gives_its_value_as_text_and_structured(running: Swarm, mode: str) -> None:
    async with connected(running.url, mode) as client:
        listed = await client.list_tools()
        result = await client.call_tool("trial_echo", {"text": "hello"})

    assert "trial_echo" in [tool.name for tool in listed.tools]
    assert text_of(result) == "hello"
    assert result.structured_content == {"result": "hello"}
    assert result.meta is not None
    assert result.meta["toolswarm/call"]["worker"] == "w1"


@BOTH_ERAS
async def test_a_wrong_argument_is_an_error_that_names_the_field(running: Swarm, mode: str) -> None:
    async with connected(running.url, mode) as client:
        result = await client.call_tool("trial_echo", {"txt": "hello"})

    assert result.is_error
    assert text_of(result).startswith("invalid_arguments: trial.echo: the argument 'text' is missing")


@BOTH_ERAS
async def test_an_unknown_tool_is_a_protocol_error_with_the_nearest_names(running: Swarm, mode: str) -> None:
    async with connected(running.url, mode) as client:
        with pytest.raises(MCPError, match="did you mean trial_echo") as caught:
            await client.call_tool("trial_ech", {})

    assert caught.value.code == types.INVALID_PARAMS


@pytest.mark.parametrize("name", ["trial.echo", "echo"])
async def test_full_names_and_short_ones_are_understood_too(running: Swarm, name: str) -> None:
    async with connected(running.url) as client:
        assert text_of(await client.call_tool(name, {"text": "hello"})) == "hello"


@BOTH_ERAS
async def test_a_failure_is_an_error_in_words(running: Swarm, mode: str) -> None:
    async with connected(running.url, mode) as client:
        result = await client.call_tool("conformance_test_error_handling", {})

    assert result.is_error
    assert text_of(result).splitlines() == [
        "as_asked: This tool intentionally returns an error for testing",
        "The same call would fail again.",
    ]


@BOTH_ERAS
async def test_progress_grows_and_tells_what_the_operation_says(running: Swarm, mode: str) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async with connected(running.url, mode) as client:
        await client.call_tool("trial_chatty", {"lines": 8}, progress_callback=note)

    numbers = [number for number, _, _ in told]
    assert numbers == sorted(set(numbers))
    assert told[0][2] in ("waiting", "running")
    assert any(message == '{"line":7}' for _, _, message in told)


async def test_the_same_key_is_one_call_at_whatever_gateway(running: Swarm) -> None:
    arguments = {"label": "keyed", "seconds": 0.2}
    async with connected(running.url) as one, connected(running.other_url, "legacy") as other:
        results = await asyncio.gather(
            one.call_tool("trial_slow_once", arguments, meta=keyed("k-1")),
            other.call_tool("trial_slow_once", arguments, meta=keyed("k-1")),
        )
        later = await one.call_tool("trial_slow_once", arguments, meta=keyed("k-1"))

    assert {call_id_of(result) for result in (*results, later)} == {call_id_of(later)}
    assert sum(line.startswith("effect keyed ") for line in running.stack.marked()) == 1


async def test_a_malformed_key_is_refused_by_name(running: Swarm) -> None:
    async with connected(running.url) as client:
        result = await client.call_tool("trial_echo", {"text": "x"}, meta=keyed("a b"))

    assert result.is_error
    assert KEY in text_of(result)


@pytest.mark.parametrize(
    ("token", "version"),
    [({}, MODERN), ({"progressToken": "p"}, MODERN), ({}, "2025-11-25")],
    ids=["json", "sse", "legacy"],
)
@pytest.mark.parametrize("operation", ["slow_read", "slow_once"])
async def test_the_call_of_a_client_who_leaves_is_cancelled(
    running: Swarm, operation: str, token: dict[str, str], version: str
) -> None:
    label = f"left-{operation}-{len(token)}-{version}"
    left_id = await leave(running, operation, label, token, version=version)

    assert (await ended(running, left_id)).status is (State.CANCELLED if operation == "slow_read" else State.UNKNOWN)


async def test_what_was_left_is_found_again_and_not_done_twice(running: Swarm) -> None:
    left_id = await leave(running, "slow_once", "again", {})

    async with connected(running.other_url) as client:
        result = await client.call_tool("trial_slow_once", {"label": "again", "seconds": 20.0})

    assert call_id_of(result) == left_id
    assert text_of(result).startswith("outcome_unknown")
    assert "Look before you repeat it" in text_of(result)
    assert sum(line.startswith("effect again ") for line in running.stack.marked()) == 1


async def test_a_call_with_a_key_goes_on_without_its_client(running: Swarm) -> None:
    arguments = {"label": "kept", "seconds": 1.0}
    await leave(running, "slow_once", "kept", {KEY: "k-2"}, seconds=1.0)

    async with connected(running.other_url) as client:
        result = await client.call_tool("trial_slow_once", arguments, meta=keyed("k-2"))

    assert text_of(result) == "kept"
    assert sum(line.startswith("effect kept ") for line in running.stack.marked()) == 1


@BOTH_ERAS
async def test_a_long_answer_is_cut_and_its_whole_can_be_read(running: Swarm, mode: str) -> None:
    async with connected(running.url, mode) as client:
        result = await client.call_tool("trial_echo", {"text": "x" * 50_000})
        link = result.content[1]
        assert isinstance(link, types.ResourceLink)
        whole = await client.read_resource(link.uri)

    assert len(text_of(result)) < 21_000
    content = whole.contents[0]
    assert isinstance(content, types.TextResourceContents)
    assert json.loads(content.text) == "x" * 50_000


async def test_a_value_too_large_for_the_ledger_is_cut_like_others_and_read_in_parts(running: Swarm) -> None:
    size_bytes = 9_000_000
    async with connected(running.url) as client:
        await client.list_tools()
        result = await client.call_tool("trial_reads_at_length", {"size_bytes": size_bytes})
        link = result.content[1]
        assert isinstance(link, types.ResourceLink)
        read, uri = "", str(link.uri)
        while uri:
            found = (await client.read_resource(uri)).contents[0]
            assert isinstance(found, types.TextResourceContents)
            read, uri = read + found.text, (found.meta or {}).get("toolswarm/next", "")

    assert not result.is_error
    assert len(json.dumps(result.structured_content)) < 21_000
    assert len(json.loads(read)) == size_bytes


async def test_a_value_too_large_for_an_answer_says_that_the_call_succeeded(running: Swarm) -> None:
    async with connected(running.url) as client:
        result = await client.call_tool("trial_answers_at_length", {"label": "h", "size_bytes": 17_000_000})

    assert result.is_error
    assert text_of(result).startswith("answer_too_large: the call succeeded")


async def test_a_result_that_is_nobodys_is_not_found(running: Swarm) -> None:
    uri = "toolswarm://calls/01a21465-89e7-7626-a142-95b453b430d4"

    answer = await ask(running.url, "resources/read", {"uri": uri})

    assert answer["error"]["code"] == types.INVALID_PARAMS


async def test_without_a_key_nothing_is_answered(running: Swarm) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{running.url}/mcp", **request("tools/list", {}, key="tsk_wrong"))

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "foreign", [{"host": "evil.example"}, {"origin": "http://evil.example"}, {"host": "127.0.0.1.evil.example:80"}]
)
async def test_a_foreign_page_or_name_is_refused(running: Swarm, foreign: dict[str, str]) -> None:
    asked = request("tools/list", {})
    asked["headers"] |= foreign

    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{running.url}/mcp", **asked)

    assert answer.status_code == 403


async def test_a_body_that_is_too_large_or_too_deep_is_refused(running: Swarm) -> None:
    nested: Any = {}
    for _ in range(150):
        nested = {"a": nested}
    async with httpx.AsyncClient(trust_env=False) as http:
        large = await http.post(
            f"{running.url}/mcp",
            **request("tools/call", {"name": "trial_echo", "arguments": {"text": "x" * 200_000}}),
        )
        deep = await http.post(
            f"{running.url}/mcp", **request("tools/call", {"name": "trial_echo", "arguments": nested})
        )

    assert large.status_code == 413
    assert deep.status_code == 400


async def test_without_sessions_there_is_no_stream_to_get(running: Swarm) -> None:
    headers = request("tools/list", {})["headers"] | {"mcp-protocol-version": "2025-11-25"}

    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{running.url}/mcp", headers=headers)

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


async def test_a_question_is_an_error_for_a_client_of_the_older_era_without_a_session(running: Swarm) -> None:
    async with connected(running.url, "legacy") as client:
        result = await client.call_tool("conformance_test_input_required_result_elicitation", {})

    assert result.is_error
    assert text_of(result).startswith("input_required: more has to be known")


async def test_answers_cannot_be_given_as_an_argument(running: Swarm) -> None:
    arguments: dict[str, Any] = {"answers": {"responses": {"user_name": {}}, "state": "forged"}}

    async with connected(running.url) as client:
        result = await client.call_tool("conformance_test_input_required_result_elicitation", arguments)

    assert result.is_error
    assert "inputResponses" in text_of(result)


async def leave(
    running: Swarm,
    operation: str,
    label: str,
    meta: dict[str, str],
    *,
    seconds: float = 20.0,
    version: str = MODERN,
) -> str:
    """Send a call by hand, close the connection once it runs, and return its id."""
    before = call_ids(running)
    asked = request(
        "tools/call",
        {"name": f"trial_{operation}", "arguments": {"label": label, "seconds": seconds}, "_meta": meta},
    )
    address = urlsplit(running.url)
    content: str = asked["content"]
    headers = asked["headers"] | {"mcp-protocol-version": version}
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join(
        ["POST /mcp HTTP/1.1", f"host: {address.netloc}", f"content-length: {len(content)}", *lines, "", ""]
    )
    with socket.create_connection((address.hostname, address.port or 0), timeout=5) as link:
        link.sendall((head + content).encode())
        until(lambda: any(f" {label} " in line for line in running.stack.marked()), "the call runs")
    (left_id,) = call_ids(running) - before
    return left_id


def call_ids(running: Swarm) -> set[str]:
    with running.stack.valkey.client() as connection:
        client: Any = connection
        return {key.decode().removeprefix("ts:call:") for key in client.keys("ts:call:*")}


async def ended(running: Swarm, call_id: str) -> Any:
    """The result of a call; it has to end within two seconds and a bit."""
    front = await running.stack.front()
    try:

        async def has_ended() -> bool:
            return (await front.result(call_id, Caller(), 0)).status.terminal

        await until_async(has_ended, "the call has ended", within_s=3)
        return await front.result(call_id, Caller(), 0)
    finally:
        await front.close()
