"""What an operation says while it runs, sent to whoever follows the call: gathered, bounded, never waited for.

What is said when nobody follows is dropped, and so is what comes faster than it can be sent: the result says all.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from store.ledger import Grant, Ledger
from toolswarm.errors import BrokerUnavailable

_EVERY_S = 0.1
_NOBODY_FOR_S = 1.0
"""How long nobody is asked for after nobody followed: a follower who comes in between misses that much at most."""
_MOST_WAITING = 64
_LONGEST_BYTES = 16_384


class Teller:
    """Of one attempt; made on the worker's loop."""

    def __init__(self, ledger: Ledger, grant: Grant) -> None:
        self._ledger = ledger
        self._grant = grant
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[bytes] = deque(maxlen=_MOST_WAITING)
        self._sending: asyncio.Task[None] | None = None
        self._mute_until = 0.0

    def tell(self, output: Mapping[str, Any]) -> None:
        """Say something, from any thread."""
        said = msgspec.json.encode(output)
        if len(said) <= _LONGEST_BYTES and self._loop.time() >= self._mute_until:
            self._waiting.append(said)
            self._loop.call_soon_threadsafe(self._send)

    async def flush(self) -> None:
        """Send what was said last: the end of the call comes after it."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
            self._sending = None
        if self._waiting:
            await self._send_waiting()

    def _send(self) -> None:
        if self._sending is None and self._waiting:
            self._sending = self._loop.create_task(self._send_soon())

    async def _send_soon(self) -> None:
        await asyncio.sleep(_EVERY_S)
        await self._send_waiting()
        self._sending = None
        self._send()

    async def _send_waiting(self) -> None:
        said = list(self._waiting)
        self._waiting.clear()
        try:
            if not await self._ledger.say(self._grant, said):
                self._mute_until = self._loop.time() + _NOBODY_FOR_S
        except BrokerUnavailable:
            self._mute_until = self._loop.time() + _NOBODY_FOR_S
