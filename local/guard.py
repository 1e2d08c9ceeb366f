"""The watchdog beside the supervisor: when the supervisor is gone, however it died, nothing that it started is left.

Runs as a process of its own, started by path with `-I -S`, and uses the standard library alone so that it stays small.
Standard input is a pipe from the supervisor that nobody else holds: a line `+PID` or `-PID` says that a child (leader
of its own session) came or went, and the end of the pipe says that the supervisor is dead. Then the whole session of
each child is killed, which reaches the grandchildren that the kernel's parent-death signal does not, and the files
given as arguments, which would claim that the system still runs, are removed.
"""

import os
import signal
import sys
from collections.abc import Iterable


def sessions_of(leaders: Iterable[int]) -> list[int]:
    """The processes that live in the session of one of the leaders, oldest first."""
    wanted = set(leaders)
    if not os.path.isdir("/proc/self"):
        return []
    found: list[int] = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if int(fields[3]) in wanted:
            found.append(int(name))
    return sorted(found)


def kill_sessions(leaders: Iterable[int]) -> None:
    """Kill every process in the sessions of the leaders, until none is left that could start another."""
    remaining = set(leaders)
    for _ in range(20):  # a process may fork between our look and our kill; each round sees those of the last one
        members = [pid for pid in sessions_of(remaining) if not _is_dead(pid)]
        for pid in members:
            _send(pid, signal.SIGKILL)
        for leader in remaining:
            _send(-leader, signal.SIGKILL)  # the process group: all there is without /proc
        if not members:
            return


def _is_dead(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return True


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # gone; PermissionError is what macOS says of a group that holds only zombies


def main(claims: list[str]) -> None:
    """Listen until the supervisor is gone, then clean up after it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the end of the pipe ends us
    leaders: set[int] = set()
    with open(0, "rb", buffering=0, closefd=False) as pipe:
        pending = b""
        while chunk := pipe.read(4096):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                pid = int(line[1:])
                (leaders.add if line[:1] == b"+" else leaders.discard)(pid)
    if leaders:
        kill_sessions(leaders)
        for claim in claims:
            try:
                os.unlink(claim)
            except FileNotFoundError:
                continue


if __name__ == "__main__":
    main(sys.argv[1:])
