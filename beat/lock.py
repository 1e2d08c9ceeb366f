"""Leadership by a lease: any number of beats may run, one acts.

The lease lies in Redis and ends on Redis' clock. The leader renews it every third of its length, and counts its own
term from before it asked: when it has not heard back within the lease it stops acting before another can begin. What
the leader does (the sweep) is a script that is safe to run twice, so even a leader that was frozen in between harms
nothing.
"""

import secrets
import time
from collections.abc import Callable

from store import keys
from store.connection import Broker


class Lock:
    """One candidate for leadership."""

    def __init__(self, broker: Broker, *, lease_s: float = 3.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.lease_s = lease_s
        self._broker = broker
        self._clock = clock
        self._nonce = secrets.token_hex(8)
        self._leads_until = float("-inf")

    def leads(self) -> bool:
        """Whether this candidate may act now."""
        return self._clock() < self._leads_until

    async def run_once(self) -> bool:
        """Take or renew the lease; True when this candidate leads.

        Raises:
            BrokerUnavailable: nobody answered; the term goes on until its end.
        """
        asked_at = self._clock()
        held = await self._broker.script("lead", [keys.BEAT_LOCK], [self._nonce, int(self.lease_s * 1000)])
        self._leads_until = asked_at + self.lease_s if held else float("-inf")
        return bool(held)

    async def resign(self) -> None:
        """Give the lease up at once; bears being called twice."""
        self._leads_until = float("-inf")
        await self._broker.script("resign", [keys.BEAT_LOCK], [self._nonce])
