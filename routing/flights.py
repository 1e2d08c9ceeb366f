"""One look for all who ask the same at the same moment in this process, and one run for all of them everywhere.

Whoever asks while a look is on its way waits for the next one, which begins when that one has ended: what a look has
found may be older than a change that was acknowledged to them before they asked. So a burst costs each process a few
round trips, however large it is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from cache import Cache, Found, Key, Lease
from toolswarm.messages import ToolResult
from toolswarm.states import State

_TRIES = 4
_PAUSES_S = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Between a lease and the record of its call, and between a claim and the begin of a read, lies a round trip."""

Join = Callable[[str, str], Awaitable[ToolResult | None]]
"""Call id, tenant -> its state or result; None when there is nothing to join."""


class Leading:
    """This call runs for all who ask the same."""

    def __init__(self, end: Callable[[bool], None]) -> None:
        self._end = end

    def over(self, accepted: bool) -> None:
        """It was accepted, and the others may wait for it; or it was not, and the next one leads."""
        self._end(accepted)


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What a look has found: an answer, that one leads, or a call that runs; nothing of these: run it for oneself."""

    found: Found | None = None
    leading: Leading | None = None
    joined: ToolResult | None = None


class _Look:
    """A look on its way, for all who asked before it began."""

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id
        """Of the first of them, who leads if somebody must."""
        self.begun = False
        self.task: asyncio.Task[Looked] | None = None
        self.following: asyncio.Task[ToolResult | None] | None = None
        self.accepted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()


class Flights:
    """Looks and leads for one process."""

    def __init__(self, cache: Cache, join: Join) -> None:
        self._cache = cache
        self._join = join
        self._looks: dict[tuple[str, int], _Look] = {}
        self._background: set[asyncio.Task[Any]] = set()

    async def stop(self) -> None:
        """Return when nothing is on its way any more."""
        running = list(self._background)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def take(self, key: Key, call_id: str, rank: int) -> Leading | None:
        """Lead, whoever does now."""
        if await self._cache.lease(key, call_id, rank=rank, not_this="*") is None:
            return None
        return Leading(lambda accepted: self._over(key, _Look(call_id), accepted))

    async def look(self, key: Key, call_id: str, *, rank: int, tenant: str) -> Looked:
        """Look, together with all who ask before it begins.

        Raises:
            BrokerUnavailable: a call may run that could be joined, and the ledger does not say.
        """
        for _ in range(_TRIES):
            place = (key.flight, rank)
            look = self._looks.get(place)
            if look is None or look.begun:
                before, look = look, _Look(call_id)
                self._looks[place] = look
                look.task = self._begin(self._look(place, look, key, tenant, before))
            assert look.task is not None
            try:
                looked = await asyncio.shield(look.task)
            except asyncio.CancelledError:
                if look.call_id == call_id:  # the others wait for a call that will not come
                    self._over_when_done(key, look)
                raise
            if looked.leading is None or look.call_id == call_id:
                return looked
            if look.following is None:
                look.following = self._begin(self._follow_own(look, tenant))
            joined = await asyncio.shield(look.following)
            if joined is not None:
                return Looked(joined=joined)
        return Looked()

    async def _look(self, place: tuple[str, int], look: _Look, key: Key, tenant: str, before: _Look | None) -> Looked:
        if before is not None and before.task is not None:
            await asyncio.wait((before.task,))
        await asyncio.sleep(0)  # all who ask in this turn of the loop
        look.begun = True
        try:
            gone = ""
            for pause_s in _PAUSES_S:
                await asyncio.sleep(pause_s)
                found = await self._cache.get(key.name)
                if found is not None and -found.fresh_s <= key.rules.stale_s:
                    return Looked(found=found)
                lease = await self._cache.lease(key, look.call_id, rank=place[1], not_this=gone)
                if lease is None:
                    return Looked()
                if lease.holder == look.call_id:
                    return Looked(leading=Leading(lambda accepted: self._over(key, look, accepted)))
                joined = await self._join(lease.holder, tenant)
                if joined is not None and _may_join(lease, joined):
                    return Looked(joined=joined)
                last = pause_s == _PAUSES_S[-2]
                gone = lease.holder if last or (joined is not None and joined.status.terminal) else ""
            return Looked()
        finally:
            if self._looks.get(place) is look:
                del self._looks[place]

    async def _follow_own(self, look: _Look, tenant: str) -> ToolResult | None:
        """The call of who leads this look: its read began after all of them had asked, so any answer of it will do."""
        if not await look.accepted:
            return None
        joined = await self._join(look.call_id, tenant)
        return joined if joined is not None and (not joined.status.terminal or _succeeded(joined)) else None

    def _over(self, key: Key, look: _Look, accepted: bool) -> None:
        if look.accepted.done():
            return
        look.accepted.set_result(accepted)
        if not accepted:
            self._begin(self._cache.let_go(key, look.call_id))

    def _over_when_done(self, key: Key, look: _Look) -> None:
        assert look.task is not None
        look.task.add_done_callback(lambda _: self._over(key, look, accepted=False))

    def _begin(self, coroutine: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine, name="flight")
        self._background.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()  # those who wait are told; when nobody does any more, nobody needs to be


def _may_join(lease: Lease, joined: ToolResult) -> bool:
    """Whether the call's answer will be as good as one's own.

    One that has ended is not joined: its answer is remembered by now, or must not be used. One that runs, and did not
    say what its read depends on, may have begun before a change that the caller knows of.
    """
    if joined.status.terminal:
        return False
    return lease.begun or joined.status is State.ACCEPTED


def _succeeded(joined: ToolResult) -> bool:
    return joined.status is State.SUCCEEDED
