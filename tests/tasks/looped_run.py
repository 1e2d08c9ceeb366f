"""A run whose coroutines all run on one loop, as in a worker: connections stay open between them."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.tasks.fake_run import FakeRun
from toolswarm.messages import Priority, ToolCall

T = TypeVar("T")


class LoopedRun(FakeRun):
    """`loop` runs in another thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        tenant: str = "default",
        priority: Priority = Priority.INTERACTIVE,
        limit_s: float = 60.0,
    ) -> None:
        super().__init__(tenant=tenant, limit_s=limit_s)
        self.call = ToolCall(id=self.call.id, operation="test", tenant=tenant, priority=priority)
        self._loop = loop

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
