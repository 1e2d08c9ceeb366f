"""Whether a service does its work: asked of the service itself, or of what it leaves in Redis; never guessed.

A probe answers None when all is well, else the reason in a few words. When it cannot find out because the broker does
not answer it raises `BrokerUnavailable`, which says nothing about the service.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from local.redis_wire import RedisRefused, Reply, ask
from toolswarm.errors import BrokerUnavailable

_TIMEOUT_S = 1.0


class Probe(Protocol):
    """One way to find out whether a service works."""

    async def check(self, within_s: float) -> str | None:
        """None when the service gave a sign of life within the last `within_s`, else why not.

        Raises:
            BrokerUnavailable: nobody can tell.
        """
        ...


class RedisProbe:
    """The server answers PING; one that still loads its file does not."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def check(self, within_s: float) -> str | None:
        """None when it answers."""
        try:
            await ask(self._url, ("PING",), timeout_s=_TIMEOUT_S)
        except RedisRefused as refused:
            return refused.message
        except BrokerUnavailable as silent:
            return silent.message
        return None


class HttpProbe:
    """GET answers with a status below 400."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname or "127.0.0.1", parts.port or 80, parts.path or "/"

    async def check(self, within_s: float) -> str | None:
        """None when it answers with success."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                status = await self._get()
        except TimeoutError:
            return f"GET {self._path}: no answer within {_TIMEOUT_S:g} s"
        except (OSError, EOFError, ValueError):
            return f"does not answer on port {self._port}"
        return None if status < 400 else f"GET {self._path}: {status}"

    async def _get(self) -> int:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            request = f"GET {self._path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            _, status, *_ = (await reader.readline()).split()
            return int(status)
        finally:
            writer.close()


class TcpProbe:
    """Something accepts connections on the port."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port

    async def check(self, within_s: float) -> str | None:
        """None when it accepts."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                _, writer = await asyncio.open_connection(self._host, self._port)
        except (OSError, TimeoutError):
            return f"does not answer on port {self._port}"
        writer.close()
        return None


class HeartbeatProbe:
    """A worker's heartbeat is fresh, and so is its last question to the broker for tasks.

    A worker that beats but no longer polls is connected and silent: its queue grows and nothing else shows it. One
    whose slots are all taken has no reason to poll, and is left alone until one of its calls ends.
    """

    def __init__(self, broker_url: str, worker: str) -> None:
        self._broker_url = broker_url
        self._key = f"ts:worker:{worker}"

    async def check(self, within_s: float) -> str | None:
        """None when both are younger than `within_s` on the broker's clock."""
        fields = ("seen_at", "polled_at", "busy", "slots")
        beat, clock = await ask(self._broker_url, ("HMGET", self._key, *fields), ("TIME",), timeout_s=_TIMEOUT_S)
        now = _clock(clock)
        seen_at, polled_at, busy, slots = _items(beat)
        signs = [("heartbeat", seen_at)]
        if not _is_full(busy, slots):
            signs.append(("look at its queue", polled_at))
        for what, at in signs:
            if not isinstance(at, bytes):
                return f"no {what} yet"
            age_s = now - float(at)
            if age_s > within_s:
                return f"last {what} {age_s:.0f} s ago"
        return None


class KeyProbe:
    """A key exists in the broker: the service holds its lock."""

    def __init__(self, broker_url: str, key: str) -> None:
        self._broker_url, self._key = broker_url, key

    async def check(self, within_s: float) -> str | None:
        """None when it exists."""
        (found,) = await ask(self._broker_url, ("EXISTS", self._key), timeout_s=_TIMEOUT_S)
        return None if found == 1 else f"{self._key} is not held yet"


def _is_full(busy: Reply, slots: Reply) -> bool:
    return isinstance(busy, bytes) and isinstance(slots, bytes) and int(busy) >= int(slots) > 0


def _items(reply: Reply) -> Sequence[Reply]:
    if not isinstance(reply, list):
        raise BrokerUnavailable("the broker answered with something else than a list")
    return reply


def _clock(reply: Reply) -> float:
    seconds, microseconds = _items(reply)
    if not isinstance(seconds, bytes) or not isinstance(microseconds, bytes):
        raise BrokerUnavailable("the broker did not tell the time")
    return int(seconds) + int(microseconds) / 1_000_000
