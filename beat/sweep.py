"""The sweep: gives back the calls of lost workers, expires what is too late, and says which outcomes are unknown."""

import logging

from store.ledger import Ledger

logger = logging.getLogger(__name__)
_BATCH = 200


class Sweep:
    """Looks at the calls that are due."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def run_once(self) -> int:
        """Look at everything that is due now; returns how many calls were touched.

        Raises:
            BrokerUnavailable: nobody answered; the next round looks again.
        """
        touched = 0
        while True:
            done = await self._ledger.sweep(_BATCH)
            for call_id, what in done:
                logger.log(logging.DEBUG if what == "due" else logging.WARNING, "call %s: %s", call_id, what)
            touched += len(done)
            if len(done) < _BATCH:
                return touched
