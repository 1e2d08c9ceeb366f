"""The cache of one process: level 1 over level 2, and going on without them. See the package's docstring."""

import logging
import time
from collections import Counter
from collections.abc import Sequence

import msgspec
from redis.exceptions import RedisError, ResponseError

from cache import entry
from cache.entry import Answer, Kept
from cache.hearing import Hearing
from cache.level1 import Level1
from cache.level2 import RETRY_FOR_S, Level2, Looked
from cache.link import Link
from cache.owed import Debt, Owed
from cache.rules import Key, RuleBook, Rules
from cache.seal import Sealer, open_seal, tag_digest
from store.configuration import Cache as Settings
from store.configuration import Configuration
from store.connection import Broker
from toolswarm.errors import BrokerUnavailable
from toolswarm.messages import Operation, ToolCall

logger = logging.getLogger(__name__)

_AWAY = (BrokerUnavailable, RedisError)
_SETTLED_WITHIN_S = 1.0
_AT_ONCE = 500
"""Tags in one script."""
_FORGET_CHANGE_S = 60.0
"""How long after the longest that a change may take it is forgotten that it never ended."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A remembered answer; its instants are on this process' monotonic clock."""

    answer: Answer
    read_at: float
    fresh_until: float
    ttl_s: float
    tags: tuple[str, ...] = ()
    level: int = 2

    @property
    def age_s(self) -> float:
        """How long ago it was read."""
        return max(0.0, time.monotonic() - self.read_at)

    @property
    def fresh_s(self) -> float:
        """How long it is still fresh; negative: since when it is not."""
        return self.fresh_until - time.monotonic()

    @property
    def stale(self) -> bool:
        """Whether it is not fresh any more."""
        return self.fresh_s <= 0


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Which call runs for all who ask the same."""

    holder: str
    """Its id."""
    begun: bool = False
    """It has said what its read depends on, and nothing of that has changed since. When it has not, only one that
    still waits may be joined: its read may have begun long ago, told by nobody."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A read that has begun: what its answer depends on, as it was then."""

    key: Key
    call_id: str
    began_at: float
    """On Redis' clock."""
    started_at: float
    """On this process' monotonic clock."""
    generations: dict[str, bytes]
    home: str
    """The run of the server that has told this."""
    previous: Kept | None = None

    @property
    def disturbed(self) -> bool:
        """Whether something that it depends on was being changed: then its answer is not kept."""
        return any(b" " in generation for generation in self.generations.values())


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A write that has begun."""

    digests: tuple[str, ...]
    call_id: str
    """Empty when the cache Redis cannot have heard of its begin."""


class Cache:
    """Remembered answers of reads."""

    def __init__(self, settings: Settings, *, url: str, sealer: Sealer, broker: Broker, remembers: bool) -> None:
        self.seal = sealer
        self.server = Broker(url, timeout_s=settings.timeout_s, script_retry_for_s=RETRY_FOR_S)
        self.counts: Counter[str] = Counter()
        self.level1: Level1[Found] = Level1(settings.local_bytes if remembers else 0)
        self._settings = settings
        self._book = RuleBook(settings, sealer)
        self._level2 = Level2(self.server, sealer)
        self._hearing = Hearing(self.level1)
        self._owed = Owed(broker, self._tell)
        self._link = Link(
            url,
            timeout_s=settings.timeout_s,
            tracks=remembers and settings.local_bytes > 0,
            on_change=self._hearing.changed,
            on_lost=self._hearing.lost,
            before_use=self._before_use,
        )

    @classmethod
    def open(cls, configuration: Configuration, *, broker: Broker, remembers: bool = True) -> "Cache":
        """Make it; `remembers` says that this process keeps answers in its own memory, too.

        Raises:
            ConfigurationError: the secret is unfit, or the URL is wrong.
        """
        settings = configuration.cache
        url = configuration.store.cache_url
        return cls(settings, url=url, sealer=open_seal(settings), broker=broker, remembers=remembers)

    async def start(self) -> None:
        """Connect; bears being called twice."""
        if self._settings.enabled:
            await self._link.start(settled_within_s=_SETTLED_WITHIN_S)
            self._owed.start()

    async def stop(self) -> None:
        """Disconnect; bears being called twice."""
        await self._owed.stop()
        await self._link.stop()
        await self.server.close()

    @property
    def available(self) -> bool:
        """Whether the cache Redis answers; while it does not, everything is run."""
        return self._link.available

    def rules(self, operation: Operation) -> Rules | None:
        """How an operation's answers are remembered; None when they are not."""
        return self._book.rules(operation)

    def key(self, operation: Operation, call: ToolCall) -> Key | None:
        """What stands for a call; None when its answer is not remembered."""
        return self._book.key(operation, call)

    def name(self, operation: Operation, call: ToolCall) -> str:
        """The name of a call's entry; empty when its answer is not remembered."""
        key = self.key(operation, call)
        return "" if key is None else key.name

    # -- who asks --------------------------------------------------------------------------------------------

    def peek(self, name: str) -> Found | None:
        """What this process remembers itself, fresh."""
        now = time.monotonic()
        found = self.level1.get(name, now)
        return found if found is not None and self._hearing.current(now) else None

    async def get(self, name: str) -> Found | None:
        """What is remembered: fresh, or stale and still kept; None also while the cache Redis is away."""
        found = self.peek(name)
        if found is not None or not self._link.available:
            return found
        asked = self._hearing.mark()
        try:
            looked = await self._level2.get(name)
        except _AWAY as error:
            self._failed(error)
            return None
        if looked is None:
            return None
        found = _found(looked)
        if not found.stale and self._link.available and self._hearing.unheard(asked, name, found.tags):
            self._remember(name, found)
        return found

    async def lease(self, key: Key, call_id: str, *, rank: int, not_this: str = "") -> Lease | None:
        """Which call runs for all who ask the same: this one, or one that runs already.

        `rank`: how urgent it is, 0 most; a less urgent call is not joined. `not_this`: a call that turned out to be
        gone, or `*`: join none. None: the cache Redis is away.
        """
        if not self._link.available:
            return None
        try:
            holder, begun = await self._level2.lease(
                key, call_id, rank=rank, lease_s=self._settings.lease_s, not_this=not_this
            )
        except _AWAY as error:
            self._failed(error)
            return None
        return Lease(holder=holder, begun=begun)

    async def let_go(self, key: Key, call_id: str) -> None:
        """The call that ran for all has no answer to keep: the next one who asks runs."""
        if self._link.available:
            try:
                await self._level2.let_go(key, call_id)
            except _AWAY as error:
                self._failed(error)

    # -- who reads -------------------------------------------------------------------------------------------

    async def begin(self, key: Key, tags: Sequence[str], call_id: str) -> Reading | None:
        """Just before a read runs; None: its answer cannot be kept."""
        if not self._link.available:
            return None
        started_at, rules, home = time.monotonic(), key.rules, self._level2.home
        life_s = max(rules.ttl_s, rules.longest_ttl_s) + rules.kept_s
        try:
            began_at, generations = await self._level2.begin(key, tags, call_id, life_s=life_s)
            previous = await self._level2.peek(key.name) if rules.longest_ttl_s > rules.ttl_s else None
        except _AWAY as error:
            self._failed(error)
            return None
        return Reading(
            key=key,
            call_id=call_id,
            began_at=began_at,
            started_at=started_at,
            generations=generations,
            home=home,
            previous=previous,
        )

    async def fill(self, reading: Reading, answer: Answer) -> bool:
        """Keep the answer of a read; False when it is not kept: too large, too late, or the cache Redis is away."""
        payload, key = entry.payload_of(answer), reading.key
        ttl_s = self._ttl_s(reading, answer, payload)
        if ttl_s <= 0 or reading.disturbed or len(payload) > self._settings.max_value_bytes:
            self.counts["not_kept"] += 1
            await self.let_go(key, reading.call_id)
            return False
        kept = entry.keep(
            answer,
            payload,
            ttl_s=ttl_s,
            life_s=ttl_s + (key.rules.kept_s if answer.error is None else 0.0),
            read_s=time.monotonic() - reading.started_at,
            tags=reading.generations,
        )
        if not self._link.available:
            return False
        try:
            outcome = await self._level2.fill(
                key,
                reading.call_id,
                kept,
                home=reading.home,
                began_at=reading.began_at,
                generations=reading.generations,
            )
        except _AWAY as error:
            self._failed(error)
            return False
        self.counts["fill" if outcome == "ok" else outcome] += 1
        return outcome == "ok"

    # -- who writes ------------------------------------------------------------------------------------------

    async def changing(self, tags: Sequence[str], call_id: str, *, hold_s: float) -> Change | None:
        """Just before a write runs: until it has ended, nothing under its tags is used or kept.

        One that never says how it ended is forgotten after `hold_s` and a minute, and what was remembered with it.
        """
        if not tags or not self._settings.enabled:
            return None
        digests = tuple(map(tag_digest, tags))
        if not self._link.available:
            change = Change(digests=digests, call_id="")
            await self._owe(change, retry_for_s=0.0)
            return change
        change = Change(digests=digests, call_id=call_id)
        try:
            await self._level2.change("begin", digests, call_id, hold_s=hold_s + _FORGET_CHANGE_S)
        except _AWAY as error:
            self._failed(error)
            await self._owe(change, retry_for_s=0.0)
        return change

    async def changed(self, change: Change, *, retry_for_s: float = 0.0) -> None:
        """A write has ended: nothing that was read before is used again. Its caller is told only after this."""
        self.counts["invalidated"] += 1
        if self._link.available:
            try:
                await self._level2.change("end", change.digests, change.call_id)
                return
            except _AWAY as error:
                self._failed(error)
        await self._owe(change, retry_for_s=retry_for_s)

    async def invalidate(self, tags: Sequence[str]) -> None:
        """Something under these tags has changed: nothing that was read before is used again.

        Raises:
            BrokerUnavailable: neither the cache Redis nor the broker's could be told.
        """
        owed = [Debt(digest=tag_digest(tag)) for tag in tags]
        self.counts["invalidated"] += 1
        if not owed or (self._link.available and await self._tell(owed)):
            return
        await self._owed.owe(owed)

    # -- who looks after it ----------------------------------------------------------------------------------

    async def stats(self) -> dict[str, int]:
        """What the cache Redis says of itself, beside what lies in level 1; empty while it is away."""
        here = {
            "local_entries": len(self.level1),
            "local_bytes": self.level1.size_bytes,
            "local_evicted": self.level1.evicted,
            "refused": self._level2.refused,
        }
        if self._link.available:
            try:
                return await self._level2.stats() | here
            except _AWAY as error:
                self._failed(error)
        return {}

    async def _before_use(self) -> bool:
        try:
            await self._level2.settle()
        except _AWAY as error:
            logger.debug("the cache does not say who it is: %s", error)
            return False
        return await self._owed.deliver()

    # -- within ----------------------------------------------------------------------------------------------

    def _ttl_s(self, reading: Reading, answer: Answer, payload: bytes) -> float:
        rules, previous = reading.key.rules, reading.previous
        if answer.error is not None:
            return rules.negative_ttl_s
        if previous is None or previous.negative:
            return rules.ttl_s
        return rules.next_ttl_s(previous.ttl_s, same=previous.digest == entry.digest_of(payload))

    def _remember(self, name: str, found: Found) -> None:
        until = min(found.fresh_until, time.monotonic() + self._settings.local_ttl_s)
        payload = found.answer.value or b""
        own = msgspec.structs.replace(found, level=1)
        digests = tuple(map(tag_digest, found.tags))
        self.level1.put(name, own, size_bytes=len(payload), tags=digests, until=until)

    async def _tell(self, owed: Sequence[Debt]) -> bool:
        by_call: dict[str, list[str]] = {}
        for debt in owed:
            by_call.setdefault(debt.call_id, []).append(debt.digest)
        try:
            for call_id, digests in by_call.items():
                for at in range(0, len(digests), _AT_ONCE):
                    await self._level2.change("end", digests[at : at + _AT_ONCE], call_id)
        except _AWAY as error:
            self._failed(error)
            return False
        return True

    async def _owe(self, change: Change, *, retry_for_s: float) -> None:
        owed = [Debt(digest=digest, call_id=change.call_id) for digest in change.digests]
        try:
            await self._owed.owe(owed, retry_for_s=retry_for_s)
        except BrokerUnavailable:
            logger.warning("an invalidation could be told to nobody yet: this process tries again every second")

    def _failed(self, error: BaseException) -> None:
        answered = error.__cause__ if isinstance(error, BrokerUnavailable) else error
        if isinstance(answered, ResponseError):
            # It is there and refuses (it is full): what it can do it goes on doing.
            self.counts["refused"] += 1
            logger.debug("the cache refuses: %s", answered)
            return
        self.counts["away"] += 1
        self._link.doubt()


def _found(looked: Looked) -> Found:
    kept, now = looked.kept, time.monotonic()
    filled_at = now - max(0.0, kept.life_s - looked.left_s)
    return Found(
        answer=kept.answer(),
        read_at=filled_at - kept.read_s,
        fresh_until=filled_at + kept.ttl_s,
        ttl_s=kept.ttl_s,
        tags=tuple(tag for tag, _ in kept.tags),
    )
