"""A coroutine that runs in the background until it is stopped: one that fails is logged and begun again."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)

_ASK_AGAIN_S = 0.1
_BEGIN_AGAIN_S = 0.5


class Background:
    """Starts and stops it; both bear being called twice."""

    def __init__(self, run: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._run = run
        self._name = name
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run it, on the loop that runs now."""
        if self._task is None:
            self._task = asyncio.create_task(self._supervise(), name=self._name)

    async def stop(self) -> bool:
        """Cancel it and wait until it has ended; False when it did not run.

        It is cancelled until it ends: `asyncio.wait_for` of Python 3.11 loses a cancellation that comes in the same
        turn of the loop as what it waits for (CPython #86296), and then the coroutine would run on for ever.
        """
        task, self._task = self._task, None
        if task is None:
            return False
        while not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=_ASK_AGAIN_S)
        return True

    async def _supervise(self) -> None:
        while True:
            try:
                await self._run()
                return
            except Exception:
                logger.exception("%s failed, and begins again", self._name)
            await asyncio.sleep(_BEGIN_AGAIN_S)
