"""Invalidations that the cache Redis could not be told of: written down in the broker's Redis until somebody tells it.

Whoever reaches both delivers them, once a second, and before it uses a cache Redis that was away.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from store import keys
from store.background import Background
from store.connection import Argument, Broker, text
from store.heartbeat import redis_time
from toolswarm.errors import BrokerUnavailable

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_KEPT_S = 7 * 86400


class Debt(msgspec.Struct, frozen=True, kw_only=True):
    """What has a tag has changed."""

    digest: str
    call_id: str = ""
    """The call that may have said that it begins."""

    def spelled(self) -> str:
        """As it is written down."""
        return f"{self.digest} {self.call_id}"

    @classmethod
    def read(cls, spelled: str) -> "Debt":
        """As it was written down."""
        digest, _, call_id = spelled.partition(" ")
        return cls(digest=digest, call_id=call_id)


class Owed:
    """What is owed."""

    def __init__(self, broker: Broker, tell: Callable[[Sequence[Debt]], Awaitable[bool]]) -> None:
        """`tell` tells the cache Redis; False: it does not answer."""
        self._broker = broker
        self._tell = tell
        self._here: dict[Debt, float] = {}
        self._loop = Background(self._forever, "cache-owed")

    def start(self) -> None:
        """Deliver in the background; bears being called twice."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop; bears being called twice."""
        await self._loop.stop()

    async def owe(self, debts: Sequence[Debt], *, retry_for_s: float = 0.0) -> None:
        """Write them down; this process also keeps those that could not be written.

        Raises:
            BrokerUnavailable: nobody but this process knows of them.
        """
        noted = dict.fromkeys(debts, time.monotonic())
        self._here |= noted
        now = await redis_time(self._broker)
        pairs: list[Argument] = [part for debt in debts for part in (repr(now), debt.spelled())]
        await self._broker.command("ZADD", keys.CACHE_OWED, *pairs, retry_for_s=retry_for_s)
        await self._broker.command("EXPIRE", keys.CACHE_OWED, _KEPT_S)
        self._strike(noted)

    async def deliver(self) -> bool:
        """Tell the cache Redis of all that is owed; False when it, or the broker, could not be asked."""
        try:
            return await self._deliver()
        except BrokerUnavailable as error:
            logger.debug("what is owed to the cache is not known now: %s", error)
            return False

    async def _deliver(self) -> bool:
        here = dict(self._here)
        if here:
            if not await self._tell(list(here)):
                return False
            self._strike(here)
        owed = await self._broker.command("ZRANGE", keys.CACHE_OWED, 0, -1, "WITHSCORES")
        if not owed:
            return True
        if not await self._tell([Debt.read(text(one)) for one in owed[::2]]):
            return False
        await self._broker.script("cache_paid", [keys.CACHE_OWED], owed)
        return True

    def _strike(self, noted: dict[Debt, float]) -> None:
        for debt, at in noted.items():
            if self._here.get(debt) == at:
                del self._here[debt]

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self.deliver()
