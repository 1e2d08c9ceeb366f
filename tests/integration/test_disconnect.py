"""A caller who closes the connection while he waits, on a real gateway with real workers."""

import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from routing.front import Caller, Front
from tests.servers.gateway import start_gateway
from tests.servers.stack import API_KEY, Stack
from tests.servers.waiting import until, until_async
from toolswarm.states import State

ME = Caller()


@pytest.mark.parametrize("path", ["/v1/calls", "/tools/trial/{operation}"])
@pytest.mark.parametrize("operation", ["slow_read", "slow_once"])
async def test_the_call_of_a_caller_who_leaves_ends_within_two_seconds(
    stack: Stack, front: Front, operation: str, path: str
) -> None:
    stack.start_worker("trial", "w1")
    address = urlsplit(start_gateway(stack))
    arguments: dict[str, Any] = {"label": "a", "seconds": 20.0}
    body = {"operation": f"trial.{operation}", "arguments": arguments} if path == "/v1/calls" else arguments
    content = json.dumps(body)
    request = (
        f"POST {path.format(operation=operation)} HTTP/1.1\r\nHost: x\r\nPrefer: wait=30, cancel-on-disconnect\r\n"
        f"Authorization: Bearer {API_KEY}\r\nContent-Length: {len(content)}\r\n\r\n{content}"
    )
    with socket.create_connection((address.hostname, address.port or 0), timeout=5) as link:
        link.sendall(request.encode())
        until(stack.marked, "the call runs")
    left_at = time.monotonic()
    with stack.valkey.client() as connected:
        client: Any = connected
        (key,) = client.keys("ts:call:*")
    call_id: str = key.decode().removeprefix("ts:call:")

    async def has_ended() -> bool:
        return (await front.result(call_id, ME, 0)).status.terminal

    await until_async(has_ended, "the call has ended", within_s=5)
    took_s = time.monotonic() - left_at

    expected = State.CANCELLED if operation == "slow_read" else State.UNKNOWN
    assert (await front.result(call_id, ME, 0)).status is expected
    assert took_s < 2
