"""What a worker knows of its targets' breakers: asks only after those that somebody has trouble with."""

import logging
import time

from store.breakers import Breakers, Permission
from toolswarm.errors import BrokerUnavailable, OperationFailed
from toolswarm.messages import ErrorInfo

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_NO_FAULT_OF_THE_TARGET = frozenset(
    {"breaker_open", "rate_limited", "postponed", "conflict", "host_busy", "overloaded", "session_lost"}
)


class BreakerOpen(OperationFailed):
    """The target has failed again and again, and is left alone for a while."""

    def __init__(self, target: str, wait_s: float) -> None:
        super().__init__(
            f"{target} has failed again and again and is left alone for now; try again in {wait_s:.0f} s",
            code="breaker_open",
            retryable=True,
            before_effect=True,
            target=target,
            retry_after_s=round(wait_s, 3),
        )


class Breaking:
    """Asks and reports for the runner; without a broker everything may run, and the call fails by itself."""

    def __init__(self, breakers: Breakers) -> None:
        self._breakers = breakers
        self._troubled: set[str] = set()
        self._looked_at = float("-inf")

    async def enter(self, target: str) -> None:
        """Pass, or be told to stay away.

        Raises:
            BreakerOpen: the target is left alone.
        """
        try:
            now = time.monotonic()
            if now - self._looked_at > _LOOK_EVERY_S:
                self._looked_at = now
                self._troubled = await self._breakers.board()
            if target not in self._troubled:
                return
            permission, wait_s = await self._breakers.ask(target)
        except BrokerUnavailable as error:
            logger.warning("cannot ask the breaker of %s: %s", target, error)
            return
        if permission is Permission.OPEN:
            raise BreakerOpen(target, wait_s)

    async def leave(self, target: str, error: ErrorInfo | None) -> None:
        """Report how it went: None for an answer; an answer that says no is one, too."""
        failed = error is not None and error.retryable and error.code not in _NO_FAULT_OF_THE_TARGET
        try:
            if failed:
                self._troubled.add(target)
                if await self._breakers.failed(target):
                    logger.warning("the breaker of %s is open", target)
            elif target in self._troubled and (error is None or not error.retryable):
                self._troubled.discard(target)
                await self._breakers.passed(target)
        except BrokerUnavailable as unavailable:
            logger.warning("cannot tell the breaker of %s: %s", target, unavailable)
