"""The process between a worker and a command: nothing of the command outlives it, or the worker.

It is forked by the keeper (`tasks.sandbox.keeper`), which takes its place should it be killed. The worker holds the
one other end of its control socket: when that closes, also because the worker was killed, the command's whole tree is
killed. As the subreaper of that tree, the watcher inherits every process that loses its parent, so one that left the
process group by `setsid` or a double fork is found, too. When the command itself ends, what it left behind is ended.

From the worker, in this order: START; then any number of SIGNAL and a number (one byte); STOP means SIGTERM, and
SIGKILL after the grace. The end of the socket means SIGKILL at once, or never to start.

To the worker, in lines: `ready ABI METADATA`, when all is prepared and confined, or `refused SETTING WHY` (the setting
that would help, or `-`); `begun`, when the program is being run, or `exec ERRNO` before it; `crowded` when it is killed
for its number of processes; `ran MICROSECONDS` and `exit CODE` or `signal NUMBER`; and `gone` when nothing of it is
left, its temporary folder neither.
"""

import ctypes
import fcntl
import os
import select
import signal
import termios
import time
from typing import NamedTuple

from tasks.sandbox.confine import InForce, Refused, confine
from tasks.sandbox.processes import descendants, kill, kill_descendants, running_on_machine
from tasks.sandbox.remove import remove_folder
from tasks.sandbox.request import Request, read_request

START = b"g"
STOP = b"s"
SIGNAL = b"k"
_PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_STRAGGLER_GRACE_S = 0.2
"""How long what a finished command left behind may take after SIGTERM."""
_COUNT_EVERY_S = 0.05
_RESET = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD),
    *(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
)
"""Python or we have changed them; an ignored signal would stay ignored in the command."""
libc = ctypes.CDLL(None, use_errno=True)


class Descriptors(NamedTuple):
    """What the keeper hands on for one command."""

    control: int
    request: int
    root: int
    folder: int
    stdin: int
    stdout: int
    stderr: int

    def close_for_watcher(self) -> None:
        """Give the streams to the command alone, so that their end is the command's end."""
        for fd in (self.request, self.root, self.folder, self.stdin, self.stdout, self.stderr):
            os.close(fd)


def watch(given: Descriptors) -> None:
    """Run the request, and see it end."""
    os.setsid()
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    request = read_request(given.request)
    try:
        os.mkdir(request.temporary, 0o700)
    except OSError as error:
        why = Refused(f"its temporary folder {request.temporary} cannot be made: {error.strerror}", setting="TMPDIR")
        os.write(given.control, _refusal(why))
        return
    try:
        go, begun = os.pipe(), os.pipe()
        pid = _fork_command(request, given, go[0])
        os.close(go[0])
        os.close(begun[1])  # the command's copy closes when it is executed
        given.close_for_watcher()
        watcher = _Watcher(request, pid, given.control, go=go[1], begun=begun[0])
        watcher.run()
    finally:
        remove_folder(request.temporary)
    watcher.say_gone()


def _refusal(error: Refused) -> bytes:
    return f"refused {error.setting or '-'} {error}\n".encode(errors="backslashreplace")


def _fork_command(request: Request, given: Descriptors, go: int) -> int:
    watcher = os.getpid()
    pid = os.fork()
    if pid != 0:
        return pid
    try:
        in_force = _become_command(request, given, watcher)
        os.write(given.control, f"ready {in_force.abi} {in_force.metadata}\n".encode())
        if os.read(go, 1) == START:
            os.execve(request.program, list(request.argv), request.environment)  # noqa: S606 (no shell, on purpose)
    except Refused as error:
        os.write(given.control, _refusal(error))
    except OSError as error:
        os.write(given.control, b"exec %d\n" % (error.errno or 0))
    finally:
        os._exit(127)


def _become_command(request: Request, given: Descriptors, watcher: int) -> InForce:
    """Everything but the program itself; every descriptor but the three streams closes when that is executed."""
    try:
        os.setsid()
        for number, fd in enumerate((given.stdin, given.stdout, given.stderr)):
            os.dup2(fd, number)
        if request.terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        in_force = confine(request, root=given.root, folder=given.folder)
    except OSError as error:
        raise Refused(f"it could not be prepared: {error.strerror}") from error
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # should the command's first act be to kill its watcher
    if os.getppid() != watcher:
        raise Refused("its watcher was killed")
    for handled in _RESET:
        signal.signal(handled, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return in_force


class _Watcher:
    """One command from its start to the end of its last descendant."""

    def __init__(self, request: Request, pid: int, control: int, *, go: int, begun: int) -> None:
        self._request = request
        self._pid = pid
        self._control = control
        self._go = go
        self._begun = begun
        self._began = time.monotonic()
        self._running_before = running_on_machine()

    def run(self) -> None:
        """Until no process is left."""
        grace_s = {"lost": 0.0, "stop": self._request.grace_s, "crowded": 0.0, "ended": _STRAGGLER_GRACE_S}[
            self._wait()
        ]
        self._end_tree(grace_s)

    def say_gone(self) -> None:
        """Tell that nothing of it is left."""
        self._say(b"gone\n")

    def _wait(self) -> str:
        """Until the command ends, its end is asked for, the worker is gone, or there are too many processes."""
        poll = select.poll()
        ended = os.pidfd_open(self._pid)
        poll.register(ended, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        poll.register(self._begun, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll(_COUNT_EVERY_S * 1000)}
            if self._begun in ready:
                poll.unregister(self._begun)
                self._say(b"begun\n")
            if ended in ready:
                return "ended"
            if self._control in ready:
                word = self._hear()
                if word:
                    return word
            if self._is_crowded():
                self._say(b"crowded\n")
                return "crowded"

    def _hear(self) -> str:
        try:
            word = os.read(self._control, 1)
            if word == START:
                self._began = time.monotonic()
                os.write(self._go, START)
            elif word == SIGNAL:
                kill(-self._pid, os.read(self._control, 1)[0])
            else:
                return "stop" if word == STOP else "lost"
        except (ConnectionResetError, BrokenPipeError):
            return "lost"
        return ""

    def _is_crowded(self) -> bool:
        # One look at the machine's total tells for almost nothing that there cannot be too many of ours.
        running = running_on_machine()
        if running - self._running_before <= self._request.processes:
            return False
        own = len(descendants())
        self._running_before = running - own
        return own > self._request.processes

    def _end_tree(self, grace_s: float) -> None:
        """Kill the group and every descendant, reap them all, and report how the command itself ended."""
        kill_at = time.monotonic() + grace_s
        asked = False
        self._reap()
        while _has_children():
            if time.monotonic() >= kill_at:
                kill_descendants()
            elif not asked:
                asked = True
                self._ask_to_end()
            time.sleep(0.002)
            self._reap()

    def _ask_to_end(self) -> None:
        numbers = (signal.SIGTERM, signal.SIGHUP) if self._request.terminal else (signal.SIGTERM,)
        for process in descendants():
            for number in (*numbers, signal.SIGCONT):  # a stopped process hears nothing
                kill(process.pid, number)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._pid:
                ran_us = (time.monotonic() - self._began) * 1e6
                code = os.waitstatus_to_exitcode(status)
                word = b"exit %d" % code if code >= 0 else b"signal %d" % -code
                self._say(b"ran %d\n%s\n" % (ran_us, word))

    def _say(self, line: bytes) -> None:
        try:
            os.write(self._control, line)
        except (ConnectionResetError, BrokenPipeError):
            return  # the worker is gone: nobody is left to tell


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
