"""The process between a worker and the command it runs: nothing of the command outlives it, or the worker.

It runs as a program of its own (standard library only, `python -I -S`): the worker holds the one writing end of a
pipe, and when that end closes, also because the worker was killed, the command's whole tree is killed. As the
subreaper of that tree, the watcher inherits every process that loses its parent, so one that left the process group
by `setsid` or a double fork is found, too. When the command itself ends, what it left behind is ended as well.

Arguments: descriptors of the control pipe, of the request (program, folder, arguments, environment: a memory file
that also takes the report) and of the working folder, and the grace in seconds. On the pipe, START must come
first; then STOP means SIGTERM, and SIGKILL after the grace; the pipe's end means SIGKILL at once, or never to start.

The report, in the request's place, one line each: `started PID`, then `ran MICROSECONDS` and `exit CODE` or
`signal NUMBER`; before them `exec ERRNO` when it could not be executed.
"""

import ctypes
import os
import resource
import select
import signal
import sys
import time

SEPARATOR = b"\0"
START = b"g"
STOP = b"s"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_STRAGGLER_GRACE_S = 0.2
"""How long what a finished command left behind may take after SIGTERM."""
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Run the request, and see it end."""
    control, request_fd, folder = (int(argument) for argument in sys.argv[1:4])
    grace_s = float(sys.argv[4])
    for fd in (control, request_fd, folder):
        os.set_inheritable(fd, False)
    program, argv, environment = _read(request_fd)
    _prepare(folder)
    if os.read(control, 1) != START:
        return
    began = time.monotonic()
    pid = _start(program, argv, environment=environment, report=request_fd)
    _close_standard_streams()
    asked = _wait(pid, control)
    kill_after_s = {"lost": 0.0, "stop": grace_s, "ended": _STRAGGLER_GRACE_S}[asked]
    _end_tree(_Leader(pid, began=began, report=request_fd), kill_after_s)


def _read(request_fd: int) -> tuple[bytes, list[bytes], dict[bytes, bytes]]:
    raw = os.pread(request_fd, os.fstat(request_fd).st_size, 0)
    os.ftruncate(request_fd, 0)
    os.lseek(request_fd, 0, os.SEEK_SET)
    program, count, *rest = raw.split(SEPARATOR)
    argv, pairs = rest[: int(count)], rest[int(count) :]
    return program, argv, dict(pair.split(b"=", 1) for pair in pairs)


def _set(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def _prepare(folder: int) -> None:
    _set(_PR_SET_CHILD_SUBREAPER, 1)
    _set(_PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.fchdir(folder)


def _start(program: bytes, argv: list[bytes], *, environment: dict[bytes, bytes], report: int) -> int:
    watcher = os.getpid()
    pid = os.fork()
    if pid != 0:
        return pid
    try:
        os.setsid()
        _set(_PR_SET_PDEATHSIG, signal.SIGKILL)  # should the command's first act be to kill its watcher
        # Before the command begins, so that the worker can end its group without the watcher.
        os.write(report, b"started %d\n" % os.getpid())
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):  # Python has changed them
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if os.getppid() == watcher:
            os.execve(program, argv, environment)  # noqa: S606 (no shell, on purpose)
    except OSError as error:
        os.write(report, b"exec %d\n" % (error.errno or 0))
    finally:
        os._exit(127)


def _close_standard_streams() -> None:
    """Give the pipes to the command alone, so that their end is the command's end."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)


def _wait(pid: int, control: int) -> str:
    """Until the command ends (`ended`), the worker asks for its end (`stop`), or is gone (`lost`)."""
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(control, select.POLLIN)
    ready = {fd for fd, _ in poll.poll()}
    if ended in ready:
        return "ended"
    return "stop" if os.read(control, 1) else "lost"


class _Leader:
    """The command itself; its end goes into the report."""

    def __init__(self, pid: int, *, began: float, report: int) -> None:
        self.pid = pid
        self._began = began
        self._report = report

    def ended(self, status: int) -> None:
        ran_us = (time.monotonic() - self._began) * 1e6
        code = os.waitstatus_to_exitcode(status)
        word = b"exit %d" % code if code >= 0 else b"signal %d" % -code
        os.write(self._report, b"ran %d\n%s\n" % (ran_us, word))


def _end_tree(leader: _Leader, grace_s: float) -> None:
    """Kill the group and every descendant, reap them all, and report how the command itself ended."""
    kill_at = time.monotonic() + grace_s
    last = 0
    _reap_all(leader)
    while _has_children():
        number = signal.SIGKILL if time.monotonic() >= kill_at else signal.SIGTERM
        if number != last or number == signal.SIGKILL:
            for pid in _descendants():
                _kill(pid, number)
            last = number
        time.sleep(0.005)
        _reap_all(leader)


def _reap_all(leader: _Leader) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid == leader.pid:
            leader.ended(status)


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _descendants() -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    front = [os.getpid()]
    while front:
        inner = children.get(front.pop(), [])
        found += inner
        front += inner
    return found


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # gone already, or not ours to kill: the wait goes on until it ends


if __name__ == "__main__":
    main()
