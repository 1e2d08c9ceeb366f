"""What is asked for often: counted where remembered reads are answered, kept in the cache Redis, read by who warms.

A call's place is its exponentially decayed rate times what a run of it takes: what its being remembered saves. Each
tool has a bounded number of places. Fronts count in memory and write once a second, so counting costs a request next to
nothing; what the cache Redis does not take is lost, and nothing else. Calls are kept sealed under their own name.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from store import keys
from store.background import Background
from store.configuration import Cache
from store.connection import Argument, Broker, text
from store.heartbeat import redis_time
from toolswarm.errors import BrokerUnavailable
from toolswarm.messages import CacheMode, Context, Priority, SubmitBody

logger = logging.getLogger(__name__)

FLUSH_EVERY_S = 1.0
MOST_PENDING = 2000
"""Different calls that are counted between two flushes; further ones are not counted."""
MAX_CALL_BYTES = 8192
"""A call with larger arguments is counted by nobody and never warmed."""
_SHORTEST_NOTE_S = 60.0
_BATCH = 200
_SHORTEST_REFRESH_S = 5.0
_STATE = msgspec.msgpack.Decoder(tuple[float, float, float, float, float, float, float])
"""As popularity_note.lua says."""
_LONGEST_REFRESH_S = 60.0


class Seal(Protocol):
    """Protects what is written to the cache Redis; what was moved or changed there does not open."""

    def seal(self, name: str, plain: bytes) -> bytes:
        """The text for this name, protected."""
        ...

    def open(self, name: str, sealed: bytes) -> bytes | None:
        """The text again; None when it was not sealed under this name."""
        ...


class PopularCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is needed to run a call again, as the one who asked."""

    operation: str
    """In full: `github.get_repo`."""
    tenant: str
    principal: str
    arguments: dict[str, object] = msgspec.field(default_factory=dict[str, object])
    context: Context = Context()
    place: str | None = None
    """Where it is run: a host name, `api.github.com`."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a read that may be remembered."""

    name: str
    """The name of its cache entry."""
    ttl_s: float
    """How long an answer is fresh."""
    fresh_s: float | None = None
    """How long the one that was found is still fresh; None when none was found."""
    cost_s: float | None = None
    """How long the run took that made it."""


class Popular(msgspec.Struct, frozen=True, kw_only=True):
    """One popular call; times are Redis' clock."""

    name: str
    call: PopularCall
    rate_per_s: float
    """Over its mean life, or while it has been known, but no shorter than an answer is fresh: two requests within that
    time are enough to expect another one."""
    cost_s: float
    ttl_s: float
    fresh_until: float
    """0 when no answer was seen yet."""
    asked_at: float
    claimed_at: float
    """When it was last refreshed for nobody's asking; 0: never."""


class _Pending:
    __slots__ = ("asked", "call", "count", "fresh_until")

    def __init__(self, call: Callable[[], PopularCall]) -> None:
        self.call = call
        self.count = 0
        self.fresh_until: float | None = None
        self.asked: Asked | None = None


