"""Finding and ending processes by /proc: the descendants of this one, whatever session or group they moved to."""

import os
import signal
from typing import NamedTuple


class Found(NamedTuple):
    """A process and its process group."""

    pid: int
    group: int


def descendants(skip: frozenset[int] = frozenset()) -> list[Found]:
    """All processes that come from this one, without those in `skip` and what comes from them."""
    children: dict[int, list[Found]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(Found(int(name), int(fields[2])))
    found: list[Found] = []
    front = [os.getpid()]
    while front:
        inner = [process for process in children.get(front.pop(), []) if process.pid not in skip]
        found += inner
        front += [process.pid for process in inner]
    return found


def kill_descendants(skip: frozenset[int] = frozenset()) -> bool:
    """Send SIGKILL to all of them; says whether there were any. Those that they start meanwhile need another round."""
    found = descendants(skip)
    for group in {process.group for process in found} - {os.getpgrp()}:
        kill(-group, signal.SIGKILL)  # the kernel lets nobody fork out of a group while it kills it
    for process in found:
        kill(process.pid, signal.SIGKILL)
    return bool(found)


def kill(pid: int, number: int) -> None:
    """Send a signal to whatever of the process (or group, when negative) is still there."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # gone already, or not ours to kill: whoever waits for its end goes on waiting


def running_on_machine() -> int:
    """How many processes and threads there are on the whole machine."""
    with open("/proc/loadavg", "rb") as file:
        return int(file.read().split()[3].split(b"/")[1])
