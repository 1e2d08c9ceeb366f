"""The process that forks watchers, one for each command: a fork is twenty times cheaper than a new Python.

It is started by the worker (`tasks.desktop.keeping`) and ends with it. As the subreaper above all watchers it inherits
the processes of one that was killed, and kills them: so a command has two guards, and outlives neither.

Standard input is a socket from the worker; each message on it is the name of the command's temporary folder, and
carries the descriptors of one command (`tasks.sandbox.watcher.Descriptors`).
"""

import gc
import os
import select
import signal
import socket
import sys
from array import array
from collections.abc import Sequence
from typing import NoReturn

from tasks.sandbox.confine import prepare
from tasks.sandbox.processes import kill_descendants
from tasks.sandbox.remove import remove_folder
from tasks.sandbox.watcher import PR_SET_CHILD_SUBREAPER, Descriptors, libc, watch

DESCRIPTORS = 7
_MESSAGE_BYTES = 4096
_HIGHEST_DESCRIPTOR = 1_048_576
_ORPHANS_EVERY_S = 0.002


def main() -> None:
    """Serve the worker until it is gone, and then until no watcher is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # only the end of the socket ends us
    os.closerange(3, _HIGHEST_DESCRIPTOR)  # whatever the worker was started with is nothing for a command
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    prepare()
    gc.collect()
    gc.freeze()  # else each fork would copy what the collector only looks at
    with socket.socket(fileno=os.dup(0)) as worker:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        _Keeper(worker).run()


class _Keeper:
    def __init__(self, worker: socket.socket) -> None:
        self._worker = worker
        self._watchers: dict[int, str] = {}
        """Process -> the temporary folder of its command."""
        self._abandoned: list[str] = []
        """The temporary folders of commands whose watcher was killed."""
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, _ignore)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def run(self) -> None:
        """Until the worker is gone, and then until nothing is left to watch."""
        poll = select.poll()
        poll.register(self._worker, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        serves = True
        while serves or self._watchers or self._abandoned:
            ready = {fd for fd, _ in poll.poll(_ORPHANS_EVERY_S * 1000 if self._abandoned else None)}
            if self._woken in ready:
                os.read(self._woken, 4096)
            self._reap()
            if self._abandoned:
                self._end_orphans()
            if serves and self._worker.fileno() in ready and not self._serve():
                serves = False
                poll.unregister(self._worker)

    def _serve(self) -> bool:
        """Take one request; False when the worker is gone."""
        try:
            message, fds = self._receive()
        except ConnectionResetError:
            return False
        if not message:
            return False
        if len(fds) == DESCRIPTORS:
            pid = os.fork()
            if pid == 0:
                self._watch(Descriptors(*fds))
            self._watchers[pid] = os.fsdecode(message)
        for fd in fds:
            os.close(fd)
        return True

    def _receive(self) -> tuple[bytes, Sequence[int]]:
        # Not socket.recv_fds: that ignores its flags, and each command would inherit the descriptors.
        message, parts, _, _ = self._worker.recvmsg(
            _MESSAGE_BYTES, socket.CMSG_LEN(DESCRIPTORS * array("i").itemsize), socket.MSG_CMSG_CLOEXEC
        )
        fds = array("i")
        for level, kind, data in parts:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        return message, fds.tolist()

    def _watch(self, given: Descriptors) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in (self._worker.detach(), self._woken, self._wake):
                os.close(fd)
            watch(given)
            code = 0
        except OSError as error:
            _complain(error)
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            temporary = self._watchers.pop(pid, "")
            if temporary and status != 0:
                self._abandoned.append(temporary)

    def _end_orphans(self) -> None:
        """Kill what a lost watcher has left to us; all that is ours and no watcher's."""
        if kill_descendants(skip=frozenset(self._watchers)):
            return  # they are reaped, and what they have started meanwhile is found, in the next round
        for temporary in self._abandoned:
            try:
                remove_folder(temporary)
            except OSError as error:
                _complain(error)
        self._abandoned.clear()


def _complain(error: OSError) -> None:
    sys.stderr.write(f"keeper of commands: {error}\n")
    sys.stderr.flush()


def _ignore(number: int, frame: object) -> None:
    """The wake-up descriptor says that a child has ended."""
