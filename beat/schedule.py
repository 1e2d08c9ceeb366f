"""The loop of beat: lead, and when leading do what is due."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import msgspec

from beat.lock import Lock
from store.background import Background
from toolswarm.errors import BrokerUnavailable

logger = logging.getLogger(__name__)

_TICK_S = 0.25


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the leader does every so often."""

    name: str
    every_s: float
    run: Callable[[], Awaitable[object]]


class Schedule:
    """Starts jobs when they are due, while this process leads; a job that still runs is not started again.

    One job does not wait for another: a slow one delays no sweep. After an outage all wait for one lease: whoever lived
    through it too renews, or ends its calls, before the sweep takes them for lost.
    """

    def __init__(self, lock: Lock, jobs: tuple[Job, ...]) -> None:
        self._lock = lock
        self._jobs = jobs
        self._due: dict[str, float] = {job.name: float("-inf") for job in jobs}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._lead_due = float("-inf")
        self._acts_from = float("-inf")
        self._loop = Background(self._forever, "schedule")

    async def start(self) -> None:
        """Run in the background; bears being called twice."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop and resign; bears being called twice."""
        if not await self._loop.stop():
            return
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        try:
            await self._lock.resign()
        except BrokerUnavailable:
            logger.warning("could not resign: another beat leads when the lease is over")

    async def run_once(self, now: float) -> None:
        """Renew the lease when it is time, then start each job that is due."""
        if now >= self._lead_due:
            self._lead_due = now + self._lock.lease_s / 3
            await self._lock.run_once()
        for job in self._jobs:
            free = job.name not in self._running
            if free and now >= max(self._due[job.name], self._acts_from) and self._lock.leads():
                self._due[job.name] = now + job.every_s
                self._running[job.name] = asyncio.create_task(self._run(job), name=job.name)

    async def settled(self) -> None:
        """Return when no job runs."""
        while self._running:
            await asyncio.wait(self._running.values())

    async def _run(self, job: Job) -> None:
        try:
            await job.run()
        except BrokerUnavailable as error:
            self._wait(error)
        except Exception:  # one job's fault stops no other
            logger.exception("%s failed, and runs again when it is due", job.name)
        finally:
            del self._running[job.name]

    async def _forever(self) -> None:
        while True:
            try:
                await self.run_once(time.monotonic())
            except BrokerUnavailable as error:
                self._wait(error)
            await asyncio.sleep(_TICK_S)

    def _wait(self, error: BrokerUnavailable) -> None:
        logger.warning("beat waits: %s", error)
        self._acts_from = time.monotonic() + self._lock.lease_s
