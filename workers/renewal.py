"""The loop that keeps the leases of everything that this worker runs, in one script every third of a lease."""

import asyncio
import logging
import time

from store.background import Background
from store.ledger import Ledger, Verdict
from toolswarm.errors import BrokerUnavailable
from workers.attempt import Attempt, StopReason

logger = logging.getLogger(__name__)


class Renewal:
    """Renews, and stops what the ledger says is cancelled or lost."""

    def __init__(self, ledger: Ledger, *, lease_s: float) -> None:
        self.lease_s = lease_s
        self._ledger = ledger
        self._attempts: dict[int, Attempt] = {}
        self._loop = Background(self._forever, "renewal")

    def add(self, attempt: Attempt) -> None:
        """Keep this attempt's lease from now on."""
        self._attempts[id(attempt)] = attempt

    def discard(self, attempt: Attempt) -> None:
        """The attempt has ended."""
        self._attempts.pop(id(attempt), None)

    def stop_all(self, reason: StopReason) -> None:
        """Interrupt everything that runs."""
        for attempt in list(self._attempts.values()):
            attempt.stop(reason)

    async def start(self) -> None:
        """Renew in the background; bears being called twice."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop renewing; bears being called twice."""
        await self._loop.stop()

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(self.lease_s / 3)
            await self.run_once(time.monotonic())

    async def run_once(self, now: float) -> None:
        """Renew all leases; an attempt whose lease is over by our own clock is stopped even if nobody answers."""
        attempts = [attempt for attempt in self._attempts.values() if attempt.stopped_by is not StopReason.LOST]
        if not attempts:
            return
        try:
            async with asyncio.timeout(self.lease_s / 2):
                verdicts = await self._ledger.renew([attempt.grant for attempt in attempts], lease_s=self.lease_s)
        except (BrokerUnavailable, TimeoutError):
            verdicts = []
            logger.warning("cannot renew %d leases: the broker does not answer", len(attempts))
        for attempt, verdict in zip(attempts, verdicts, strict=False):
            if verdict is Verdict.LOST:
                attempt.stop(StopReason.LOST)
                continue
            attempt.renewed(now)
            if verdict is Verdict.CANCEL:
                attempt.stop(StopReason.CANCEL)
        for attempt in attempts:
            if attempt.lease_ends_at <= time.monotonic():
                attempt.stop(StopReason.LOST)
