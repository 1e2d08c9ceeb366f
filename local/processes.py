"""What the kernel says of our processes: who belongs to a session, and how much memory it holds."""

import os
import sys
from pathlib import Path

from local.guard import sessions_of


def session_pids(leader: int) -> list[int]:
    """The processes of the leader's session: the service and the children that did not leave it."""
    return sessions_of([leader])


def memory_bytes(leader: int) -> int | None:
    """Proportional set size of everything in the session (shared pages are divided among their sharers).

    None where the kernel does not tell.
    """
    return sum_memory(session_pids(leader))


def sum_memory(pids: list[int]) -> int | None:
    """Proportional set size of the processes together; None where the kernel does not tell of any."""
    sizes = [size for size in map(_pss_bytes, pids) if size is not None]
    return sum(sizes) if sizes else None


def is_alive(pid: int) -> bool:
    """Whether a process with this id exists and has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not (sys.platform == "linux" and _state(pid) in ("Z", "X", ""))


def command_of(pid: int) -> str:
    """The command line of a process in one line, or an empty string when it is not ours to see."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return " ".join(part.decode(errors="replace") for part in raw.split(b"\0") if part)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _pss_bytes(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)
