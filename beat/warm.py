"""Warming: what is asked for often is refreshed before it expires, by calls that nobody waits for.

Every tick the leader looks at the popular reads of each tool and submits those that are due through the one way in, as
the one who asked for them, at background priority. Each due time is granted once (`cache/popularity.py`), so a leader
that was frozen and wakes, or a second one, refreshes nothing twice. Nothing is warmed while the tool's queue is late,
while the target's breaker is not closed, or for a while after a refresh was told to wait by a rate budget; background
calls leave the budgets' reserve to others in any case. A call that is refused or fails is forgotten: until it is asked
for anew it warms nothing, and so does a tenant that is gone.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Protocol, TypeVar

from beat.choose import Circumstances, due, paused
from cache.popularity import Popular, Popularity, refresh, time_to_refresh_s
from routing.front import Caller
from store import keys
from store.breakers import BreakerRules, Breakers
from store.configuration import Cache as Settings
from store.connection import Broker
from toolswarm.errors import BrokerUnavailable, InvalidRequest, ToolswarmError, Unavailable
from toolswarm.messages import Effect, Operation, SubmitBody, SwarmStatus, ToolResult
from toolswarm.states import State

logger = logging.getLogger(__name__)
T = TypeVar("T")

_AT_ONCE = 64
"""Refreshes of this process that are on their way at once."""
_COUNTS_KEPT_S = 7 * 86400
_SHARED_TICKS = 2
"""Refreshes that a tick did not use up are left to so many further ones."""
_LATE_S = 0.25
"""How much later than it should a tick may come."""
_PAUSE_S = 10.0
_NOT_NOW = frozenset({"rate_limited", "postponed", "breaker_open", "overloaded", "host_busy"})
"""Codes of failures that say more of the moment than of the call."""


class WayIn(Protocol):
    """What warming uses of a Front."""

    async def operations(self) -> list[Operation]:
        """The catalogue."""
        ...

    async def status(self) -> SwarmStatus:
        """Workers and backlogs."""
        ...

    async def submit(self, body: SubmitBody, caller: Caller) -> ToolResult:
        """Accept a call."""
        ...

    async def result(self, call_id: str, caller: Caller, wait_s: float) -> ToolResult:
        """The result, or after `wait_s` the state so far."""
        ...


class Warmer:
    """Refreshes what is due; `run_once` is one tick."""

    def __init__(
        self,
        way_in: WayIn,
        popularity: Popularity,
        *,
        broker: Broker,
        cache: Broker,
        settings: Settings,
    ) -> None:
        self._way_in = way_in
        self._popularity = popularity
        self._broker = broker
        self._cache = cache
        self._settings = settings
        self._paused_until: dict[str, float] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def run_once(self) -> int:
        """One tick; returns how many refreshes were submitted.

        Raises:
            BrokerUnavailable: the broker does not answer; a cache Redis that does not is waited for.
        """
        operations = await self._way_in.operations()
        status = await self._way_in.status()
        submitted = 0
        for tool in sorted({one.tool for one in operations if one.effect is Effect.READ}):
            try:
                submitted += await self._warm(tool, status)
            except _CacheAway as error:
                logger.debug("nothing is warmed now: %s", error)
                return submitted
        return submitted

    async def settled(self) -> None:
        """Return when no refresh of this process is on its way."""
        while self._running:
            await asyncio.wait(self._running)

    async def stop(self) -> None:
        """Look no more after what is on its way: it goes on by itself. Bears being called twice."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _warm(self, tool: str, status: SwarmStatus) -> int:
        settings = self._settings
        if time.monotonic() < self._paused_until.get(tool, float("-inf")):
            return 0
        # The broker, asked first, is missed loudly; the cache's Redis may be away.
        circumstances = Circumstances(
            waiting=status.backlog.get(keys.tool_queue(tool), 0),
            slots=sum(worker.slots for worker in status.workers if worker.tool == tool),
            left_alone=await Breakers(self._broker, tool, BreakerRules()).left_alone(),
        )
        now, popular = await _unless_away(self._popularity.top(tool, settings.popular_calls))
        wanted = due(popular, circumstances, now=now, next_in_s=settings.warm_every_s + _LATE_S)
        if not wanted:
            return 0
        why = paused(circumstances)
        if why is not None:
            await self._count(tool, why)
            return 0
        wanted = wanted[: max(0, _AT_ONCE - len(self._running))]
        claim = self._popularity.claim(
            tool,
            wanted,
            per_minute=settings.warm_per_minute,
            share_of_s=min(60.0, _SHARED_TICKS * settings.warm_every_s),
        )
        granted = await _unless_away(claim)
        chosen = [one for one in wanted if one.name in granted]
        for one in chosen:
            task = asyncio.create_task(self._refresh(tool, one), name="warm")
            self._running.add(task)
            task.add_done_callback(self._ended)
        return len(chosen)

    async def _refresh(self, tool: str, one: Popular) -> None:
        try:
            came = await self._submitted(tool, one)
        except Unavailable as error:  # nothing of it was the call's fault
            logger.info("%s is not refreshed now: %s", one.call.operation, error.message)
            self._pause(tool, float(error.details.get("retry_after_s") or _PAUSE_S))
            came = "unavailable"
        except ToolswarmError as error:
            logger.info("%s is not warmed any more: %s", one.call.operation, error.code)
            came = "refused"
            await self._forget(tool, one)
        await self._count(tool, came)

    async def _submitted(self, tool: str, one: Popular) -> str:
        """Submit it and see what comes of it, in a word."""
        operations = {operation.full_name: operation for operation in await self._way_in.operations()}
        known = operations.get(one.call.operation)
        if known is None or known.effect is not Effect.READ:
            raise InvalidRequest("it is no read (any more): nobody asked for it to be run")
        life_s = time_to_refresh_s(one)
        caller = Caller(one.call.tenant, one.call.principal)
        result = await self._way_in.submit(refresh(one, deadline=time.time() + life_s), caller)
        if not result.status.terminal:
            result = await self._way_in.result(result.id, caller, life_s + 1)
        if result.status is State.SUCCEEDED:
            return "warmed"
        if not result.status.terminal or result.status in (State.EXPIRED, State.CANCELLED):
            self._pause(tool, _PAUSE_S)
            return str(result.status)
        error = result.error
        if error is not None and error.code in _NOT_NOW:
            self._pause(tool, float(error.details.get("retry_after_s") or _PAUSE_S))
            return error.code
        await self._forget(tool, one)
        return "failed"

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a refresh failed", exc_info=task.exception())

    def _pause(self, tool: str, pause_s: float) -> None:
        until = time.monotonic() + min(pause_s, 10 * _PAUSE_S)
        self._paused_until[tool] = max(until, self._paused_until.get(tool, until))

    async def _forget(self, tool: str, one: Popular) -> None:
        try:
            await self._popularity.forget(tool, [one.name])
        except BrokerUnavailable as error:
            logger.debug("not forgotten, the cache does not answer: %s", error)

    async def _count(self, tool: str, came: str) -> None:
        try:
            await self._cache.script("popularity_came", [keys.warm_counts_key(tool)], [came, _COUNTS_KEPT_S])
        except BrokerUnavailable as error:
            logger.debug("not counted, the cache does not answer: %s", error)


class _CacheAway(Exception):
    """The cache Redis does not answer."""


async def _unless_away(asked: Awaitable[T]) -> T:
    try:
        return await asked
    except BrokerUnavailable as error:
        raise _CacheAway(error.message) from error
