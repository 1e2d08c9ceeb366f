"""Running a command within the tenant's root folder: an argument list, never a shell's line."""

import os
import signal
import socket
from typing import Annotated

import msgspec
from msgspec import Meta

from tasks.confined import shown
from tasks.desktop.desk import Desk
from tasks.desktop.policy import GRACE_S, SandboxInForce
from tasks.desktop.prepare import Wanted, not_executable, prepared
from tasks.desktop.process import Ended, Job, run_watched
from tasks.desktop.remembered import ROOT
from tasks.operation import Run, operation
from tasks.text import printable
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

_TIME_LIMIT_S = 600.0
_RESERVE_S = 2 * GRACE_S
"""Kept back from the attempt's time, to kill the command and to answer with its output so far."""

Argv = Annotated[
    list[str],
    Meta(
        description="Program and arguments, one string each; no shell sees them. For pipes and the like run one: "
        '["sh", "-c", "…"].',
        min_length=1,
        max_length=4096,
        examples=[["git", "status", "--short"]],
    ),
]
WorkingFolder = Annotated[
    str, Meta(description="Working folder, relative to your root folder.", examples=[".", "project/src"])
]
Environment = Annotated[
    dict[str, str] | None,
    Meta(
        description="Variables to set. PATH, HOME (your root folder), TMPDIR, LANG and TERM are there; those that make "
        "programs run others (LD_PRELOAD, BASH_ENV, GIT_SSH_COMMAND, …) are refused.",
        examples=[{"CI": "1"}],
    ),
]
Raw = Annotated[
    bool, Meta(description="Leave control sequences in the output as they are, instead of spelling them out (\\x1b).")
]


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended; one that fails by its own account has an exit code other than 0."""

    exit_code: int | None
    signal: str | None
    """The signal that ended it, when one did."""
    stdout: str
    """Control sequences are spelled out, unless `raw` was asked for; head and tail when it was too long."""
    stderr: str
    stdout_truncated: bool
    stderr_truncated: bool
    stdout_dropped_bytes: int
    stderr_dropped_bytes: int
    ran_s: float
    sandbox: SandboxInForce
    """What kept the command in."""


@operation(effect=Effect.ONCE, time_limit_s=_TIME_LIMIT_S, marks_effect=True, destructive=True, changes=ROOT)
async def run_command(
    desk: Desk,
    run: Run,
    *,
    argv: Argv,
    cwd: WorkingFolder = ".",
    env: Environment = None,
    stdin: Annotated[
        str | None, Meta(description="Text for the command's standard input; none: it is empty.", examples=["y\n"])
    ] = None,
    timeout_s: Annotated[
        float, Meta(description="Seconds after which it is killed.", gt=0, le=_TIME_LIMIT_S - 10, examples=[30])
    ] = 30.0,
    max_output_bytes: Annotated[
        int, Meta(description="How much of each output is kept: head and tail.", ge=256, le=16_777_216)
    ] = 262_144,
    raw: Raw = False,
) -> CommandResult:
    """Run a command and wait for its end.

    A program is started with its arguments, without a shell. It may read the system's programs and libraries, and read
    and change your root folder and its own TMPDIR. The rest of the machine's files it can neither read nor change, nor
    their modes, owners and times; whether it can see that they are there, the result's `sandbox.metadata` says. Other
    processes' memory and, unless the operator allows it, the network are out of its reach. When it ends, runs out of
    time or is cancelled, everything that it started is killed, too: for a server or a shell that is to stay, use
    `process_start`. A command that fails is no failed call: look at `exit_code`.
    """
    wanted = Wanted(argv=argv, cwd=cwd, env=env or {})
    with prepared(desk, run.call.tenant, wanted) as command:
        job = Job(
            command=command,
            stdin=None if stdin is None else stdin.encode("utf-8", "surrogateescape"),
            timeout_s=min(timeout_s, max(0.1, run.remaining_s() - _RESERVE_S)),
            max_output_bytes=min(max_output_bytes, desk.max_output_bytes),
        )
        run.executed_on(socket.gethostname())

        def tell(stream: str, text: str) -> None:
            run.tell({"stream": stream, "text": text if raw else printable(text.encode())})

        ended = await run_watched(job, run.begin_effect_async, tell)
    if ended.watched.exec_errno is not None:
        raise not_executable(desk, argv[0], os.strerror(ended.watched.exec_errno))
    result = _result(ended, desk.policy.in_force(ended.watched.in_force), raw=raw)
    if ended.watched.crowded:
        raise OperationFailed(
            f"{shown(argv[0])} had more than {desk.policy.processes} processes and was killed; let it start fewer",
            code="too_many_processes",
            **msgspec.to_builtins(result),
        )
    if ended.timed_out:
        raise OperationFailed(
            f"{shown(argv[0])} ran longer than {job.timeout_s:g} s and was killed; "
            "give it more timeout_s or less to do",
            code="time_limit",
            timed_out=True,
            **msgspec.to_builtins(result),
        )
    return result


def _result(ended: Ended, sandbox: SandboxInForce, *, raw: bool) -> CommandResult:
    return CommandResult(
        exit_code=ended.watched.exit_code,
        signal=signal_name(ended.watched.signal),
        stdout=ended.stdout.text(raw=raw),
        stderr=ended.stderr.text(raw=raw),
        stdout_truncated=ended.stdout.dropped_bytes > 0,
        stderr_truncated=ended.stderr.dropped_bytes > 0,
        stdout_dropped_bytes=ended.stdout.dropped_bytes,
        stderr_dropped_bytes=ended.stderr.dropped_bytes,
        ran_s=round(ended.watched.ran_s, 4),
        sandbox=sandbox,
    )


def signal_name(number: int | None) -> str | None:
    """`SIGKILL`; a real-time signal has no name."""
    if number is None:
        return None
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
