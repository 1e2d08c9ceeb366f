"""Whether the cache Redis is there: one connection that is asked twice a second, and hears what others have changed.

While it does not answer, nobody waits for it: calls go on without the cache until it does. What this process remembers
itself is valid only while this connection lives, for over it come the invalidations (`CLIENT TRACKING … BCAST`; in
RESP2 redirected to the very connection that is subscribed to them, which Redis 6 and Valkey understand alike).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from redis.exceptions import RedisError

from store import keys
from store.background import Background
from store.connection import open_connection

logger = logging.getLogger(__name__)

ASK_EVERY_S = 0.5
_SHORTEST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_INVALIDATED = b"__redis__:invalidate"
_QUIET_S = 60.0
_GONE = (RedisError, OSError, EOFError, TimeoutError)


class Link:
    """Knows whether the cache Redis answers; tells which keys have changed."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        tracks: bool,
        on_change: Callable[[str], None],
        on_lost: Callable[[], None],
        before_use: Callable[[], Awaitable[bool]],
    ) -> None:
        """`on_change` is told of each key that has changed, `on_lost` when some may have without anybody hearing.

        After each connecting the cache is used once `before_use` has returned True.
        """
        self.available = False
        self._url = url
        self._timeout_s = timeout_s
        self._tracks = tracks
        self._on_change = on_change
        self._on_lost = on_lost
        self._before_use = before_use
        self._doubted = asyncio.Event()
        self._loop = Background(self._forever, "cache-link")
        self._noted_at = float("-inf")
        self._settled = asyncio.Event()

    async def start(self, *, settled_within_s: float) -> None:
        """Connect in the background, and give it a moment; bears being called twice."""
        self._loop.start()
        try:
            async with asyncio.timeout(settled_within_s):
                await self._settled.wait()
        except TimeoutError:
            logger.info("the cache does not answer yet: calls go on without it")

    async def stop(self) -> None:
        """Disconnect; bears being called twice."""
        await self._loop.stop()
        self._lose()

    def doubt(self) -> None:
        """A command got no answer: the cache counts as away until it is asked and answers."""
        self._lose()
        self._doubted.set()

    def _lose(self) -> None:
        if self.available:
            self.available = False
            self._on_lost()

    async def _forever(self) -> None:
        pause_s = _SHORTEST_PAUSE_S
        while True:
            self._doubted.clear()
            began_at = time.monotonic()
            try:
                await self._live()
            except _GONE as error:
                self._note(error)
            finally:
                self._lose()
                self._settled.set()
            lived = time.monotonic() - began_at > 2 * _LONGEST_PAUSE_S
            pause_s = _SHORTEST_PAUSE_S if lived else min(_LONGEST_PAUSE_S, pause_s * 2)
            await asyncio.sleep(pause_s)

    async def _live(self) -> None:
        """One connection, from its begin to a doubt."""
        connection = open_connection(self._url, self._timeout_s)
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                await self._track(connection)
            await self._ask(connection)
            if not await self._before_use():
                return
            self.available = not self._doubted.is_set()
            self._settled.set()
            while not self._doubted.is_set():
                await self._hear(connection)
                await self._ask(connection)
        finally:
            await connection.disconnect(nowait=True)

    async def _track(self, connection: Any) -> None:
        if not self._tracks:
            return
        own_id = await self._command(connection, "CLIENT", "ID")
        prefixes = [part for prefix in keys.CACHE_PREFIXES for part in ("PREFIX", prefix)]
        await self._command(connection, "CLIENT", "TRACKING", "ON", "REDIRECT", own_id, "BCAST", *prefixes)
        await self._command(connection, "SUBSCRIBE", _INVALIDATED)

    async def _command(self, connection: Any, *arguments: Any) -> Any:
        await connection.send_command(*arguments)
        return await connection.read_response()

    async def _hear(self, connection: Any) -> None:
        """Take in what has changed, until it is time to ask."""
        until = time.monotonic() + ASK_EVERY_S
        while (left_s := until - time.monotonic()) > 0 and not self._doubted.is_set():
            if not self._tracks:
                try:
                    async with asyncio.timeout(left_s):
                        await self._doubted.wait()
                except TimeoutError:
                    return
                continue
            reply = await _read(connection, left_s)
            if reply is not None:
                self._take(reply)

    async def _ask(self, connection: Any) -> None:
        """Whether it still answers; everything that came before the answer has been taken in afterwards."""
        until = time.monotonic() + self._timeout_s
        await connection.send_command("PING")
        while True:
            reply = await _read(connection, until - time.monotonic())
            if reply is None:
                raise TimeoutError("the cache does not answer")
            if not self._take(reply):
                return

    def _take(self, reply: Any) -> bool:
        """Whether the reply was about something else than our question."""
        if not self._tracks:
            return False
        parts: list[Any] = reply
        if parts[0] == b"pong":
            return False
        if parts[0] == b"message" and parts[1] == _INVALIDATED:
            if parts[2] is None:  # the whole database was flushed
                self._on_lost()
            else:
                for key in parts[2]:
                    self._on_change(cast("bytes", key).decode(errors="replace"))  # a key of ours is text
        return True

    def _note(self, error: BaseException) -> None:
        now = time.monotonic()
        if now - self._noted_at > _QUIET_S:
            self._noted_at = now
            logger.warning("the cache does not answer (%s): calls go on without it", type(error).__name__)


async def _read(connection: Any, within_s: float) -> Any:
    """The next reply, or None when none came in time."""
    try:
        return await connection.read_response(timeout=max(0.001, within_s), disconnect_on_error=False)
    except TimeoutError:
        return None
    except RedisError as error:
        if "Timeout" not in type(error).__name__:
            raise
        return None
