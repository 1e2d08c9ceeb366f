"""Running one command under a watcher (see `tasks.desktop.watcher`), from the worker's event loop."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from tasks.desktop import watcher
from tasks.output import CappedOutput
from toolswarm.errors import OperationFailed

GRACE_S = 2.0
"""Between SIGTERM and SIGKILL."""
_WORDS = ("started", "ran", "exit", "signal", "exec")
_SETTLE_S = 3.0
"""How long the watcher may take beyond the grace, and the pipes beyond the watcher, before we stop waiting for them."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run; all of it checked."""

    program: bytes
    argv: Sequence[bytes]
    environment: Mapping[bytes, bytes]
    folder_fd: int
    stdin: bytes | None
    timeout_s: float
    max_output_bytes: int


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How it ended: `exit_code`, or `signal` (its number), or `exec_errno` when it could not be started."""

    exit_code: int | None = None
    signal: int | None = None
    exec_errno: int | None = None
    timed_out: bool
    ran_s: float
    stdout: CappedOutput
    stderr: CappedOutput


async def run_watched(command: Command, before_start: Callable[[], Awaitable[None]]) -> Ended:
    """Run the command to its end, its time limit, or our cancellation; then nothing of it is left.

    `before_start` is awaited when all is ready; when it raises, the command has not been started and never will be.

    Raises:
        OperationFailed: `watcher_lost` when the command's watcher was killed, so that its end was not seen.
    """
    control_read, control_write = os.pipe()
    request = _request(command)
    try:
        watching = _Watching(command.max_output_bytes)
        loop = asyncio.get_running_loop()
        fds = (control_read, request, command.folder_fd)
        try:
            transport, _ = await loop.subprocess_exec(
                lambda: watching,
                *(sys.executable, "-I", "-S", watcher.__file__, *map(str, fds), str(GRACE_S)),
                stdin=asyncio.subprocess.DEVNULL if command.stdin is None else asyncio.subprocess.PIPE,
                pass_fds=fds,
                env={},
                start_new_session=True,
            )
        finally:
            os.close(control_read)  # else a write to a dead watcher would look like a success
        try:
            await before_start()
            _tell(control_write, watcher.START)
            _feed(transport, command.stdin)
            await asyncio.wait((watching.exited,), timeout=command.timeout_s)
            timed_out = not watching.exited.done()
        finally:
            if not watching.exited.done():
                _tell(control_write, watcher.STOP)  # also the first word, when it is not to start at all
            await _settle(transport, watching, request)
        return _ended(request, watching, timed_out)
    finally:
        os.close(request)
        os.close(control_write)


class _Watching(asyncio.SubprocessProtocol):
    """Takes the output as it comes."""

    def __init__(self, limit_bytes: int) -> None:
        self.outputs = {1: CappedOutput(limit_bytes), 2: CappedOutput(limit_bytes)}
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.outputs[fd].add(data)

    def process_exited(self) -> None:
        self.exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)


def _request(command: Command) -> int:
    pairs = [name + b"=" + value for name, value in command.environment.items()]
    raw = watcher.SEPARATOR.join([command.program, b"%d" % len(command.argv), *command.argv, *pairs])
    fd = os.memfd_create("command", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(raw)
    return fd


def _tell(control: int, word: bytes) -> None:
    with suppress(BrokenPipeError):  # the watcher is gone: its exit says the rest
        os.write(control, word)


def _feed(transport: asyncio.SubprocessTransport, stdin: bytes | None) -> None:
    if stdin is None:
        return
    pipe = transport.get_pipe_transport(0)
    assert isinstance(pipe, asyncio.WriteTransport)
    pipe.write(stdin)
    pipe.write_eof()


async def _settle(transport: asyncio.SubprocessTransport, watching: _Watching, request: int) -> None:
    """Wait for the watcher, then for the rest of the output; what does not come in time is cut off."""
    try:
        await asyncio.wait((watching.exited,), timeout=GRACE_S + _SETTLE_S)
        if not watching.exited.done():
            transport.kill()
        _kill_unwatched(request)
        await asyncio.wait((watching.closed,), timeout=_SETTLE_S)
    finally:
        transport.close()


def _kill_unwatched(request: int) -> None:
    """End the command's group when the watcher was killed and could not."""
    report = _report(request)
    if "started" in report and not _is_complete(report):
        with suppress(ProcessLookupError):
            os.killpg(report["started"], signal.SIGKILL)


def _report(request: int) -> dict[str, int]:
    lines = os.pread(request, 200, 0).decode("ascii", "replace").splitlines()
    words = [line.split(" ") for line in lines]
    return {pair[0]: int(pair[1]) for pair in words if pair[0] in _WORDS}


def _is_complete(report: dict[str, int]) -> bool:
    return not report.keys().isdisjoint(("exit", "signal", "exec"))


def _ended(request: int, watching: _Watching, timed_out: bool) -> Ended:
    report = _report(request)
    stdout, stderr = watching.outputs[1], watching.outputs[2]
    if not _is_complete(report):
        raise OperationFailed(
            "the process that watched the command was killed; the command was killed too, its outcome is not known",
            code="watcher_lost",
            stdout=stdout.text(),
            stderr=stderr.text(),
        )
    return Ended(
        exit_code=report.get("exit"),
        signal=report.get("signal"),
        exec_errno=report.get("exec"),
        timed_out=timed_out,
        ran_s=report.get("ran", 0) / 1e6,
        stdout=stdout,
        stderr=stderr,
    )
