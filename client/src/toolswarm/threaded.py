"""A blocking transport for code on an event loop: each question takes a thread while it waits."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from toolswarm.cache_messages import CachePage, CacheRequest
from toolswarm.messages import (
    CallEvent,
    DeadPage,
    DeadRequest,
    FallbackChains,
    Operation,
    Route,
    SubmitBody,
    SwarmStatus,
    ToolResult,
)
from toolswarm.transport import Outcome, Transport

THREADS = 64
"""Questions that wait at once; more of them queue up."""

Answer = TypeVar("Answer")


class ThreadedTransport:
    """Asks a blocking transport from threads of its own."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="toolswarm-ask")

    async def submit(self, body: SubmitBody, *, wait_s: float) -> ToolResult:
        """Submit a call; the answer is not terminal when `wait_s` was over first."""
        return await self._ask(lambda: self._transport.submit(body, wait_s=wait_s))

    async def submit_many(self, bodies: Sequence[SubmitBody], *, wait_s: float) -> list[Outcome]:
        """Submit each for itself; the answers are in the same order."""
        return await self._ask(lambda: self._transport.submit_many(bodies, wait_s=wait_s))

    async def result(self, call_id: str, *, wait_s: float) -> ToolResult:
        """The result, or after `wait_s` the state so far."""
        return await self._ask(lambda: self._transport.result(call_id, wait_s=wait_s))

    async def value(self, call_id: str) -> bytes:
        """The JSON of the call's whole value."""
        return await self._ask(lambda: self._transport.value(call_id))

    async def cancel(self, call_id: str) -> ToolResult:
        """Ask that the call stop."""
        return await self._ask(lambda: self._transport.cancel(call_id))

    async def route(self, body: SubmitBody) -> Route:
        """Where the call would go, and why."""
        return await self._ask(lambda: self._transport.route(body))

    async def tools(self, name: str | None) -> list[Operation]:
        """The catalogue, or the part of it that `name` (operation, alias or tool) means."""
        return await self._ask(lambda: self._transport.tools(name))

    async def status(self) -> SwarmStatus:
        """Workers, backlogs and counts."""
        return await self._ask(self._transport.status)

    async def fallbacks(self, name: str | None, chain: Sequence[str] | None) -> FallbackChains:
        """The fallback chains, after the named one was set, or given back to the configuration (no chain)."""
        return await self._ask(lambda: self._transport.fallbacks(name, chain))

    async def dead(self, action: str, request: DeadRequest) -> DeadPage:
        """List, retry, resolve or drop dead letters."""
        return await self._ask(lambda: self._transport.dead(action, request))

    async def cache(self, action: str, request: CacheRequest) -> CachePage:
        """Look at the result cache, invalidate tags, or warm it."""
        return await self._ask(lambda: self._transport.cache(action, request))

    async def events(self, call_id: str) -> AsyncIterator[CallEvent]:
        """The states of the call from now on, ending with the terminal one."""
        events = self._transport.events(call_id)
        while (event := await self._ask(lambda: next(events, None))) is not None:
            yield event

    async def close(self) -> None:
        """Give connections and threads back; bears being called twice."""
        await asyncio.to_thread(self._transport.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, ask: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)
