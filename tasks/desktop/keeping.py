"""The worker's side of the keeper (`tasks.sandbox.keeper`): one for each process, started when it is first needed."""

import asyncio
import errno
import os
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tasks.sandbox.watcher import Descriptors
from toolswarm.errors import OperationFailed

_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from tasks.sandbox.keeper import main; main()"
_FOLDER = str(Path(__file__).parents[2])
_FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS)
_TRIES = 400
_PAUSE_S = 0.005


class _Keeper:
    """A started keeper; it ends when our end of its socket is closed."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-c", _PROGRAM, _FOLDER, "toolswarm-keeper"],
                {"TMPDIR": tempfile.gettempdir()},  # whatever else we have been given is nothing for a command
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                ],
                setsid=True,
            )
        self.fd = ours.detach()

    def send(self, message: bytes, fds: list[int]) -> None:
        with socket.socket(fileno=self.fd) as connection:
            try:
                socket.send_fds(connection, [message], fds)
            finally:
                connection.detach()

    def close(self) -> None:
        os.close(self.fd)


_keepers: dict[int, _Keeper] = {}
"""Our process -> its keeper: a forked child has its own."""


def _forget_in_child() -> None:
    for keeper in _keepers.values():
        keeper.close()  # held open here, it would keep the parent's commands alive when the parent is gone
    _keepers.clear()


os.register_at_fork(after_in_child=_forget_in_child)


def keeper_pid() -> int | None:
    """The process of this process' keeper, when there is one."""
    keeper = _keepers.get(os.getpid())
    return None if keeper is None else keeper.pid


async def hand_over(given: Descriptors, temporary: str) -> None:
    """Have a watcher forked for one command; the descriptors stay ours to close.

    Raises:
        OperationFailed: `overloaded` when so many commands are being started that the keeper takes no more.
    """
    fds = [given.control, given.request, given.root, given.folder, given.stdin, given.stdout, given.stderr]
    for _ in range(_TRIES):
        keeper = _keepers.get(os.getpid())
        if keeper is None:
            keeper = _keepers[os.getpid()] = _Keeper()
        try:
            keeper.send(os.fsencode(temporary), fds)
            return
        except (BrokenPipeError, ConnectionResetError):
            _forget(keeper)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            await asyncio.sleep(_PAUSE_S)
    raise OperationFailed(
        "too many commands are being started; try again later", code="overloaded", retryable=True, before_effect=True
    )


def _forget(keeper: _Keeper) -> None:
    """Let go of a keeper that was killed; the next command starts another."""
    del _keepers[os.getpid()]
    keeper.close()
    with suppress(ProcessLookupError, ChildProcessError):  # whoever reaps all children of this process has done so
        os.kill(keeper.pid, signal.SIGKILL)
        os.waitpid(keeper.pid, 0)
