"""One attempt's work on files: its time, and whether it has begun to change anything."""

from tasks.operation import Run
from toolswarm.errors import OperationFailed

_RESERVE_S = 2.0
_RESERVE_SHARE = 0.1


class Work:
    """Made when the attempt begins; `begun` says whether anything may have been changed."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.begun = False
        self.reserve_s = min(_RESERVE_S, _RESERVE_SHARE * run.remaining_s())
        """Kept back from the attempt's time, to clean up and to answer."""

    def begin_effect(self) -> None:
        """The point of no return comes next; the first time, the worker is told (and may say no)."""
        if not self.begun:
            self.run.begin_effect()
            self.begun = True

    def check(self) -> None:
        """End the work when nobody waits for it any more; asked in every wait.

        Raises:
            OperationFailed: `time_limit`, `stopped`.
        """
        if self.run.remaining_s() < self.reserve_s:
            raise OperationFailed(
                "the time of this attempt was over before it was done; ask for less, or give it more time",
                code="time_limit",
                retryable=True,
                before_effect=not self.begun,
            )
        if self.run.stop_requested():
            raise OperationFailed(
                "stopped before it was done", code="stopped", retryable=True, before_effect=not self.begun
            )
