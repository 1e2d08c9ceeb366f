"""The processes that find lines for us (`tasks.desktop.finding`): kept for the next search, killed when they hang.

A search takes one and gives it back. One that did not answer in time, or whose caller has gone, is killed: that is
the only way to stop Python in the middle of a regular expression.
"""

import asyncio
import atexit
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tasks.desktop import finding
from toolswarm.errors import OperationFailed

_MOST_IDLE = 2
_CHUNK_BYTES = 1 << 18


class Finder:
    """One process, and our end of the socket to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(
                (sys.executable, "-I", "-S", finding.__file__),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={},
                start_new_session=True,
            )
        self._socket = ours

    async def ask(self, folder_fd: int, request: Mapping[str, Any], lists: tuple[bytes, bytes] | None) -> bytes | None:
        """The answer (JSON), or None when the process has ended instead: it needed too much time or memory."""
        raw = json.dumps({**request, "from_lists": lists is not None}).encode()
        listed, unreadable = lists or (b"", b"")
        loop = asyncio.get_running_loop()
        try:
            header = finding.FRAME.pack(len(raw), len(listed), len(unreadable))
            socket.send_fds(self._socket, [header], [folder_fd])  # never waits: the socket is empty
            await loop.sock_sendall(self._socket, raw + listed + unreadable)
            head = await self._receive(finding.LENGTH.size)
            (size,) = finding.LENGTH.unpack(head)
            return await self._receive(size)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return None

    async def _receive(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        received = bytearray()
        while len(received) < size:
            chunk = await loop.sock_recv(self._socket, min(_CHUNK_BYTES, size - len(received)))
            if not chunk:
                raise EOFError
            received += chunk
        return bytes(received)

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def end(self) -> None:
        """Kill it."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """In a forked process: it is the parent's."""
        self._socket.close()
        self._process.returncode = 0


class Finders:
    """Those of this worker process that have nothing to do."""

    def __init__(self) -> None:
        self._idle: list[Finder] = []
        atexit.register(self.end_idle)
        os.register_at_fork(after_in_child=self._forget_idle)

    async def find(
        self, folder_fd: int, request: Mapping[str, Any], lists: tuple[bytes, bytes] | None
    ) -> dict[str, Any]:
        """The answer to the request (see `finding.Search`), from all of the folder or from the lists of files.

        Raises:
            OperationFailed: `search_failed` when it needed too much time or memory.
        """
        finder = self.take()
        answer: bytes | None = None
        try:
            answer = await finder.ask(folder_fd, request, lists)
        finally:
            if answer is None:
                finder.end()
            else:
                self.give_back(finder)
        found: dict[str, Any] = {"out_of_memory": True} if answer is None else json.loads(answer)
        if "out_of_memory" in found:
            raise OperationFailed(
                "the search needed too much time or memory; search a smaller folder or for a simpler pattern",
                code="search_failed",
                before_effect=True,
            )
        return found

    def take(self) -> Finder:
        """An idle one, or a new one."""
        while self._idle:
            finder = self._idle.pop()
            if finder.is_alive():
                return finder
            finder.end()
        return Finder()

    def prepare(self) -> None:
        """Have one start meanwhile, when none is there."""
        if not self._idle:
            self._idle.append(Finder())

    def give_back(self, finder: Finder) -> None:
        """Keep it, or end it when enough are kept."""
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(finder)
        else:
            finder.end()

    def end_idle(self) -> None:
        """End those that are kept."""
        while self._idle:
            self._idle.pop().end()

    def _forget_idle(self) -> None:
        while self._idle:
            self._idle.pop().forget()


FINDERS = Finders()
