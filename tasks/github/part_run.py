"""The run of one operation of a batch."""

import hashlib
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from tasks.operation import Run
from toolswarm.messages import ToolCall

T = TypeVar("T")


def part_id(call_id: str, index: int) -> str:
    """The id of one operation of a batch: always the same, of the same time as the batch's, and like any other."""
    random = int.from_bytes(hashlib.sha256(f"{call_id}.{index}".encode()).digest()[:10], "big")
    random = random & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0b10 << 62  # version 7, RFC 9562
    return str(UUID(int=UUID(call_id).int >> 80 << 80 | random))


class PartRun:
    """The run of one operation of a batch: the batch's own, but for the call's id and arguments."""

    def __init__(self, whole: Run, *, operation: str, arguments: Mapping[str, Any], index: int) -> None:
        self._whole = whole
        self.call: ToolCall = msgspec.structs.replace(
            whole.call,
            id=part_id(whole.call.id, index),
            operation=operation,
            arguments=dict(arguments),
        )
        self.fence = whole.fence
        self.worker = whole.worker

    def remaining_s(self) -> float:
        """Of the whole batch."""
        return self._whole.remaining_s()

    def stop_requested(self) -> bool:
        """Whether the batch is to stop."""
        return self._whole.stop_requested()

    def begin_effect(self) -> None:
        """The batch's effect begins with its first operation's; after that it says that the lease still holds."""
        self._whole.begin_effect()

    async def begin_effect_async(self) -> None:
        """The same for `async` functions."""
        await self._whole.begin_effect_async()

    def executed_on(self, place: str) -> None:
        """All of them are executed there."""
        self._whole.executed_on(place)

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """On the worker's loop."""
        return self._whole.wait(coroutine)

    def tell(self, output: Mapping[str, Any]) -> None:
        """To whoever follows the batch."""
        self._whole.tell(output)
