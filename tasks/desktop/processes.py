"""Operations on processes that stay: a server, a shell, anything that is talked to over several calls."""

import os
import secrets
import socket
import time
from signal import Signals
from typing import Annotated, Literal

from msgspec import Meta

from tasks.desktop.commands import Argv, Environment, WorkingFolder
from tasks.desktop.desk import Desk
from tasks.desktop.prepare import Wanted, not_executable, prepared
from tasks.desktop.process_states import (
    ListedProcess,
    ProcessList,
    ProcessState,
    SessionId,
    SessionStarted,
    refuse_ended,
    state_of,
)
from tasks.desktop.remembered import ROOT
from tasks.desktop.session import Session, Terms
from tasks.operation import Run, operation
from tasks.text import printable
from toolswarm.messages import Effect

_DAY_S = 86_400.0


@operation(effect=Effect.ONCE, time_limit_s=30.0, marks_effect=True, destructive=True, changes=ROOT)
async def process_start(
    desk: Desk,
    run: Run,
    *,
    argv: Argv,
    cwd: WorkingFolder = ".",
    env: Environment = None,
    pty: Annotated[
        bool, Meta(description="Give it a terminal: for shells, prompts and programs that ask whether they have one.")
    ] = False,
    rows: Annotated[int, Meta(description="Lines of the terminal.", ge=1, le=500)] = 24,
    cols: Annotated[int, Meta(description="Columns of the terminal.", ge=1, le=1000)] = 80,
    idle_timeout_s: Annotated[
        float, Meta(description="It is ended when nobody reads or writes for so long.", gt=0, le=_DAY_S)
    ] = 600.0,
    total_timeout_s: Annotated[
        float, Meta(description="It is ended after so long in any case.", gt=0, le=7 * _DAY_S)
    ] = 3600.0,
) -> SessionStarted:
    """Start a process that goes on after this call, and return its session.

    Read its output with `process_read`, give it input with `process_write`, end it with `process_stop`. It runs in the
    same sandbox as the commands of `run_command`, and lives in one worker: when that ends, so does the process, and its
    session answers `session_lost`. What it started is ended with it. The operator's limits may shorten the
    time-outs; the result says what holds.
    """
    settings = desk.settings
    terms = Terms(
        id=f"{run.worker}.{secrets.token_hex(8)}",
        tenant=run.call.tenant,
        argv=tuple(argv),
        size=(rows, cols) if pty else None,
        idle_timeout_s=min(idle_timeout_s, settings.session_idle_s),
        total_timeout_s=min(total_timeout_s, settings.session_total_s),
        buffer_bytes=settings.session_buffer_bytes,
    )
    run.executed_on(socket.gethostname())
    wanted = Wanted(argv=argv, cwd=cwd, env=env or {}, terminal=pty)
    with desk.sessions.room(run.call.tenant), prepared(desk, run.call.tenant, wanted) as command:
        session = Session(terms)
        await session.start(command, run.begin_effect_async)
        if session.watched.exec_errno is not None:
            await session.stop()
            raise not_executable(desk, argv[0], os.strerror(session.watched.exec_errno))
        desk.sessions.add(session)
    return SessionStarted(
        session_id=terms.id,
        pty=pty,
        idle_timeout_s=terms.idle_timeout_s,
        total_timeout_s=terms.total_timeout_s,
        buffer_bytes=terms.buffer_bytes,
        sandbox=desk.policy.in_force(session.watched.in_force),
    )


@operation(
    effect=Effect.ONCE,
    time_limit_s=15.0,
    marks_effect=True,
    session_argument="session_id",
    destructive=True,
    changes=ROOT,
)
async def process_signal(
    desk: Desk,
    run: Run,
    *,
    session_id: SessionId,
    signal: Annotated[
        Literal["INT", "TERM", "HUP", "QUIT", "KILL", "STOP", "CONT", "USR1", "USR2"],
        Meta(description="The signal, without SIG.", examples=["INT"]),
    ],
) -> ProcessState:
    """Send a signal to a session's process and its process group.

    What a shell on a terminal runs in the foreground is a group of its own: reach it by writing \\x03 (Ctrl-C) instead.
    To end a session for good, use `process_stop`.
    """
    session = desk.sessions.get(session_id, run.call.tenant)
    refuse_ended(session)
    await run.begin_effect_async()
    session.send_signal(Signals[f"SIG{signal}"])
    return state_of(session)


@operation(effect=Effect.IDEMPOTENT, time_limit_s=30.0, session_argument="session_id", destructive=True, changes=ROOT)
async def process_stop(desk: Desk, run: Run, *, session_id: SessionId) -> ProcessState:
    """End a session's process and all that it has started.

    SIGTERM first, and SIGKILL after two seconds. It returns when nothing of it is left; stopping a session that has
    ended changes nothing. Its last output can still be read for a while.
    """
    session = desk.sessions.get(session_id, run.call.tenant)
    await session.stop()
    return state_of(session)


@operation(effect=Effect.READ, time_limit_s=10.0)
async def process_list(desk: Desk, run: Run) -> ProcessList:
    """List your sessions in the worker that answers.

    Each worker knows its own sessions alone: with several workers of this tool, another one may have more.
    """
    listed = tuple(
        ListedProcess(
            process=state_of(session),
            argv=tuple(printable(argument.encode("utf-8", "surrogateescape"))[:200] for argument in session.terms.argv),
            pty=session.terms.size is not None,
            started_at=round(session.started_at, 3),
            idle_s=round(time.monotonic() - session.used_at, 3),
        )
        for session in desk.sessions.of(run.call.tenant)
    )
    return ProcessList(worker=run.worker, processes=listed)
