"""Asking a host something by one of our own scripts, which changes nothing there: words, and output within a limit."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from tasks.droplet.hosts import Hosts
from tasks.droplet.inventory import HostEntry
from tasks.droplet.remote import RemoteCommand, RemoteStream
from tasks.droplet.session import LOST, Session
from tasks.operation import Run
from toolswarm.errors import OperationFailed

_LIMIT_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a script has answered."""

    opened: list[str]
    closed: list[str]
    stdout: bytes
    stderr: bytes


def ask(hosts: Hosts, host: HostEntry, attempt: Run, line: Callable[[str], str], *, max_bytes: int) -> Answer:
    """Send the line that `line` makes with a mark, and wait for the answer.

    Raises:
        OperationFailed: `connection_lost`, `not_started`, `time_limit`, `stopped`, or what connecting raises.
    """
    with hosts.session(host, attempt, timeout_s=_LIMIT_S) as session:
        return _ask(session, attempt, line, max_bytes)


def _ask(session: Session, attempt: Run, line: Callable[[str], str], max_bytes: int) -> Answer:
    mark = f"toolswarm-{secrets.token_hex(8)}"
    out, err = bytearray(), bytearray()

    def into(kept: bytearray) -> Callable[[bytes], None]:
        return lambda chunk: kept.extend(chunk[: max(0, max_bytes - len(kept))])

    command = RemoteCommand(
        session.channel, stdin=b"", stdout=RemoteStream(mark, into(out)), stderr=RemoteStream(mark, into(err))
    )
    give_up_at = time.monotonic() + min(_LIMIT_S, max(0.1, attempt.remaining_s()))
    try:
        command.start(line(mark))
    except LOST as error:
        session.is_connected()  # takes a dead connection out of use
        raise _failed(session, "connection_lost", "the connection was lost; try again") from error
    if not command.pump(lambda: attempt.stop_requested() or time.monotonic() > give_up_at):
        if attempt.stop_requested():
            raise _failed(session, "stopped", "the call was stopped")
        raise _failed(session, "time_limit", f"no answer in {_LIMIT_S:g} s; try again")
    opened, closed = command.stdout.marked.opened, command.stdout.marked.closed
    if command.has_ended and opened is not None and closed is not None:
        return Answer(opened=opened, closed=closed, stdout=bytes(out), stderr=bytes(err))
    if session.is_connected():
        raise _failed(session, "not_started", "the login shell there is no POSIX shell that lets commands run")
    raise _failed(session, "connection_lost", "the connection was lost; try again")


def _failed(session: Session, code: str, why: str) -> OperationFailed:
    return OperationFailed(
        f"host {session.host.name} could not be asked: {why}",
        code=code,
        retryable=code in ("connection_lost", "time_limit"),
        before_effect=True,
        host=session.host.name,
    )
