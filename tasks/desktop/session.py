"""One process that outlives the call that started it: its output in a ring, its input, and the limits of its life."""

import asyncio
import os
import termios
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from tasks.desktop.launch import Command, Streams, Watched, launch, no_descriptors
from tasks.desktop.ring import Piece, Ring
from tasks.desktop.streams import Throttled, let_go

_FASTEST_BYTES_PER_S = 26_214_400
_INPUT_MAX_BYTES = 1_048_576
"""Input that waits for the process to take it."""
_END_OF_INPUT = b"\x04"
"""What a terminal takes for it (Ctrl-D)."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a session was promised."""

    id: str
    tenant: str
    argv: Sequence[str]
    size: tuple[int, int] | None
    """Rows and columns of its terminal; None: it has pipes."""
    idle_timeout_s: float
    total_timeout_s: float
    buffer_bytes: int


class InputClosed(Exception):
    """The process has closed its input, or its input was ended before."""


class InputFull(Exception):
    """The process does not take its input as fast as it comes."""


class Session:
    """A process with its streams; made by `start_session`."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.started_at = time.time()
        self.used_at = time.monotonic()
        self.ended_by = ""
        """`exit`, `stop`, `idle_timeout`, `total_timeout`, `too_many_processes` or `lost`; empty while it runs."""
        self.ended_at = 0.0
        self.ring = Ring(terms.buffer_bytes)
        self._watched: Watched | None = None
        self._stopped_for = ""
        self._output = _Output(self)
        self._transports: list[asyncio.ReadTransport] = []
        self._input: asyncio.WriteTransport | None = None
        self._life: asyncio.Task[None] | None = None
        self._readers: set[asyncio.Future[None]] = set()

    @property
    def watched(self) -> Watched:
        """Its watcher's report."""
        assert self._watched is not None
        return self._watched

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self.ended_by

    async def start(self, command: Command, before_start: Callable[[], Awaitable[None]]) -> None:
        """Start it; when anything fails, nothing of it is left."""
        try:
            with ExitStack() as theirs:
                try:
                    streams = await self._open(theirs)
                except OSError as error:
                    raise no_descriptors(error) from error
                self._watched = await launch(command, streams)
            await before_start()
            self._watched.start()
            await asyncio.wait((self._watched.begun,))
        except BaseException:
            if self._watched is not None:
                await self._watched.end()
            self._close()
            raise
        self._life = asyncio.create_task(self._live())

    async def read(self, cursor: int, max_bytes: int, *, wait_s: float) -> Piece:
        """Output from the cursor on; when there is none yet, wait for it or for the end."""
        wait_until = time.monotonic() + wait_s
        while True:
            self.used_at = time.monotonic()
            piece = self.ring.read(cursor, max_bytes, complete=not self.running)
            left_s = wait_until - self.used_at
            if piece.text or piece.dropped_bytes or not self.running or left_s <= 0:
                return piece
            reader: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._readers.add(reader)
            try:
                await asyncio.wait((reader,), timeout=left_s)
            finally:
                self._readers.discard(reader)

    def check_input(self, size_bytes: int) -> None:
        """See whether so much input can be taken.

        Raises:
            InputClosed: it cannot, ever.
            InputFull: not now.
        """
        if self._input is None or self._input.is_closing():
            raise InputClosed
        waiting = self._input.get_write_buffer_size()
        if waiting and waiting + size_bytes > _INPUT_MAX_BYTES:
            raise InputFull

    def write(self, data: bytes, *, eof: bool) -> int:
        """Give it input; returns how many bytes still wait for it to take them."""
        self.used_at = time.monotonic()
        assert self._input is not None
        self._input.write(data + (_END_OF_INPUT if eof and self.terms.size else b""))
        waiting = self._input.get_write_buffer_size()
        if eof and not self.terms.size:
            transport, self._input = self._input, None
            with suppress(RuntimeError):  # it has closed its end meanwhile
                transport.write_eof()
        return waiting

    def send_signal(self, number: int) -> None:
        """Send a signal to its process group."""
        self.used_at = time.monotonic()
        self.watched.send_signal(number)

    async def stop(self) -> None:
        """Ask it to end, kill it after the grace, and wait until nothing of it is left."""
        if self._life is not None and not self._life.done():
            self._stopped_for = self._stopped_for or "stop"
            self.watched.stop()
            await asyncio.wait((self._life,))

    def heard(self, data: bytes) -> None:
        """Take its output."""
        self.ring.add(data)
        self._wake_readers()

    async def _live(self) -> None:
        """From its start to its end, or to that of its time."""
        total_until = time.monotonic() + self.terms.total_timeout_s
        try:
            while not self.watched.gone.done():
                idle_until = self.used_at + self.terms.idle_timeout_s
                left_s = min(total_until, idle_until) - time.monotonic()
                if left_s <= 0:
                    self._stopped_for = "total_timeout" if total_until <= idle_until else "idle_timeout"
                    break
                await asyncio.wait((self.watched.gone,), timeout=left_s)
            await self.watched.end()
            await asyncio.wait((self._output.closed,), timeout=1.0)
        finally:
            self._close()
            self.ended_by = self._why_ended()
            self.ended_at = time.monotonic()
            self._wake_readers()

    def _why_ended(self) -> str:
        if not self.watched.seen_to_end:
            return "lost"
        return "too_many_processes" if self.watched.crowded else self._stopped_for or "exit"

    async def _open(self, theirs: ExitStack) -> Streams:
        loop = asyncio.get_running_loop()
        if self.terms.size is not None:
            ours_read, slave = os.openpty()
            theirs.callback(os.close, slave)
            termios.tcsetwinsize(slave, self.terms.size)
            ours_write = os.dup(ours_read)
            streams = Streams(slave, slave, slave)
        else:
            stdin, ours_write = os.pipe()
            theirs.callback(os.close, stdin)
            ours_read, output = os.pipe()
            theirs.callback(os.close, output)
            streams = Streams(stdin, output, output)
        transport, _ = await loop.connect_read_pipe(lambda: self._output, os.fdopen(ours_read, "rb", 0))
        self._transports.append(transport)
        self._input, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(ours_write, "wb", 0))
        return streams

    def _close(self) -> None:
        if self._watched is not None:
            self._watched.close()
        for transport in self._transports:
            transport.close()
        if self._input is not None:
            let_go(self._input)

    def _wake_readers(self) -> None:
        for reader in self._readers:
            if not reader.done():
                reader.set_result(None)


class _Output(Throttled):
    def __init__(self, session: Session) -> None:
        super().__init__(_FASTEST_BYTES_PER_S)
        self._session = session

    def take(self, data: bytes) -> None:
        self._session.heard(data)