class Counter:
    """Counts in this process, and writes once a second."""

    def __init__(self, popularity: "Popularity", *, clock: Callable[[], float] = time.monotonic) -> None:
        self._popularity = popularity
        self._clock = clock
        self._pending: dict[tuple[str, str], _Pending] = {}
        self._loop = Background(self._forever, "popularity")
        self._noted_at = float("-inf")

    def start(self) -> None:
        """Write in the background; bears being called twice."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop, and write what is left; bears being called twice."""
        if await self._loop.stop():
            await self.run_once()

    def count(self, tool: str, asked: Asked, call: Callable[[], PopularCall]) -> None:
        """One request of a remembered read; `call` is asked for only while its place has none."""
        pending = self._pending.get((tool, asked.name))
        if pending is None:
            if len(self._pending) >= MOST_PENDING:
                return
            pending = self._pending[tool, asked.name] = _Pending(call)
        pending.count += 1
        if asked.fresh_s is not None:
            pending.asked, pending.call = asked, call
            pending.fresh_until = self._clock() + asked.fresh_s
        elif pending.asked is None:
            pending.asked = asked

    async def run_once(self) -> None:
        """Write what was counted since the last time; what cannot be written is lost."""
        pending, self._pending = self._pending, {}
        by_tool: dict[str, list[_Pending]] = {}
        for (tool, _), one in pending.items():
            by_tool.setdefault(tool, []).append(one)
        try:
            for tool, ones in by_tool.items():
                for at in range(0, len(ones), _BATCH):
                    await self._popularity.write(tool, [self._counted(one) for one in ones[at : at + _BATCH]])
        except BrokerUnavailable as error:
            now = self._clock()
            if now - self._noted_at > _SHORTEST_NOTE_S:
                self._noted_at = now
                logger.warning("what is popular is not counted now: %s", error)

    def _counted(self, one: _Pending) -> "Counted":
        assert one.asked is not None
        fresh_s = None if one.fresh_until is None else one.fresh_until - self._clock()
        return Counted(asked=msgspec.structs.replace(one.asked, fresh_s=fresh_s), count=one.count, call=one.call)

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.run_once()


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of one call since the last flush."""

    asked: Asked
    count: int
    call: Callable[[], PopularCall]


class Popularity:
    """The places of all tools, in the cache Redis."""

    def __init__(self, cache: Broker, seal: Seal, *, half_life_s: float, most: int) -> None:
        self._cache = cache
        self._seal = seal
        self._half_life_s = half_life_s
        self._most = most

    @classmethod
    def open(cls, settings: Cache, connection: Broker, seal: Seal) -> "Popularity":
        """The places as they are configured."""
        return cls(connection, seal, half_life_s=settings.popular_half_life_s, most=settings.popular_calls)

    async def write(self, tool: str, counted: Sequence[Counted]) -> None:
        """Add requests; asks for the calls of new places only, and of those that an answer was found for.

        Raises:
            BrokerUnavailable: the cache Redis does not answer.
        """
        arguments: list[Argument] = [self._half_life_s, self._most]
        for one in counted:
            asked = one.asked
            arguments += [asked.name, one.count, asked.ttl_s, _number(asked.fresh_s), _number(asked.cost_s)]
        unknown = await self._cache.script("popularity_note", self._keys(tool), arguments)
        if not unknown:
            return
        wanted = {text(name) for name in unknown}
        told: list[Argument] = [math.ceil(20 * self._half_life_s)]
        too_large: list[str] = []
        for one in counted:
            asked, name = one.asked, one.asked.name
            if name not in wanted or asked.fresh_s is None:
                continue  # nothing is known of what is asked for once, but that it was
            plain = msgspec.json.encode(one.call())
            if len(plain) > MAX_CALL_BYTES:
                too_large.append(name)
            else:
                told += [name, self._seal.seal(self._name(tool, name), plain)]
        _, states, calls = self._keys(tool)
        if len(told) > 1:
            await self._cache.script("popularity_tell", [states, calls], told)
        if too_large:
            await self.forget(tool, too_large)

    async def top(self, tool: str, limit: int) -> tuple[float, list[Popular]]:
        """Redis' time, and the calls that save the most, most first.

        Raises:
            BrokerUnavailable: the cache Redis does not answer.
        """
        scores, states, calls = self._keys(tool)
        now = await redis_time(self._cache)
        names = [text(name) for name in await self._cache.command("ZREVRANGE", scores, 0, limit - 1)]
        if not names:
            return now, []
        found_states = await self._cache.command("HMGET", states, *names)
        found_calls = await self._cache.command("HMGET", calls, *names)
        found = [
            self._popular(tool, name, state, call, now)
            for name, state, call in zip(names, found_states, found_calls, strict=True)
        ]
        return now, [one for one in found if one is not None]

    async def claim(
        self, tool: str, wanted: Sequence[Popular], *, per_minute: int, share_of_s: float = 60.0
    ) -> set[str]:
        """Which of them this process may refresh now: each due time is granted once, whoever asks.

        No more than `per_minute` in any minute, and no more than their share in any `share_of_s`.

        Raises:
            BrokerUnavailable: the cache Redis does not answer.
        """
        if not wanted:
            return set()
        arguments: list[Argument] = [per_minute, share_of_s]
        for one in wanted:
            arguments += [one.name, repr(one.fresh_until)]
        _, states, _ = self._keys(tool)
        granted = await self._cache.script("popularity_claim", [states, keys.warm_claims_key(tool)], arguments)
        return {text(name) for name in granted}

    async def forget(self, tool: str, names: Sequence[str]) -> None:
        """Take calls off; who is asked for again is counted from the beginning.

        Raises:
            BrokerUnavailable: the cache Redis does not answer.
        """
        if names:
            await self._cache.script("popularity_forget", self._keys(tool), list(names))

    def _keys(self, tool: str) -> list[str]:
        return [keys.popular_key(what, tool, self._half_life_s) for what in ("scores", "states", "calls")]

    def _name(self, tool: str, name: str) -> str:
        return f"popular:{tool}:{name}"

    def _popular(self, tool: str, name: str, state: bytes | None, sealed: bytes | None, now: float) -> Popular | None:
        plain = None if sealed is None else self._seal.open(self._name(tool, name), sealed)
        if plain is None or state is None:
            return None
        try:
            level, cost_s, ttl_s, fresh_until, asked_at, claimed_at, since = _STATE.decode(state)
            call = msgspec.json.decode(plain, type=PopularCall)
        except msgspec.MsgspecError:
            return None  # another version of ours
        decay = math.log(2) / self._half_life_s
        count = math.exp(min(700.0, level - decay * now))
        return Popular(
            name=name,
            call=call,
            rate_per_s=count * decay / -math.expm1(-decay * max(now - since, ttl_s)),
            cost_s=cost_s,
            ttl_s=ttl_s,
            fresh_until=fresh_until,
            asked_at=asked_at,
            claimed_at=claimed_at,
        )


def time_to_refresh_s(one: Popular) -> float:
    """How long a refresh of it may take before it is given up."""
    return min(_LONGEST_REFRESH_S, max(_SHORTEST_REFRESH_S, 5 * one.cost_s))


def refresh(one: Popular, *, deadline: float) -> SubmitBody:
    """The call that runs a popular read again."""
    return SubmitBody(
        operation=one.call.operation,
        arguments=one.call.arguments,
        context=one.call.context,
        priority=Priority.BACKGROUND,
        deadline=deadline,
        cache=CacheMode.REFRESH,
    )


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)
