"""Running a command on a remote host: an argument list, a time limit that holds, and an honest end."""

import time
from typing import Annotated, Any

import msgspec
import paramiko
from msgspec import Meta

from tasks.confined import shown
from tasks.droplet.hosts import Hosts, Session
from tasks.droplet.remote import RemoteCommand, command_line, kill_line
from tasks.operation import Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

_TIME_LIMIT_S = 600.0
_GRACE_S = 2.0
_RESERVE_S = 3 * _GRACE_S
"""Kept back from the attempt's time, to kill the command and to answer with its output so far."""
_LONGEST_LINE_BYTES = 100_000  # a shell takes one argument of 128 KiB

Host = Annotated[str | None, Meta(description="Name of a configured host; none: the default one.")]


class RemoteResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a remote command ended; one that fails by its own account has an exit code other than 0."""

    host: str
    exit_code: int | None
    """None when a signal ended it."""
    killed_by_signal: bool
    stdout: str
    """Control sequences are spelled out; head and tail when it was too long."""
    stderr: str
    stdout_truncated: bool
    stderr_truncated: bool
    stdout_dropped_bytes: int
    stderr_dropped_bytes: int
    ran_s: float
    untrusted: bool = True


@operation(effect=Effect.ONCE, time_limit_s=_TIME_LIMIT_S, from_context={"host": "host"}, marks_effect=True)
def run(
    hosts: Hosts,
    attempt: Run,
    *,
    argv: Annotated[
        list[str], Meta(description="Program and arguments; no shell interprets them.", min_length=1, max_length=4096)
    ],
    host: Host = None,
    cwd: Annotated[
        Annotated[str, Meta(min_length=1)] | None, Meta(description="Working folder; none: the login folder.")
    ] = None,
    stdin: Annotated[str | None, Meta(description="Text for the command's standard input; none: it is empty.")] = None,
    timeout_s: Annotated[float, Meta(description="After this it is killed.", gt=0, le=_TIME_LIMIT_S - 10)] = 30.0,
    max_output_bytes: Annotated[
        int, Meta(description="How much of each output is kept: head and tail.", ge=256, le=1_048_576)
    ] = 262_144,
) -> RemoteResult:
    """Run a command on a remote host and wait for its end."""
    line = hosts.line(host)
    _check(argv, cwd)
    raw_stdin = b"" if stdin is None else stdin.encode("utf-8", "surrogateescape")
    attempt.executed_on(line.name)
    wanted = command_line(argv, cwd)
    if len(wanted.text.encode()) > _LONGEST_LINE_BYTES:
        raise _invalid(f"argv is longer than {_LONGEST_LINE_BYTES} bytes; send data through stdin")
    timeout_s = min(timeout_s, max(0.1, attempt.remaining_s() - _RESERVE_S))
    with line.session(timeout_s) as session:
        command = RemoteCommand(session.channel, mark=wanted.mark, stdin=raw_stdin, limit_bytes=max_output_bytes)
        attempt.begin_effect()
        began = time.monotonic()
        try:
            command.start(wanted.text)
        except (paramiko.SSHException, EOFError, OSError) as error:
            session.is_connected()  # takes a dead connection out of use
            raise _lost(line.name) from error
        ended = command.pump(lambda: attempt.stop_requested() or time.monotonic() > began + timeout_s)
        ran_s = time.monotonic() - began
        killed = False if ended else _kill(session, command)
        result = _result(line.name, command, ran_s)
        if not ended:
            raise _stopped(argv[0], result, asked=attempt.stop_requested(), killed=killed)
        if result.killed_by_signal and not session.is_connected():
            raise _lost(line.name, result)
    _check_started(command, result, cwd)
    return result


def _check(argv: list[str], cwd: str | None) -> None:
    for what, text in (*(("argv", argument) for argument in argv), ("cwd", cwd or "")):
        if "\0" in text:  # a server drops the whole connection for it, and with it all other commands
            raise _invalid(f"{what} contains a NUL character")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _invalid(f"{what} contains half of a surrogate pair") from error
    if not argv[0] or argv[0].startswith("-"):
        raise _invalid("argv[0] must be a program, neither empty nor an option")


def _kill(session: Session, command: RemoteCommand) -> bool:
    """End the command's process group, gently, then not; whether the host has confirmed it."""
    give_up_at = time.monotonic() + _GRACE_S
    if command.pump(lambda: command.group is not None or time.monotonic() > give_up_at):
        return True
    if command.group is None:
        return False  # the login shell has not come to it
    session.tell(kill_line(command.group, "TERM"))
    give_up_at = time.monotonic() + _GRACE_S
    ended = command.pump(lambda: time.monotonic() > give_up_at)
    # Also when it has ended: what it has started may have ignored the gentle signal.
    killed = session.tell(kill_line(command.group, "KILL"))
    give_up_at = time.monotonic() + _GRACE_S
    return command.pump(lambda: time.monotonic() > give_up_at) and (ended or killed)


def _check_started(command: RemoteCommand, result: RemoteResult, cwd: str | None) -> None:
    if not command.is_there:
        raise OperationFailed(
            f"cannot go to the folder {shown(cwd or '')} on host {result.host}; check that it is there",
            code="not_found",
            before_effect=True,
            stderr=result.stderr,
        )
    if command.group is None:
        raise OperationFailed(
            f"the login shell on host {result.host} ended before the command began; it must be a POSIX shell that "
            "lets commands run",
            code="not_started",
            before_effect=True,
            stdout=result.stdout,
            stderr=result.stderr,
        )


def _result(host: str, command: RemoteCommand, ran_s: float) -> RemoteResult:
    return RemoteResult(
        host=host,
        exit_code=command.exit_code,
        killed_by_signal=command.exit_code is None,
        stdout=command.stdout.text(),
        stderr=command.stderr.text(),
        stdout_truncated=command.stdout.dropped_bytes > 0,
        stderr_truncated=command.stderr.dropped_bytes > 0,
        stdout_dropped_bytes=command.stdout.dropped_bytes,
        stderr_dropped_bytes=command.stderr.dropped_bytes,
        ran_s=round(ran_s, 4),
    )


def _stopped(program: str, result: RemoteResult, *, asked: bool, killed: bool) -> OperationFailed:
    end = "was killed" if killed else "could not be killed: look on the host"
    why = "was stopped" if asked else f"ran longer than {result.ran_s:.1f} s"
    return OperationFailed(
        f"{shown(program)} on host {result.host} {why} and {end}",
        code="stopped" if asked else "time_limit",
        timed_out=not asked,
        killed=killed,
        **msgspec.to_builtins(result),
    )


def _lost(host: str, result: RemoteResult | None = None) -> OperationFailed:
    details: dict[str, Any] = (
        {} if result is None else {"stdout": result.stdout, "stderr": result.stderr, "ran_s": result.ran_s}
    )
    return OperationFailed(
        f"the connection to host {host} was lost while the command may have run; look on the host before you repeat it",
        code="connection_lost",
        host=host,
        **details,
    )


def _invalid(why: str) -> OperationFailed:
    return OperationFailed(why, code="invalid_command", before_effect=True)
