"""What is to be run on a host, checked and put into the one line that SSH carries.

The line is for the login shell (a POSIX one), so everything that varies is quoted into it as arguments of a fixed
script. The environment goes over standard input instead: arguments can be seen by everybody on the host.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tasks.confined import shown
from tasks.droplet.inventory import HostEntry
from tasks.droplet.remote_script import CLEAN, KILL, LIST, POLL, RUN, STATUS
from toolswarm.errors import OperationFailed

_LONGEST_LINE_BYTES = 120_000
"""A shell takes one argument of 128 KiB."""
_LARGEST_ENV_BYTES = 65_536
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_TICKS_PER_S = 5
_GUARD_EXTRA_S = 5.0
"""The host's own guard ends a run so much later than we do: it is for when we cannot. Jobs have nobody else."""


class Mode(StrEnum):
    """What a delivery may do on the host."""

    FIRST = "first"
    """Run it; where no claim can be made, without one."""
    AGAIN = "again"
    """Run it unless somebody has; where no claim can be made, do nothing."""
    PROBE = "probe"
    """Look whether somebody has, and wait for that."""
    JOB = "job"
    """Run it in the background."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """One command, wherever it is run."""

    argv: tuple[str, ...]
    cwd: str | None
    env: bytes
    """One line of assignments, quoted for a shell; empty: nothing is set."""
    stdin: bytes
    timeout_s: float
    max_output_bytes: int

    def line(self, mark: str, *, place: "Place", mode: Mode, info: str = "-") -> str:
        """What is sent; `info` is one word for whoever looks at the run later."""
        extra_s = 0.0 if mode is Mode.JOB else _GUARD_EXTRA_S
        ticks = int((self.timeout_s + extra_s) * _TICKS_PER_S) + 1
        cwd = "" if self.cwd is None else self.cwd if self.cwd.startswith("/") else f"./{self.cwd}"
        written = str(place.max_written_bytes)
        varying = (place.folder, place.run_id, mode, str(ticks), written, cwd, "1" if self.env else "")
        return _line(RUN, mark, *varying, str(len(self.stdin)), info, *self.argv)

    @property
    def input(self) -> bytes:
        """What goes over standard input."""
        return self.env + self.stdin


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where on the host a run leaves its files."""

    folder: str
    run_id: str
    max_written_bytes: int
    kept_s: float
    """How long what is left there may be needed."""


@dataclass(frozen=True, kw_only=True)
class Errand:
    """An order, on its way to one host."""

    host: HostEntry
    order: Order
    place: Place


def order(
    argv: Sequence[str] | None,
    script: str | None,
    *,
    cwd: str | None,
    env: Mapping[str, str] | None,
    stdin: str | None,
    timeout_s: float,
    max_output_bytes: int = 0,
) -> Order:
    """Check what the caller wants.

    Raises:
        OperationFailed: `invalid_command`.
    """
    if (argv is None) == (script is None):
        raise invalid("give either argv or script")
    words = tuple(argv) if argv is not None else ("sh", "-c", script or "")
    for what, text in (*(("argv" if argv is not None else "script", word) for word in words), ("cwd", cwd or "")):
        _check_text(what, text)
    if not words or not words[0] or words[0].startswith("-"):
        raise invalid("argv[0] must be a program, neither empty nor an option")
    return Order(
        argv=words,
        cwd=cwd,
        env=_assignments(env or {}),
        stdin=b"" if stdin is None else stdin.encode("utf-8", "surrogateescape"),
        timeout_s=timeout_s,
        max_output_bytes=max_output_bytes,
    )


def kill_line(place: Place, words: Sequence[str], *, why: str) -> str:
    """Ends a run; `words` are owner, session and command of one that has left no claim."""
    owner, session, command = words if len(words) == 3 else ("-", "-", "-")
    return "exec sh -c " + shlex.join((KILL, "toolswarm", place.folder, place.run_id, owner, session, command, why))


def clean_line(folder: str, older_than_s: float) -> str:
    """Removes what runs left longer ago than that."""
    return "exec sh -c " + shlex.join((CLEAN, "toolswarm", folder, str(int(older_than_s // 60) + 1)))


def poll_line(mark: str, place: Place, *, stdout_offset: int, stderr_offset: int, max_bytes: int) -> str:
    """Tells the state of a job, and its outputs from these offsets on."""
    numbers = (str(stdout_offset + 1), str(stderr_offset + 1), str(max_bytes))
    return _line(POLL, mark, place.folder, place.run_id, *numbers)


def list_line(mark: str, folder: str) -> str:
    """Tells the state of all jobs in a folder."""
    return _line(LIST, mark, folder, "")


def status_line(mark: str) -> str:
    """Tells how the host is."""
    return _line(STATUS, mark, "/", "")


def invalid(why: str) -> OperationFailed:
    """Nothing is sent."""
    return OperationFailed(why, code="invalid_command", before_effect=True)


_QUOTED = {script: f"exec sh -c {shlex.quote(script)} toolswarm " for script in (RUN, POLL, LIST, STATUS)}


def _line(script: str, *arguments: str) -> str:
    line = _QUOTED[script] + shlex.join(arguments)
    if len(line.encode()) > _LONGEST_LINE_BYTES:
        raise invalid(f"the command is longer than {_LONGEST_LINE_BYTES} bytes; send data through stdin")
    return line


def _check_text(what: str, text: str) -> None:
    if "\0" in text:  # a server drops the whole connection for it, and with it all other commands
        raise invalid(f"{what} contains a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise invalid(f"{what} contains half of a surrogate pair") from error


def _assignments(env: Mapping[str, str]) -> bytes:
    if not env:
        return b""
    parts: list[str] = []
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name):
            raise invalid(f"env: {shown(name)} cannot be the name of a variable")
        _check_text(f"env {name}", value)
        # It has to stay one line: the script has a newline in a variable of its own.
        parts.append(f"{name}=" + shlex.quote(value).replace("\n", "'\"$_n\"'"))
    line = " ".join(parts).encode()
    if len(line) > _LARGEST_ENV_BYTES:
        raise invalid(f"env is larger than {_LARGEST_ENV_BYTES} bytes; send data through stdin")
    return line + b"\n"
