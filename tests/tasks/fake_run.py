"""The run of a call, without a worker: says what an operation asks, and remembers what it said."""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from toolswarm.ids import new_call_id
from toolswarm.messages import Context, ToolCall

T = TypeVar("T")


class FakeRun:
    """Implements `tasks.operation.Run`."""

    def __init__(self, *, tenant: str = "default", context: Context | None = None, limit_s: float = 60.0) -> None:
        self.call = ToolCall(id=new_call_id(), operation="test", tenant=tenant, context=context or Context())
        self.fence = 1
        self.effects_begun = 0
        self.places: list[str] = []
        self.stop = False
        self.worker = "worker-1"
        self.told: list[dict[str, Any]] = []
        self.lost: Exception | None = None
        """Raised by `begin_effect`, when set."""
        self._ends_at = time.monotonic() + limit_s

    def remaining_s(self) -> float:
        return self._ends_at - time.monotonic()

    def stop_requested(self) -> bool:
        return self.stop

    def begin_effect(self) -> None:
        if self.lost is not None:
            raise self.lost
        self.effects_begun += 1

    async def begin_effect_async(self) -> None:
        self.begin_effect()

    def executed_on(self, place: str) -> None:
        self.places.append(place)

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(coroutine)

    def tell(self, output: Mapping[str, Any]) -> None:
        self.told.append(dict(output))
