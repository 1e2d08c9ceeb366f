"""The seam between the clients and the way to the swarm: one request, one answer, no waiting longer than asked.

A transport does not repeat a request; `patience.py` decides that, because only the client knows how long its user
waits. Every method raises an error of the tree in `errors.py`, and nothing else, for what can go wrong on the way.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Protocol

from toolswarm.cache_messages import CachePage, CacheRequest
from toolswarm.errors import ToolswarmError
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

Outcome = ToolResult | ToolswarmError
"""What became of one call of a batch: its result so far, or why it was refused."""


class Transport(Protocol):
    """A way to the swarm for code that blocks; may be shared by threads."""

    def submit(self, body: SubmitBody, *, wait_s: float) -> ToolResult:
        """Submit a call; the answer is not terminal when `wait_s` was over first."""
        ...

    def submit_many(self, bodies: Sequence[SubmitBody], *, wait_s: float) -> list[Outcome]:
        """Submit each for itself; the answers are in the same order."""
        ...

    def result(self, call_id: str, *, wait_s: float) -> ToolResult:
        """The result, or after `wait_s` the state so far."""
        ...

    def value(self, call_id: str) -> bytes:
        """The JSON of the call's whole value."""
        ...

    def cancel(self, call_id: str) -> ToolResult:
        """Ask that the call stop."""
        ...

    def events(self, call_id: str) -> Iterator[CallEvent]:
        """The states of the call from now on, ending with the terminal one."""
        ...

    def route(self, body: SubmitBody) -> Route:
        """Where the call would go, and why."""
        ...

    def tools(self, name: str | None) -> list[Operation]:
        """The catalogue, or the part of it that `name` (operation, alias or tool) means."""
        ...

    def status(self) -> SwarmStatus:
        """Workers, backlogs and counts."""
        ...

    def fallbacks(self, name: str | None, chain: Sequence[str] | None) -> FallbackChains:
        """The fallback chains, after the named one was set, or given back to the configuration (no chain)."""
        ...

    def dead(self, action: str, request: DeadRequest) -> DeadPage:
        """List, retry, resolve or drop dead letters."""
        ...

    def cache(self, action: str, request: CacheRequest) -> CachePage:
        """Look at the result cache, invalidate tags, or warm it."""
        ...

    def close(self) -> None:
        """Give connections back; bears being called twice."""
        ...


class AsyncTransport(Protocol):
    """The same for code on an event loop."""

    async def submit(self, body: SubmitBody, *, wait_s: float) -> ToolResult:
        """Submit a call; the answer is not terminal when `wait_s` was over first."""
        ...

    async def submit_many(self, bodies: Sequence[SubmitBody], *, wait_s: float) -> list[Outcome]:
        """Submit each for itself; the answers are in the same order."""
        ...

    async def result(self, call_id: str, *, wait_s: float) -> ToolResult:
        """The result, or after `wait_s` the state so far."""
        ...

    async def value(self, call_id: str) -> bytes:
        """The JSON of the call's whole value."""
        ...

    async def cancel(self, call_id: str) -> ToolResult:
        """Ask that the call stop."""
        ...

    def events(self, call_id: str) -> AsyncIterator[CallEvent]:
        """The states of the call from now on, ending with the terminal one."""
        ...

    async def route(self, body: SubmitBody) -> Route:
        """Where the call would go, and why."""
        ...

    async def tools(self, name: str | None) -> list[Operation]:
        """The catalogue, or the part of it that `name` (operation, alias or tool) means."""
        ...

    async def status(self) -> SwarmStatus:
        """Workers, backlogs and counts."""
        ...

    async def fallbacks(self, name: str | None, chain: Sequence[str] | None) -> FallbackChains:
        """The fallback chains, after the named one was set, or given back to the configuration (no chain)."""
        ...

    async def dead(self, action: str, request: DeadRequest) -> DeadPage:
        """List, retry, resolve or drop dead letters."""
        ...

    async def cache(self, action: str, request: CacheRequest) -> CachePage:
        """Look at the result cache, invalidate tags, or warm it."""
        ...

    async def close(self) -> None:
        """Give connections back; bears being called twice."""
        ...
