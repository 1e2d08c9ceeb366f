"""What a delivery has brought, and what the caller is told of it: a result, or an error that says what is known."""

import signal
from dataclasses import dataclass
from typing import Any

import msgspec

from tasks.confined import shown
from tasks.droplet.order import Errand
from tasks.droplet.remote import RemoteCommand
from tasks.droplet.told import ToldOutput
from tasks.operation import Run
from tasks.output import CappedOutput
from toolswarm.errors import OperationFailed

_SIGNALLED = 128
"""A shell reports the signal N that ended a command as exit code 128 + N."""


class RemoteResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a remote command ended; one that fails by its own account has an exit code other than 0."""

    host: str
    exit_code: int
    """As shells count: 128 + N when the signal N ended it; 127 when the program was not found."""
    signal: str | None
    """Name of that signal, e.g. `SIGKILL`; a command may also choose such an exit code itself."""
    stdout: str
    """Control sequences are spelled out; head and tail when it was too long."""
    stderr: str
    stdout_truncated: bool
    stderr_truncated: bool
    stdout_dropped_bytes: int
    stderr_dropped_bytes: int
    ran_s: float
    """From sending it to its end, as seen from here."""
    repeated: bool
    """Whether this is what an earlier delivery of the same call has begun, and not a second run."""
    run_once: bool
    """Whether the host keeps a record, so that a repeated delivery finds this run instead of starting another."""
    untrusted: bool = True


class Heard:
    """One output of a run: what is kept of it, and told to followers."""

    def __init__(self, attempt: Run, what: Errand, stream: str) -> None:
        self.kept = CappedOutput(what.order.max_output_bytes)
        self._told = ToldOutput(attempt, what.host.name, stream)

    def add(self, chunk: bytes) -> None:
        """Take what has come."""
        self.kept.add(chunk)
        self._told.add(chunk)

    def finish(self) -> None:
        """Nothing more comes."""
        self._told.finish()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one delivery has brought."""

    opened: list[str]
    """The words that the host began with; empty: it never did."""
    closed: list[str] | None
    """Those that it ended with; None: the channel was cut off before, or we gave up."""
    connected: bool
    """Whether the host answered when the channel had ended."""
    preamble: bytes
    stdout: CappedOutput
    stderr: CappedOutput
    stopped: str
    """`stopped` or `time_limit`: we gave up on it, and why."""
    killed: bool
    """Whether the host has confirmed that nothing of it is left."""

    @classmethod
    def of(
        cls,
        command: RemoteCommand,
        heard: tuple[Heard, Heard],
        *,
        connected: bool,
        stopped: str = "",
        killed: bool = False,
    ) -> "Outcome":
        """What a command on a channel has brought."""
        for output in heard:
            output.finish()
        return cls(
            opened=command.stdout.marked.opened or [],
            closed=command.stdout.marked.closed if command.has_ended else None,
            connected=connected,
            preamble=command.stdout.marked.preamble,
            stdout=heard[0].kept,
            stderr=heard[1].kept,
            stopped=stopped,
            killed=killed,
        )

    @property
    def cut_off(self) -> bool:
        """Whether it should be asked for again: the end was not told, and not because we gave up."""
        if self.stopped or self.closed is not None:
            return False
        return not self.connected or bool(self.opened)


def result_of(what: Errand, outcome: Outcome, *, ran_s: float) -> RemoteResult:
    """How a run ended that was not cut off, or given up.

    Raises:
        OperationFailed: it never began, or was ended.
    """
    check_begun(what, outcome)
    exit_code, why, *_ = [*(outcome.closed or ["lost"]), "-"]
    if exit_code == "lost":
        raise OperationFailed(
            f"host {what.host.name} has begun the command, but what waited for its end there is gone (a restart, or it "
            "was killed): look on the host before you repeat it",
            code="command_lost",
            in_doubt=True,
            **_told(what, outcome, ran_s),
        )
    result = _result(what, outcome, exit_code=int(exit_code), ran_s=ran_s)
    if why == "-":
        return result
    if why == "output_limit":
        raise OperationFailed(
            f"{shown(what.order.argv[0])} on host {what.host.name} was killed: it wrote more than "
            f"{what.place.max_written_bytes} bytes to one of its outputs; send them to a file",
            code="output_limit",
            **msgspec.to_builtins(result),
        )
    raise _ended(what, result, why=why, killed=True)


