"""What the operations on sessions return, and what they all check."""

from typing import Annotated

import msgspec
from msgspec import Meta

from tasks.confined import shown
from tasks.desktop.commands import signal_name
from tasks.desktop.policy import SandboxInForce
from tasks.desktop.session import Session
from toolswarm.errors import OperationFailed

SessionId = Annotated[
    str,
    Meta(
        description="The session_id that process_start returned.",
        max_length=300,
        examples=["desktop-1.0f3a6b2c9d8e7f10"],
    ),
]


class SessionStarted(msgspec.Struct, frozen=True, kw_only=True):
    """A process that runs on its own now."""

    session_id: str
    pty: bool
    idle_timeout_s: float
    """It is ended when it is neither read nor written nor signalled for so long."""
    total_timeout_s: float
    """It is ended after this, used or not."""
    buffer_bytes: int
    """How much of its newest output is kept."""
    sandbox: SandboxInForce


class ProcessState(msgspec.Struct, frozen=True, kw_only=True):
    """How a session's process is."""

    session_id: str
    running: bool
    exit_code: int | None
    signal: str | None
    """The signal that ended it, when one did."""
    ended_by: str | None
    """`exit` (by itself), `stop`, `idle_timeout`, `total_timeout`, `too_many_processes`, or `lost`."""
    output_bytes: int
    """All that it has written so far: the cursor behind its newest output."""


class ProcessOutput(msgspec.Struct, frozen=True, kw_only=True):
    """Output of a session from a cursor on."""

    process: ProcessState
    output: str
    """Standard output and error in the order they were written; control sequences are spelled out, unless `raw`."""
    next_cursor: int
    """Where to read on."""
    dropped_bytes: int
    """What was lost between the cursor that was asked for and the oldest output that is kept."""


class ProcessWritten(msgspec.Struct, frozen=True, kw_only=True):
    """Input has been given to a session."""

    process: ProcessState
    written_bytes: int
    waiting_bytes: int
    """What the process has not taken yet."""


class ListedProcess(msgspec.Struct, frozen=True, kw_only=True):
    """One session of a list."""

    process: ProcessState
    argv: tuple[str, ...]
    pty: bool
    started_at: float
    """Unix seconds."""
    idle_s: float
    """Since it was last used."""


class ProcessList(msgspec.Struct, frozen=True, kw_only=True):
    """Your sessions in one worker."""

    worker: str
    processes: tuple[ListedProcess, ...]


def state_of(session: Session) -> ProcessState:
    """How the session's process is now."""
    return ProcessState(
        session_id=session.terms.id,
        running=session.running,
        exit_code=session.watched.exit_code,
        signal=signal_name(session.watched.signal),
        ended_by=session.ended_by or None,
        output_bytes=session.ring.end,
    )


def refuse_ended(session: Session) -> None:
    """See that the process still runs.

    Raises:
        OperationFailed: `session_ended`.
    """
    if not session.running:
        raise OperationFailed(
            f"the process of session_id {shown(session.terms.id)} has ended; read its output, or start a new session",
            code="session_ended",
            before_effect=True,
        )
