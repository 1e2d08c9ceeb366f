"""Running a command within the tenant's root folder: an argument list, never a shell's line."""

import os
import posixpath
import re
import shutil
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from tasks.confined import Confined, shown
from tasks.desktop.desk import Desk
from tasks.desktop.process import GRACE_S, Command, Ended, run_watched
from tasks.operation import Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

_TIME_LIMIT_S = 600.0
_RESERVE_S = 2 * GRACE_S
"""Kept back from the attempt's time, to kill the command and to answer with its output so far."""
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
_HANDED_ON = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "USER", "LOGNAME", "TMPDIR")
"""All of the worker's environment that a command may see; the rest has keys and tokens in it."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STEERING = re.compile(
    r"PATH|IFS|ENV|BASH_ENV|SHELLOPTS|BASHOPTS|PS4|PROMPT_COMMAND|(LD|DYLD|BASH_FUNC)_.*|PYTHON(PATH|HOME|STARTUP)"
    r"|GIT_(SSH.*|EXEC_PATH|EXTERNAL_DIFF|CONFIG.*|PAGER|EDITOR|ASKPASS|PROXY_COMMAND)|NODE_OPTIONS|PERL5(OPT|LIB)|RUBY(OPT|LIB)"
)
"""Variables that make a program run another one; whoever wants that says so in argv, where it can be seen."""
_ENVIRONMENT_MAX_BYTES = 65_536


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended; one that fails by its own account has an exit code other than 0."""

    exit_code: int | None
    signal: str | None
    """The signal that ended it, when one did."""
    stdout: str
    """Control sequences are spelled out; head and tail when it was too long."""
    stderr: str
    stdout_truncated: bool
    stderr_truncated: bool
    stdout_dropped_bytes: int
    stderr_dropped_bytes: int
    ran_s: float


@operation(effect=Effect.ONCE, time_limit_s=_TIME_LIMIT_S, marks_effect=True)
async def run_command(
    desk: Desk,
    run: Run,
    *,
    argv: Annotated[
        list[str], Meta(description="Program and arguments; no shell sees them.", min_length=1, max_length=4096)
    ],
    cwd: Annotated[str, Meta(description="Working folder, relative to your root folder.")] = ".",
    env: Annotated[dict[str, str] | None, Meta(description="Variables to set besides the few that are there.")] = None,
    stdin: Annotated[str | None, Meta(description="Text for the command's standard input; none: it is empty.")] = None,
    timeout_s: Annotated[float, Meta(description="After this it is killed.", gt=0, le=_TIME_LIMIT_S - 10)] = 30.0,
    max_output_bytes: Annotated[
        int, Meta(description="How much of each output is kept: head and tail.", ge=256, le=16_777_216)
    ] = 262_144,
) -> CommandResult:
    """Run a command and wait for its end.

    When it ends, runs out of time or is cancelled, everything that it started is killed, too. It runs with the
    worker's rights: the root folder is where it starts, not a wall around it.
    """
    root = desk.root(run.call.tenant)
    environment = _environment(env or {}, root)
    with root.open_folder(cwd) as folder_fd:
        command = Command(
            program=_find_program(argv, root, cwd, environment),
            argv=[_encoded(argument, "argv") for argument in argv],
            environment={os.fsencode(name): _encoded(value, f"env {name}") for name, value in environment.items()},
            folder_fd=folder_fd,
            stdin=None if stdin is None else stdin.encode("utf-8", "surrogateescape"),
            timeout_s=min(timeout_s, max(0.1, run.remaining_s() - _RESERVE_S)),
            max_output_bytes=min(max_output_bytes, desk.max_output_bytes),
        )
        run.executed_on(socket.gethostname())
        ended = await run_watched(command, run.begin_effect_async)
    return _result(ended, argv[0], command.timeout_s)


def _environment(wanted: Mapping[str, str], root: Confined) -> dict[str, str]:
    for name in wanted:
        if not _VARIABLE.fullmatch(name):
            raise _invalid(f"{shown(name)} is not a variable's name")
        if _STEERING.fullmatch(name):
            raise OperationFailed(
                f"env {name} would make other programs run; name them in argv", code="env_refused", before_effect=True
            )
    if sum(len(name) + len(value) for name, value in wanted.items()) > _ENVIRONMENT_MAX_BYTES:
        raise _invalid(f"env is larger than {_ENVIRONMENT_MAX_BYTES} bytes")
    handed_on = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    fixed = {"PATH": os.environ.get("PATH", _DEFAULT_PATH), "HOME": str(root.root), "TERM": "dumb"}
    return {"LANG": "C.UTF-8"} | handed_on | fixed | dict(wanted)


def _find_program(argv: Sequence[str], root: Confined, cwd: str, environment: Mapping[str, str]) -> bytes:
    name = argv[0]
    raw = _encoded(name, "argv")
    if not name:
        raise _invalid("argv[0], the program, is empty")
    if "/" not in name:
        found = shutil.which(name, path=environment["PATH"])
        if found is None or not os.path.isabs(found):
            raise OperationFailed(
                f"there is no program {shown(name)} on the worker's PATH; install it or give its path",
                code="not_found",
                before_effect=True,
            )
        return os.fsencode(found)
    if name.startswith("/"):
        if not os.path.isfile(name):
            raise OperationFailed(f"there is no program {shown(name)}", code="not_found", before_effect=True)
        executable = os.access(name, os.X_OK)
    else:
        with root.open_file(posixpath.join(cwd, name)) as fd:
            executable = bool(os.fstat(fd).st_mode & 0o111)
    if not executable:
        raise _not_executable(name)
    return raw


def _encoded(text: str, what: str) -> bytes:
    if "\0" in text:
        raise _invalid(f"{what} contains a NUL character")
    try:
        return os.fsencode(text)
    except UnicodeEncodeError as error:
        raise _invalid(f"{what} contains half of a surrogate pair") from error


def _result(ended: Ended, program: str, timeout_s: float) -> CommandResult:
    if ended.exec_errno is not None:
        raise _not_executable(program, os.strerror(ended.exec_errno))
    result = CommandResult(
        exit_code=ended.exit_code,
        signal=None if ended.signal is None else _signal_name(ended.signal),
        stdout=ended.stdout.text(),
        stderr=ended.stderr.text(),
        stdout_truncated=ended.stdout.dropped_bytes > 0,
        stderr_truncated=ended.stderr.dropped_bytes > 0,
        stdout_dropped_bytes=ended.stdout.dropped_bytes,
        stderr_dropped_bytes=ended.stderr.dropped_bytes,
        ran_s=round(ended.ran_s, 4),
    )
    if ended.timed_out:
        raise OperationFailed(
            f"{shown(program)} ran longer than {timeout_s:g} s and was killed; give it more timeout_s or less to do",
            code="time_limit",
            timed_out=True,
            **msgspec.to_builtins(result),
        )
    return result


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # a real-time signal has no name


def _invalid(why: str) -> OperationFailed:
    return OperationFailed(why, code="invalid_command", before_effect=True)


def _not_executable(program: str, why: str = "its mode forbids it") -> OperationFailed:
    return OperationFailed(
        f"{shown(program)} cannot be executed ({why}); check its mode and its first line",
        code="not_executable",
        before_effect=True,
    )
