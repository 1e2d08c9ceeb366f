"""A coroutine that runs in the background until it is stopped."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

_ASK_AGAIN_S = 0.1


class Background:
    """Starts and stops it; both bear being called twice."""

    def __init__(self, run: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._run = run
        self._name = name
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run it, on the loop that runs now."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self._name)

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
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
        return True