def stopped(what: Errand, outcome: Outcome, *, ran_s: float) -> OperationFailed:
    """We gave up on it: cancelled, or out of time."""
    code = int(outcome.closed[0]) if outcome.closed and outcome.closed[0].isdecimal() else _SIGNALLED + signal.SIGKILL
    return _ended(what, _result(what, outcome, exit_code=code, ran_s=ran_s), why=outcome.stopped, killed=outcome.killed)


def lost(what: Errand, outcome: Outcome | None, *, ran_s: float) -> OperationFailed:
    """The connection was lost, and could not be made again in time."""
    return OperationFailed(
        f"the connection to host {what.host.name} was lost while the command may have run, and the host could not be "
        "asked again; look on the host before you repeat it",
        code="connection_lost",
        retryable=True,
        in_doubt=True,
        **_told(what, outcome, ran_s),
    )


def check_begun(what: Errand, outcome: Outcome) -> None:
    """Whether the host has begun it.

    Raises:
        OperationFailed: it has not, or cannot tell.
    """
    host, word = what.host.name, outcome.opened[0] if outcome.opened else ""
    if word in ("started", "attached", "direct"):
        return
    if word == "no_folder":
        raise OperationFailed(
            f"cannot go to the folder {shown(what.order.cwd or '')} on host {host}; check that it is there",
            code="not_found",
            before_effect=True,
            host=host,
        )
    if word == "no_input":
        raise OperationFailed(
            f"stdin did not arrive whole on host {host}, so the command was not begun; check the free space there",
            code="no_space",
            before_effect=True,
            host=host,
        )
    if word == "unclaimable":
        raise OperationFailed(
            f"host {host} keeps no record of its runs (its home folder cannot be written to), so whether the command "
            "ran cannot be told; look on the host before you repeat it",
            code="cannot_tell",
            in_doubt=True,
            host=host,
        )
    raise OperationFailed(
        f"the login shell on host {host} ended before the command began; it must be a POSIX shell that lets commands "
        "run",
        code="not_started",
        before_effect=True,
        host=host,
        stdout=outcome.preamble.decode("utf-8", "backslashreplace"),
    )


def _result(what: Errand, outcome: Outcome, *, exit_code: int, ran_s: float) -> RemoteResult:
    word = outcome.opened[0] if outcome.opened else ""
    return RemoteResult(
        host=what.host.name,
        exit_code=exit_code,
        signal=signal_name(exit_code),
        stdout=outcome.stdout.text(),
        stderr=outcome.stderr.text(),
        stdout_truncated=outcome.stdout.dropped_bytes > 0,
        stderr_truncated=outcome.stderr.dropped_bytes > 0,
        stdout_dropped_bytes=outcome.stdout.dropped_bytes,
        stderr_dropped_bytes=outcome.stderr.dropped_bytes,
        ran_s=round(ran_s, 4),
        repeated=word == "attached",
        run_once=word != "direct",
    )


def _ended(what: Errand, result: RemoteResult, *, why: str, killed: bool) -> OperationFailed:
    end = "was killed" if killed else "could not be killed: look on the host"
    said = f"ran longer than {what.order.timeout_s:g} s" if why == "time_limit" else "was stopped"
    return OperationFailed(
        f"{shown(what.order.argv[0])} on host {what.host.name} {said} and {end}",
        code="time_limit" if why == "time_limit" else "stopped",
        timed_out=why == "time_limit",
        killed=killed,
        **msgspec.to_builtins(result),
    )


def _told(what: Errand, outcome: Outcome | None, ran_s: float) -> dict[str, Any]:
    told: dict[str, Any] = {"host": what.host.name, "run": what.place.run_id, "ran_s": round(ran_s, 4)}
    if outcome is not None:
        told |= {"began": bool(outcome.opened), "stdout": outcome.stdout.text(), "stderr": outcome.stderr.text()}
    return told


def signal_name(exit_code: int) -> str | None:
    """Name of the signal that an exit code stands for, if it does."""
    number = exit_code - _SIGNALLED
    try:
        return signal.Signals(number).name if number > 0 else None
    except ValueError:
        return None
