"""Talking to a process that stays: its output, and its input."""

import base64
import binascii
from typing import Annotated

from msgspec import Meta

from tasks.confined import shown
from tasks.desktop.commands import Raw
from tasks.desktop.desk import Desk
from tasks.desktop.process_states import ProcessOutput, ProcessWritten, SessionId, refuse_ended, state_of
from tasks.desktop.remembered import ROOT
from tasks.desktop.session import InputClosed, InputFull
from tasks.operation import Run, operation
from tasks.text import printable
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

_INPUT_MAX = 1_048_576


@operation(effect=Effect.READ, time_limit_s=60.0, session_argument="session_id")
async def process_read(
    desk: Desk,
    run: Run,
    *,
    session_id: SessionId,
    cursor: Annotated[
        int, Meta(description="Where to begin: 0, or the next_cursor of the last read.", ge=0, examples=[0])
    ] = 0,
    max_bytes: Annotated[int, Meta(description="The most to return.", ge=256, le=1_048_576)] = 65_536,
    wait_s: Annotated[
        float, Meta(description="Seconds to wait for output (or the end) when there is none yet.", ge=0, le=30)
    ] = 0.0,
    raw: Raw = False,
) -> ProcessOutput:
    """Read the output of a session from a cursor on.

    Reading takes nothing away: the same cursor gives the same output again, as long as it is among the newest that are
    kept; `dropped_bytes` says what was lost before it. When the process has ended, the result says how. Cursors count
    bytes.
    """
    session = desk.sessions.get(session_id, run.call.tenant)
    if cursor > session.ring.end:
        raise OperationFailed(
            f"cursor {cursor} is behind the end of the output ({session.ring.end}); use next_cursor of the last read",
            code="invalid_cursor",
            before_effect=True,
        )
    piece = await session.read(cursor, max_bytes, wait_s=min(wait_s, max(0.0, run.remaining_s() - 1)))
    return ProcessOutput(
        process=state_of(session),
        output=piece.text if raw else printable(piece.text.encode()),
        next_cursor=piece.next_cursor,
        dropped_bytes=piece.dropped_bytes,
    )


@operation(
    effect=Effect.ONCE,
    time_limit_s=15.0,
    marks_effect=True,
    session_argument="session_id",
    destructive=True,
    changes=ROOT,
)
async def process_write(
    desk: Desk,
    run: Run,
    *,
    session_id: SessionId,
    text: Annotated[
        str,
        Meta(
            description="Text for its input. Nothing is added: end a line with \\n (on a terminal, \\x03 is Ctrl-C).",
            max_length=_INPUT_MAX,
            examples=["ls -l\n"],
        ),
    ] = "",
    data_base64: Annotated[
        str, Meta(description="Bytes for its input, instead of text.", max_length=_INPUT_MAX, examples=["AAEC"])
    ] = "",
    eof: Annotated[bool, Meta(description="End its input behind this (on a terminal: Ctrl-D).")] = False,
) -> ProcessWritten:
    """Write to the input of a session.

    It returns when the input is on its way; what the process makes of it is read with `process_read`. When the process
    does not take its input, more than 1 MiB is refused with `session_busy`.
    """
    session = desk.sessions.get(session_id, run.call.tenant)
    data = _input(text, data_base64)
    if not data and not eof:
        raise _invalid("text, data_base64 and eof: there is nothing to write; give one of them")
    try:
        refuse_ended(session)
        session.check_input(len(data))
        await run.begin_effect_async()
        session.check_input(len(data))
    except InputClosed as error:
        raise OperationFailed(
            f"the input of session_id {shown(session_id)} was closed; start a new session",
            code="input_closed",
            before_effect=True,
        ) from error
    except InputFull as error:
        raise OperationFailed(
            f"the process of session_id {shown(session_id)} does not take its input; read its output, or wait",
            code="session_busy",
            retryable=True,
            before_effect=True,
        ) from error
    waiting_bytes = session.write(data, eof=eof)
    return ProcessWritten(process=state_of(session), written_bytes=len(data), waiting_bytes=waiting_bytes)


def _input(text: str, data_base64: str) -> bytes:
    if text and data_base64:
        raise _invalid("text and data_base64 were both given; give one of them")
    if text:
        return text.encode("utf-8", "surrogateescape")
    try:
        return base64.b64decode(data_base64, validate=True)
    except binascii.Error as error:
        raise _invalid("data_base64 is not valid base64; encode the bytes with the standard alphabet") from error


def _invalid(why: str) -> OperationFailed:
    return OperationFailed(why, code="invalid_command", before_effect=True)
