"""Starting a command under a watcher (see `tasks.sandbox.watcher`), from the worker's event loop."""

import asyncio
import errno
import os
import socket
from dataclasses import dataclass

from tasks.desktop.keeping import hand_over
from tasks.sandbox.confine import InForce
from tasks.sandbox.request import Request, write_request
from tasks.sandbox.watcher import SIGNAL, START, STOP, Descriptors
from toolswarm.errors import OperationFailed

_TRIES = 2
"""A keeper that was killed since the last command takes the request with it: nothing has run, so ask another."""
_READY_S = 20.0
NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_SETTLE_S = 3.0
"""How long the watcher may take beyond the grace before we stop waiting for it."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run; all of it checked. The descriptors are the tenant's root and the working folder."""

    request: Request
    root_fd: int
    folder_fd: int
    profile: str
    """Name of the sandbox, for messages."""


@dataclass(frozen=True)
class Streams:
    """The command's ends of its streams: descriptors, ours to close when it has been handed over."""

    stdin: int
    stdout: int
    stderr: int


async def launch(command: Command, streams: Streams) -> "Watched":
    """Prepare the command as far as its program's first instruction: it waits for `start`.

    Raises:
        OperationFailed: `sandbox_unavailable` when the machine cannot give the sandbox; `overloaded`.
    """
    for _ in range(_TRIES):
        try:
            watched = await _ask(command, streams)
        except OSError as error:
            raise no_descriptors(error) from error
        try:
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait((watched.ready, watched.gone), timeout=_READY_S, return_when=first)
            if watched.ready.done():
                watched.check(command.profile)
                return watched
        except BaseException:
            watched.close()
            raise
        watched.close()
    raise OperationFailed(
        "the process that watches the command was killed before it began; try again",
        code="overloaded",
        retryable=True,
        before_effect=True,
    )


def no_descriptors(error: OSError) -> OperationFailed:
    """What is said when the worker or the machine has no descriptor left; any other error is raised as it is."""
    if error.errno not in NO_DESCRIPTORS:
        raise error
    return OperationFailed(
        "the worker has too many files open for another command; try again later",
        code="overloaded",
        retryable=True,
        before_effect=True,
    )


async def _ask(command: Command, streams: Streams) -> "Watched":
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    try:
        request = write_request(command.request)
        try:
            given = Descriptors(
                *(theirs.fileno(), request, command.root_fd, command.folder_fd),
                *(streams.stdin, streams.stdout, streams.stderr),
            )
            await hand_over(given, command.request.temporary)
        finally:
            os.close(request)
            theirs.close()
        watched = Watched(grace_s=command.request.grace_s)
        await asyncio.get_running_loop().create_unix_connection(lambda: watched, sock=ours)
    except BaseException:
        ours.close()
        raise
    return watched


class Watched(asyncio.Protocol):
    """A command under its watcher, as its control socket tells of it."""

    def __init__(self, *, grace_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        """It waits for `start`, or was refused."""
        self.begun: asyncio.Future[None] = loop.create_future()
        """Its program runs, or could not be executed, or is gone."""
        self.gone: asyncio.Future[None] = loop.create_future()
        """Nothing of it is left, or its watcher was killed."""
        self.report: dict[str, str] = {}
        self._grace_s = grace_s
        self._pending = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The control socket is open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take lines of the watcher's report."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            word, _, value = line.decode("utf-8", "replace").partition(" ")
            self.report[word] = value
            if word in ("ready", "refused"):
                _settle(self.ready)
            elif word in ("begun", "exec"):
                _settle(self.begun)
            elif word == "gone":
                _settle(self.gone)

    def connection_lost(self, exc: Exception | None) -> None:
        """The watcher has ended; without a last word, it was killed."""
        _settle(self.gone)
        _settle(self.begun)

    def check(self, profile: str) -> None:
        """Raise what was said instead of `ready`."""
        if "ready" in self.report:
            return
        setting, _, why = self.report.get("refused", "- the command was not prepared").partition(" ")
        hint = "" if setting == "-" else f"; the operator can set {setting}"
        raise OperationFailed(
            f"the sandbox {profile!r} cannot be had here ({why}){hint}",
            code="sandbox_unavailable",
            before_effect=True,
        )

    @property
    def in_force(self) -> InForce:
        """What the command was put under."""
        abi, metadata = self.report["ready"].split()
        return InForce(int(abi), metadata)

    @property
    def exit_code(self) -> int | None:
        """Its exit code, when it had one."""
        return int(self.report["exit"]) if "exit" in self.report else None

    @property
    def signal(self) -> int | None:
        """The number of the signal that ended it, when one did."""
        return int(self.report["signal"]) if "signal" in self.report else None

    @property
    def exec_errno(self) -> int | None:
        """Why its program could not be executed, when it could not."""
        return int(self.report["exec"]) if "exec" in self.report else None

    @property
    def crowded(self) -> bool:
        """Whether it was killed because it had too many processes."""
        return "crowded" in self.report

    @property
    def ran_s(self) -> float:
        """From its start to its end."""
        return int(self.report.get("ran", 0)) / 1e6

    @property
    def seen_to_end(self) -> bool:
        """Whether its end was seen: not when its watcher was killed."""
        return "exit" in self.report or "signal" in self.report

    def start(self) -> None:
        """Let it begin."""
        self._tell(START)

    def stop(self) -> None:
        """Ask it to end; after the grace all of it is killed."""
        self._tell(STOP)

    def send_signal(self, number: int) -> None:
        """Send a signal to its process group."""
        self._tell(SIGNAL + bytes((number,)))

    async def end(self) -> None:
        """See it end: by itself if it has been asked to, else now."""
        if not self.gone.done():
            self.stop()
        await asyncio.wait((self.gone,), timeout=self._grace_s + _SETTLE_S)

    def close(self) -> None:
        """Close the control socket: what still runs is killed."""
        if self._transport is not None:
            self._transport.close()

    def _tell(self, words: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(words)


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
