"""Whether and when to ask again after an error, and how long one question may wait; time comes in as `now`.

A server that is full says when to come back and is believed until the timeout. A server that cannot be reached is
tried a bounded number of times. Anything else is told to the caller at once.
"""

import random

from toolswarm.errors import BrokerUnavailable, GatewayUnreachable, ToolswarmError, Unavailable

WAIT_SLICE_S = 30.0
"""The longest that one question waits: shorter than the idle limit of the usual proxies (60 s)."""
SUBMIT_BACKOFF_S = (0.1, 0.4)
"""Three tries in all before anything was accepted: a person waits for this error."""
RESULT_BACKOFF_S = (0.1, 0.4, 1.0, 2.0, 4.0)
"""More for a call that was accepted: it goes on meanwhile, and a restarting gateway is back within seconds."""
EARLY_ANSWER_S = 0.1
"""A gateway that drains answers before the wait is over; asking again at once would only load it."""


class Patience:
    """The time and the tries left for one call of a method."""

    def __init__(self, *, until: float, backoff_s: tuple[float, ...] = SUBMIT_BACKOFF_S) -> None:
        self.until = until
        self._backoff_s = backoff_s
        self._failures = 0

    def left_s(self, now: float) -> float:
        """Seconds until the timeout, never negative."""
        return max(0.0, self.until - now)

    def slice_s(self, now: float) -> float:
        """How long the next question may wait."""
        return min(WAIT_SLICE_S, self.left_s(now))

    def answered(self) -> None:
        """Take note that the server is there: the tries start anew."""
        self._failures = 0

    def delay_s(self, error: ToolswarmError, now: float) -> float | None:
        """Seconds to wait before asking again, or None to give up and raise `error`."""
        told_s = error.details.get("retry_after_s")
        if isinstance(error, Unavailable) and not isinstance(error, BrokerUnavailable) and told_s is not None:
            delay_s = float(told_s)
        elif isinstance(error, GatewayUnreachable | Unavailable) and self._failures < len(self._backoff_s):
            step_s = self._backoff_s[self._failures]
            delay_s = float(told_s) if told_s is not None else step_s * random.uniform(0.8, 1.2)  # noqa: S311
            self._failures += 1
        else:
            return None
        return delay_s if delay_s < self.left_s(now) else None
