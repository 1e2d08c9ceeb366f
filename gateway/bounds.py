"""The front with a bound on all that a request waits for: no request hangs on a silent broker, or outlives a drain."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gateway.drain import Drain
from routing.front import Caller, Front
from store.configuration import Gateway
from toolswarm.cache_messages import CachePage, CacheRequest
from toolswarm.errors import BrokerUnavailable, ToolswarmError, Unavailable
from toolswarm.messages import CallEvent, DeadPage, DeadRequest, Operation, Route, SubmitBody, SwarmStatus, ToolResult

BATCH_TIMEOUT_PER_CALL_S = 0.01
"""What each call of a batch adds to the broker's time: far above the cost of one, and 1,000 still end in 12 s."""


class BoundedFront:
    """What the requests use of a Front; raises BrokerUnavailable when the broker takes longer than it may."""

    def __init__(self, front: Front, settings: Gateway, drain: Drain) -> None:
        self._front = front
        self._broker_timeout_s = settings.broker_timeout_s
        self._drain = drain

    async def ready(self) -> None:
        """Return when calls can be accepted.

        Raises:
            Unavailable: the gateway drains, or the broker does not answer.
        """
        if self._drain.begun:
            raise Unavailable("the gateway is draining: ask another one, or this address again", retry_after_s=1)
        async with self._answered():
            await self._front.ready()

    async def submit(self, body: SubmitBody, caller: Caller) -> ToolResult:
        """Accept one call."""
        async with self._answered(_PERHAPS_ACCEPTED):
            return await self._front.submit(body, caller)

    async def submit_many(self, bodies: Sequence[SubmitBody], caller: Caller) -> list[ToolResult | ToolswarmError]:
        """Accept each call for itself."""
        async with self._answered(_PERHAPS_ACCEPTED, len(bodies) * BATCH_TIMEOUT_PER_CALL_S):
            return await self._front.submit_many(bodies, caller)

    async def state(self, call_id: str, caller: Caller, wait_s: float) -> ToolResult:
        """The result, or the state so far when `wait_s` is over or the gateway begins to drain.

        Raises:
            CallNotFound: no such call of this caller's, or not a call id at all.
        """
        if wait_s > 0:
            try:
                async with self._drain.bounded(wait_s + self._broker_timeout_s):
                    return await self._front.result(call_id, caller, wait_s)
            except TimeoutError:
                pass  # drained, or nothing was heard: what is known now is the answer
        async with self._answered():
            return await self._front.result(call_id, caller, 0)

    async def settled(self, known: ToolResult, caller: Caller, wait_s: float) -> ToolResult:
        """The result of an accepted call, or its state after `wait_s`.

        From here on the call lives whatever happens to the broker, so a broker that falls silent is no error: the
        caller gets what is known, and with it the id to ask for again.
        """
        if known.status.terminal or wait_s <= 0:
            return known
        try:
            return await self.state(known.id, caller, wait_s)
        except Unavailable:
            return known

    async def cancel(self, call_id: str, caller: Caller) -> ToolResult:
        """Ask that the call stop."""
        async with self._answered():
            return await self._front.cancel(call_id, caller)

    def value(self, call_id: str, caller: Caller) -> AsyncIterator[bytes]:
        """The call's whole value in pieces, each of which is waited for no longer than the broker may take."""
        return self._front.value(call_id, caller)

    def events(self, call_id: str, caller: Caller) -> AsyncIterator[CallEvent]:
        """The states of the call; unbounded, the stream that relays them has its own end."""
        return self._front.events(call_id, caller)

    async def route(self, body: SubmitBody, caller: Caller) -> Route:
        """Where the call would go."""
        async with self._answered():
            return await self._front.route(body, caller)

    async def operations(self) -> list[Operation]:
        """The catalogue."""
        async with self._answered():
            return await self._front.operations()

    async def fallbacks(self) -> dict[str, tuple[str, ...]]:
        """The fallback chains."""
        async with self._answered():
            return await self._front.fallbacks()

    async def set_fallbacks(self, name: str, chain: Sequence[str] | None, caller: Caller) -> dict[str, tuple[str, ...]]:
        """Set a fallback chain, or give it back to the configuration."""
        async with self._answered():
            return await self._front.set_fallbacks(name, chain, caller)

    async def dead(self, action: str, request: DeadRequest, caller: Caller) -> DeadPage:
        """Look at dead letters, or do something with them; many take longer than one."""
        async with self._answered(more_s=request.limit * BATCH_TIMEOUT_PER_CALL_S):
            return await self._front.dead(action, request, caller)

    async def cache(self, action: str, request: CacheRequest, caller: Caller) -> CachePage:
        """Look at the result cache, invalidate tags, or warm it; many refreshes take longer than one."""
        async with self._answered(more_s=request.limit * BATCH_TIMEOUT_PER_CALL_S):
            return await self._front.cache(action, request, caller)

    async def status(self) -> SwarmStatus:
        """Workers, backlogs and counts."""
        async with self._answered():
            return await self._front.status()

    @asynccontextmanager
    async def _answered(self, advice: str = "", more_s: float = 0.0) -> AsyncGenerator[None]:
        timeout_s = self._broker_timeout_s + more_s
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except TimeoutError as error:
            message = f"the broker did not answer within {timeout_s:g} s{advice}"
            raise BrokerUnavailable(message, retry_after_s=1) from error


_PERHAPS_ACCEPTED = "; the call may have been accepted: send it again with the same Idempotency-Key"
