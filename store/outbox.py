"""Tasks on their way to RabbitMQ: released from the lists and lines of the ledger's Redis, held there until their end.

The same script that hands tasks to workers (`take.lua`) decides what goes next, so tenants, priorities and limits count
alike with every broker. What may be in RabbitMQ of one queue is bounded: the rest waits here, in its order.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from store import keys
from store.connection import Broker


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """A task that is to be published."""

    queue: str
    message: dict[str, Any]
    """As routing/task_message.py built it."""

    @property
    def call_id(self) -> str:
        """The call that it carries."""
        return str(self.message["properties"]["delivery_tag"])


class Outbox:
    """Releases tasks, and takes back what could not be published."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def release(self, queue: str, *, most: int, bound: int) -> list[Released]:
        """The next tasks of a queue: at most `most`, and no more than `bound` that have not ended.

        Raises:
            BrokerUnavailable: no answer; what was released all the same is published again by the sweep.
        """
        lists = [queue] if "@" in queue else [keys.alone_list(queue), *_lists(queue)]
        taken = await self._broker.script("take", [*_held(queue), *lists], [most, bound])
        return [Released(queue=queue, message=msgspec.json.decode(taken[place])) for place in range(1, len(taken), 2)]

    async def take_back(self, tasks: Sequence[Released]) -> None:
        """These were not published: they are first in their lists again."""
        by_queue: dict[str, list[str]] = {}
        for task in tasks:
            by_queue.setdefault(task.queue, []).append(task.call_id)
        for queue, ids in by_queue.items():
            await self._broker.script("give_back", _held(queue), ids)

    async def undelivered(self, call_id: str, *, most: int) -> str:
        """RabbitMQ gave up on the task of a call; what became of it (undelivered.lua)."""
        answer = await self._broker.script("undelivered", [keys.call_key(call_id)], [call_id, most])
        return bytes(answer).decode()


def _lists(queue: str) -> list[str]:
    return [keys.queue_list(queue, step) for step in keys.PRIORITY_STEPS.values()]


def _held(queue: str) -> list[str]:
    return [keys.unacked_key(queue), keys.unacked_index_key(queue), keys.bell_key(queue)]
