"""Bounds for what a request waits for: a timeout, or the moment when the gateway begins to drain."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Drain:
    """Tells every long wait of the process that it is over now: finish, take no more."""

    def __init__(self) -> None:
        self.begun = False
        self._waits: set[asyncio.Timeout] = set()

    def begin(self) -> None:
        """Cut all waits short, and those to come; bears being called twice. For the loop's own thread."""
        self.begun = True
        now = asyncio.get_running_loop().time()
        for wait in self._waits:
            if not wait.expired():
                wait.reschedule(now)

    @asynccontextmanager
    async def bounded(self, timeout_s: float | None) -> AsyncGenerator[None]:
        """Run the block until `timeout_s` (None: as long as it likes) or the drain, whichever comes first.

        Raises:
            TimeoutError: out of the block, when it was cut short.
        """
        async with asyncio.timeout(0 if self.begun else timeout_s) as wait:
            self._waits.add(wait)
            try:
                yield
            finally:
                self._waits.discard(wait)
