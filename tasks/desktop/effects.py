"""Where an operation passes the point of no return: the last look at the attempt, the ledger's word, and the note."""

import os

import msgspec

from tasks.desktop.desk import Desk
from tasks.desktop.journal import Change
from tasks.operation import Run
from toolswarm.errors import OperationFailed


def stop_if_asked(run: Run, *, before_effect: bool = True) -> None:
    """End a piece of work that nobody waits for any more.

    Raises:
        OperationFailed: `stopped`.
    """
    if run.stop_requested():
        raise OperationFailed(
            "stopped before it was done", code="stopped", retryable=before_effect, before_effect=before_effect
        )


class PointOfNoReturn:
    """Passed once by an operation that is looked after by the journal; safe to pass again when it is made anew."""

    def __init__(self, desk: Desk, run: Run) -> None:
        self._desk = desk
        self._run = run
        self._passed = False

    def passing(self, changes: list[Change], value: msgspec.Struct) -> None:
        """Say what changes next, and what the operation will return.

        Raises:
            OperationFailed: `stopped`.
            ToolswarmError: another attempt holds the call.
        """
        stop_if_asked(self._run)
        if not self._passed:
            self._run.begin_effect()
            self._passed = True
        try:
            self._desk.journal.note(self._run.call, changes, msgspec.to_builtins(value))
        except OSError as error:
            raise journal_failed(error) from error


def journal_failed(error: OSError) -> OperationFailed:
    """The worker's own notes cannot be written, so nothing is changed."""
    why = os.strerror(error.errno or 0)
    return OperationFailed(
        f"the worker's journal in desktop.workspaces cannot be written ({why}); make room there",
        code="journal_failed",
        retryable=True,
        before_effect=True,
    )
