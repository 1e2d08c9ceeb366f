"""A TCP relay between a client and a server, whose faults a test turns on and off while connections are open.

It can delay, hold everything back (a black hole: the connection stays open and nothing arrives), reset, cut after a
number of bytes, and lead new connections to another server (who answers there has other keys: somebody in between).
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

_CHUNK_BYTES = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Link:
    """One connection through the relay: the client's side and the server's."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    def reset(self) -> None:
        for writer in (self.client, self.server):
            sock: socket.socket = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):  # it is closed
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()
        for task in self.tasks:
            task.cancel()


class Relay:
    """Listens on `port` of 127.0.0.1 and leads to `target_port` there; runs on a thread of its own until `close`."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.delay_s = 0.0
        """For each chunk in each direction; the bandwidth stays as it is."""
        self.accepted = 0
        """Connections so far."""
        self.up_bytes = 0
        """Forwarded from clients to the server so far."""
        self.down_bytes = 0
        self._links: set[_Link] = set()
        self._cut_up_at: int | None = None
        self._cut_down_at: int | None = None
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.port: int = self._do(self._listen())

    def black_hole(self) -> None:
        """Forward nothing any more, and keep all connections open."""
        self._call(self._flows.clear)

    def resume(self) -> None:
        """Forward again, what was held back first."""
        self._call(self._flows.set)

    def reset(self) -> None:
        """Reset all connections (RST to both sides); new ones are taken."""
        self._call(self._reset)

    def cut_after(self, *, up_bytes: int | None = None, down_bytes: int | None = None) -> None:
        """Reset all connections once so much more was forwarded; it happens once."""

        def arm() -> None:
            self._cut_up_at = None if up_bytes is None else self.up_bytes + up_bytes
            self._cut_down_at = None if down_bytes is None else self.down_bytes + down_bytes

        self._call(arm)

    @property
    def connections(self) -> int:
        """Open just now."""
        return len(self._links)

    def close(self) -> None:
        """Reset what is open and stop; bears being called twice."""
        if self._thread.is_alive():
            self._do(self._stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def _call(self, function: Callable[[], None]) -> None:
        """On the loop's thread, and done when this returns."""
        done: Future[None] = Future()

        def call() -> None:
            function()
            done.set_result(None)

        self._loop.call_soon_threadsafe(call)
        done.result(10)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._welcome, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _stop(self) -> None:
        self._server.close()
        tasks = [task for link in self._links for task in link.tasks]
        self._reset()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _reset(self) -> None:
        for link in tuple(self._links):
            link.reset()
        self._links.clear()

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:  # nobody listens there: the client sees a connection that is closed at once
            writer.transport.abort()
            return
        for side in (writer, to_server):
            side.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(writer, to_server)
        self._links.add(link)
        link.tasks += [
            asyncio.create_task(self._carry(link, reader, to_server, up=True)),
            asyncio.create_task(self._carry(link, from_server, writer, up=False)),
        ]
        await asyncio.gather(*link.tasks, return_exceptions=True)
        self._links.discard(link)
        for side in (writer, to_server):
            side.close()

    async def _carry(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        """One direction: what is read now is written when its time has come."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        writing = asyncio.create_task(self._write(link, waiting, writer, up=up))
        link.tasks.append(writing)
        chunk = b"-"
        while chunk:
            try:
                chunk = await reader.read(_CHUNK_BYTES)
            except ConnectionError:
                link.reset()
                return
            await waiting.put((self._loop.time() + self.delay_s, chunk))
        await writing

    async def _write(
        self, link: _Link, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        while True:
            due, chunk = await waiting.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            await self._flows.wait()
            try:
                if not chunk:
                    writer.write_eof()
                    return
                left = self._left_until_cut(up=up)
                writer.write(chunk if left is None else chunk[:left])
                await writer.drain()
            except (ConnectionError, OSError):
                link.reset()
                return
            self._count(len(chunk), up=up)
            if left is not None and len(chunk) >= left:
                self._cut_up_at = self._cut_down_at = None
                await asyncio.sleep(0.01)  # what was written is to arrive: a reset discards what the other has not read
                self._reset()
                return

    def _left_until_cut(self, *, up: bool) -> int | None:
        cut_at, so_far = (self._cut_up_at, self.up_bytes) if up else (self._cut_down_at, self.down_bytes)
        return None if cut_at is None else max(0, cut_at - so_far)

    def _count(self, size_bytes: int, *, up: bool) -> None:
        if up:
            self.up_bytes += size_bytes
        else:
            self.down_bytes += size_bytes


@contextlib.contextmanager
def relay(target_port: int) -> Generator[Relay, None, None]:
    """A relay for the time of a test."""
    running = Relay(target_port)
    try:
        yield running
    finally:
        running.close()
