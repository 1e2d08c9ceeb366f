"""Before a call is accepted: is its answer remembered, or does the same call run already?

A hit touches neither the ledger nor Celery: it ends at once under a fresh id, of which there is no record. Whoever asks
for what runs already gets the id of the call that runs, as with an idempotency key; from then on nobody's cancelling
stops it. Calls with a deadline of their own look, but neither join nor lead: they end when they say.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from cache import Cache, Found, Key
from cache.popularity import Asked, Counter, PopularCall
from routing.flights import Flights, Join, Leading
from store import keys
from toolswarm.errors import ToolswarmError
from toolswarm.ids import new_call_id
from toolswarm.messages import CacheMode, Operation, Priority, ResultMeta, ToolCall, ToolResult
from toolswarm.states import State

logger = logging.getLogger(__name__)

_BACKGROUND_RANK = keys.PRIORITY_STEPS[Priority.BACKGROUND]

Run = Callable[[ToolCall, Operation], Awaitable[object]]
"""Accepts a call."""


class Remembered:
    """One process's way to answers that need no run of their own."""

    def __init__(self, cache: Cache, *, counter: Counter, join: Join, run: Run) -> None:
        self.cache = cache
        self._counter = counter
        self._run = run
        self._flights = Flights(cache, join)
        self._refreshing: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Connect; bears being called twice."""
        await self.cache.start()
        self._counter.start()

    async def stop(self) -> None:
        """Stop what runs in the background, and disconnect; bears being called twice."""
        running = list(self._refreshing.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._flights.stop()
        await self._counter.stop()
        await self.cache.stop()

    async def answer(self, operation: Operation, call: ToolCall) -> ToolResult | Leading | None:
        """A result, or the state of the same call that runs already; else the call is to be run, perhaps for all.

        Raises:
            BrokerUnavailable: the same call may run, and the ledger does not say.
        """
        key = self.cache.key(operation, call)
        if key is None or call.cache is CacheMode.SKIP:
            return None
        rank = keys.PRIORITY_STEPS[call.priority]
        if call.cache is CacheMode.REFRESH:
            return await self._flights.take(key, call.id, rank)
        found = self.cache.peek(key.name)
        if found is not None:
            return self._hit(operation, call, key, found)
        if not self.cache.available:
            return None
        if call.deadline is not None:
            found = _usable(await self.cache.get(key.name), key)
            if found is not None:
                return self._hit(operation, call, key, found)
            self._missed(operation, call, key)
            return None
        return await self._look(operation, call, key, rank)

    async def _look(self, operation: Operation, call: ToolCall, key: Key, rank: int) -> ToolResult | Leading | None:
        looked = await self._flights.look(key, call.id, rank=rank, tenant=call.tenant)
        if looked.found is not None:
            return self._hit(operation, call, key, looked.found)
        if looked.joined is None:
            self._missed(operation, call, key)
            return looked.leading
        self._count(operation, call, key)
        self.cache.counts["coalesced"] += 1
        joined = looked.joined
        meta = msgspec.structs.replace(
            joined.meta, tool=operation.tool, operation=operation.full_name, cache="coalesced"
        )
        return msgspec.structs.replace(joined, meta=meta)

    # -- what is told ----------------------------------------------------------------------------------------

    def _hit(self, operation: Operation, call: ToolCall, key: Key, found: Found) -> ToolResult:
        self._count(operation, call, key, found)
        stale = found.stale
        self.cache.counts["stale" if stale else "hit"] += 1
        if stale:
            self._refresh(operation, call, key)
        answer = found.answer
        return ToolResult(
            id=call.id,
            status=State.SUCCEEDED if answer.error is None else State.FAILED,
            value=None if answer.value is None else msgspec.json.decode(answer.value),
            error=answer.error,
            meta=ResultMeta(
                tool=operation.tool,
                operation=operation.full_name,
                cache="stale" if stale else "hit",
                age_s=round(found.age_s, 3),
                executed_on=answer.place,
            ),
        )

    def _missed(self, operation: Operation, call: ToolCall, key: Key) -> None:
        self._count(operation, call, key)
        self.cache.counts["miss"] += 1

    def _count(self, operation: Operation, call: ToolCall, key: Key, found: Found | None = None) -> None:
        asked = Asked(
            name=key.name,
            ttl_s=key.rules.ttl_s if found is None else found.ttl_s,
            fresh_s=None if found is None else max(0.0, found.fresh_s),
            cost_s=None if found is None else found.answer.cost_s,
        )

        def popular() -> PopularCall:
            return PopularCall(
                operation=operation.full_name,
                tenant=call.tenant,
                principal=call.principal,
                arguments=call.arguments,
                context=call.context,
                place=None if found is None else found.answer.place,
            )

        self._counter.count(operation.tool, asked, popular)

    # -- stale while it is refreshed -------------------------------------------------------------------------

    def _refresh(self, operation: Operation, call: ToolCall, key: Key) -> None:
        if key.flight not in self._refreshing:
            again = msgspec.structs.replace(
                call,
                id=new_call_id(),
                cache=CacheMode.REFRESH,
                priority=Priority.BACKGROUND,
                deadline=None,
                idempotency_key=None,
            )
            task = asyncio.create_task(self._refreshed(operation, again, key), name="refresh")
            self._refreshing[key.flight] = task
            task.add_done_callback(lambda _: self._refreshing.pop(key.flight, None))

    async def _refreshed(self, operation: Operation, again: ToolCall, key: Key) -> None:
        """Run it once more, unless somebody does already."""
        lease = await self.cache.lease(key, again.id, rank=_BACKGROUND_RANK)
        if lease is None or lease.holder != again.id:
            return
        try:
            await self._run(again, operation)
        except ToolswarmError as error:
            logger.info("%s is not refreshed now: %s", operation.full_name, error.message)
            await self.cache.let_go(key, again.id)


def _usable(found: Found | None, key: Key) -> Found | None:
    """What may be given: fresh, or stale for no longer than the operation allows while it is refreshed."""
    return found if found is not None and -found.fresh_s <= key.rules.stale_s else None
