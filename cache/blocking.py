"""The cache for threads: the same protocol, run on an event loop of its own; each method waits for its end."""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from cache.cache import Cache, Change, Found, Lease, Reading
from cache.entry import Answer
from cache.rules import Key
from store.configuration import Configuration
from store.connection import Broker
from toolswarm.messages import Operation, ToolCall

T = TypeVar("T")


class BlockingCache:
    """What `Cache` promises, for code that does not await; any number of threads may use one."""

    def __init__(self, configuration: Configuration, *, remembers: bool = True) -> None:
        """`remembers` says that this process keeps answers in its own memory, too.

        Raises:
            ConfigurationError: the secret is unfit, or the URL is wrong.
        """
        self._broker = Broker(configuration.store.broker_url)
        self._cache = Cache.open(configuration, broker=self._broker, remembers=remembers)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cache", daemon=True)
        self._lock = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Connect; bears being called twice."""
        with self._lock:
            if not self._thread.is_alive() and not self._stopped:
                self._thread.start()
        self._wait(self._cache.start())

    def stop(self) -> None:
        """Disconnect for good; bears being called twice."""
        with self._lock:
            if self._stopped or not self._thread.is_alive():
                return
            self._stopped = True
            self._wait(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    @property
    def available(self) -> bool:
        """Whether the cache Redis answers; while it does not, everything is run."""
        return self._cache.available

    def key(self, operation: Operation, call: ToolCall) -> Key | None:
        """What stands for a call; None when its answer is not remembered."""
        return self._cache.key(operation, call)

    def get(self, name: str) -> Found | None:
        """What is remembered: fresh, or stale and still kept; None also while the cache Redis is away."""
        return self._wait(self._cache.get(name))

    def lease(self, key: Key, call_id: str, *, rank: int, not_this: str = "") -> Lease | None:
        """Which call runs for all who ask the same: this one, or one that runs already."""
        return self._wait(self._cache.lease(key, call_id, rank=rank, not_this=not_this))

    def let_go(self, key: Key, call_id: str) -> None:
        """The call that ran for all has no answer to keep: the next one who asks runs."""
        self._wait(self._cache.let_go(key, call_id))

    def begin(self, key: Key, tags: Sequence[str], call_id: str) -> Reading | None:
        """Just before a read runs; None: its answer cannot be kept."""
        return self._wait(self._cache.begin(key, tags, call_id))

    def fill(self, reading: Reading, answer: Answer) -> bool:
        """Keep the answer of a read; False when it is not kept."""
        return self._wait(self._cache.fill(reading, answer))

    def changing(self, tags: Sequence[str], call_id: str, *, hold_s: float) -> Change | None:
        """Just before a write runs: until it has ended, nothing under its tags is used or kept."""
        return self._wait(self._cache.changing(tags, call_id, hold_s=hold_s))

    def changed(self, change: Change) -> None:
        """A write has ended: nothing that was read before is used again."""
        self._wait(self._cache.changed(change))

    def invalidate(self, tags: Sequence[str]) -> None:
        """Something under these tags has changed: nothing that was read before is used again.

        Raises:
            BrokerUnavailable: neither the cache Redis nor the broker's could be told.
        """
        self._wait(self._cache.invalidate(tags))

    def stats(self) -> dict[str, int]:
        """What the cache Redis says of itself; empty while it is away."""
        return self._wait(self._cache.stats())

    async def _close(self) -> None:
        await self._cache.stop()
        await self._broker.close()

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
