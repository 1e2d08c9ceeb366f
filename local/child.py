"""One child process: started in a session of its own, and bound to the life of this process.

Linux kills a child when the thread that started it dies (PR_SET_PDEATHSIG), so children must be started from the main
thread. The kernel forgets grandchildren; `guard.py` reaches those, and is the only means on other systems.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from local.guard import kill_sessions

_PR_SET_PDEATHSIG = 1


class Guard:
    """The running watchdog; started again when somebody kills it."""

    def __init__(self, claims: Sequence[Path]) -> None:
        self._claims = [str(claim) for claim in claims]
        self._leaders: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> bool:
        """Start it and tell it of the children there are, unless it runs; whether it was started."""
        if self._process is not None and self._process.poll() is None:
            return False
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        script = str(Path(__file__).with_name("guard.py"))
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", script, *self._claims],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )
        for pid in self._leaders:
            self._tell(b"+%d\n" % pid)
        return True

    def watch(self, pid: int) -> None:
        """Tell it that the session of `pid` now exists."""
        self._leaders.add(pid)
        self._tell(b"+%d\n" % pid)

    def forget(self, pid: int) -> None:
        """Tell it that the session of `pid` is empty."""
        self._leaders.discard(pid)
        self._tell(b"-%d\n" % pid)

    def stop(self) -> None:
        """End it; call this when all children are gone."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _tell(self, line: bytes) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(line)
        except BrokenPipeError:
            self.start()  # it was killed; the new one is told of everybody


class Child:
    """A started process, leader of its own session."""

    def __init__(self, process: subprocess.Popen[bytes], guard: Guard) -> None:
        self._process = process
        self._guard = guard
        self.pid = process.pid
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        guard.watch(self.pid)

    def poll(self) -> None:
        """Notice that it has ended; called on SIGCHLD."""
        code = self._process.poll()
        if code is not None and not self.exited.done():
            kill_sessions([self.pid])  # what it left behind in its session ends with it
            self._guard.forget(self.pid)
            self.exited.set_result(code)

    def send(self, number: signal.Signals) -> None:
        """Signal the process itself, unless it has ended."""
        if not self.exited.done():
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the process and everything in its session."""
        if not self.exited.done():
            kill_sessions([self.pid])


def spawn(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    log: IO[bytes],
    guard: Guard,
    keep_open: Sequence[int] = (),
) -> Child:
    """Start a child that writes to `log` and inherits the descriptors in `keep_open`.

    Raises:
        OSError: the program cannot be started.
    """
    process = subprocess.Popen(
        list(argv),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        pass_fds=tuple(keep_open),
        preexec_fn=_die_with(os.getpid()),  # safe: this process has one thread
    )
    return Child(process, guard)


def _die_with(parent: int) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def bind() -> None:
        if prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(127)  # without the promise, or with the parent dead already, better not to run

    return bind
