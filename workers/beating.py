"""The loop that says that this worker lives, and keeps its tool's operations in the catalogue."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from store import heartbeat
from store.background import Background
from store.catalogue import publish
from store.connection import Broker
from toolswarm.errors import BrokerUnavailable
from toolswarm.messages import Operation, WorkerStatus
from workers.transport import POLL_CLOCK

logger = logging.getLogger(__name__)

HEARTBEAT_S = 1.0


class Counts(Protocol):
    """What a worker counts of itself."""

    done: int
    busy_s: float


class Heartbeat:
    """Beats every HEARTBEAT_S; `busy` counts what runs now."""

    def __init__(
        self,
        broker: Broker,
        who: WorkerStatus,
        *,
        operations: Sequence[Operation],
        counts: Counts,
        busy: Callable[[], int],
    ) -> None:
        self._broker = broker
        self._who = who
        self._operations = list(operations)
        self._counts = counts
        self._busy = busy
        self._loop = Background(self._forever, "heartbeat")
        self._service_s = 0.0
        self._counted: tuple[int, float] = (0, 0.0)

    async def start(self) -> None:
        """Beat in the background; bears being called twice."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop, and leave the list of workers; bears being called twice."""
        if not await self._loop.stop():
            return
        try:
            await heartbeat.leave(self._broker, self._who.name)
        except BrokerUnavailable:
            logger.warning("could not leave the list of workers: it forgets this one in %d s", heartbeat.KEEP_S)

    async def _forever(self) -> None:
        while True:
            try:
                await self.run_once()
            except BrokerUnavailable as error:
                logger.warning("no heartbeat: %s", error)
            await asyncio.sleep(HEARTBEAT_S)

    async def run_once(self) -> None:
        """One heartbeat."""
        done, busy_s = self._counts.done, self._counts.busy_s
        if done > self._counted[0]:
            self._service_s = (busy_s - self._counted[1]) / (done - self._counted[0])
            self._counted = (done, busy_s)
        who, busy = self._who, self._busy()
        status = WorkerStatus(
            name=who.name,
            tool=who.tool,
            kind=who.kind,
            slots=who.slots,
            busy=busy,
            done=done,
            service_s=round(self._service_s, 6),
            started_at=who.started_at,
            seen_at=0.0,
            polled_at=0.0,
        )
        # A solo pool runs calls on the thread that polls.
        ago_s = 0.0 if who.kind == "solo" and busy else POLL_CLOCK.ago_s()
        if self._operations:
            await publish(self._broker, who.tool, self._operations)
        await heartbeat.beat(self._broker, status, polled_ago_s=ago_s)


def describe_worker(name: str, tool: str, kind: str, slots: int) -> WorkerStatus:
    """Who beats: the fields that do not change."""
    return WorkerStatus(
        name=name,
        tool=tool,
        kind=kind,
        slots=slots,
        busy=0,
        done=0,
        service_s=0.0,
        started_at=time.time(),
        seen_at=0.0,
        polled_at=0.0,
    )
