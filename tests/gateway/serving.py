"""The gateway on a real socket, over a fake front."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import httpx

from gateway.app import make_app
from gateway.drain import Drain
from gateway.server import Server, listen
from store.configuration import Gateway
from store.sections import Secret
from tests.gateway.fake_front import FakeFront

KEY = "tk_canary_7f3a"
SETTINGS = Gateway(
    api_key=Secret(KEY), max_body_bytes=20_000, max_wait_s=5.0, max_batch=5, broker_timeout_s=0.2, port=0
)


class Served(NamedTuple):
    """A running gateway."""

    front: FakeFront
    server: Server
    http: httpx.AsyncClient
    """With the right key."""
    port: int


@asynccontextmanager
async def serving(front: FakeFront) -> AsyncGenerator[Served]:
    """Run the gateway for the time of the block."""
    drain = Drain()
    listener = listen("127.0.0.1", 0)
    port: int = listener.getsockname()[1]
    server = Server(make_app(front, SETTINGS, drain), drain)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    headers = {"authorization": f"Bearer {KEY}"}
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=10, trust_env=False) as http:
        await until(lambda: server.started)
        yield Served(front, server, http, port)
    server.should_exit = True
    await running


async def until(holds: Callable[[], object], within_s: float = 5.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.002)
