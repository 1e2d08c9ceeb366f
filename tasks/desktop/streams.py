"""The worker's ends of a program's streams, so that no program can take the worker's loop or memory for itself."""

import asyncio

_PAUSE_S = 0.01


class Throttled(asyncio.Protocol):
    """The reading end of an output; a program that writes faster than the rate is made to wait."""

    def __init__(self, bytes_per_s: int) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Nobody holds the writing end any more."""
        self._burst_bytes = int(bytes_per_s * _PAUSE_S)
        self._left_bytes = self._burst_bytes
        self._transport: asyncio.ReadTransport | None = None

    def take(self, data: bytes) -> None:
        """What has been written next."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Reading begins."""
        assert isinstance(transport, asyncio.ReadTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take it; after a burst, pause."""
        self.take(data)
        self._left_bytes -= len(data)
        if self._left_bytes <= 0 and self._transport is not None:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(_PAUSE_S, self._resume)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end; also a terminal's, which is told as an error."""
        if not self.closed.done():
            self.closed.set_result(None)

    def _resume(self) -> None:
        self._left_bytes = self._burst_bytes
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


def let_go(writer: asyncio.WriteTransport) -> None:
    """Close the writing end of an input, and drop what the program has not taken."""
    if writer.get_write_buffer_size():
        writer.abort()
    else:
        writer.close()  # asyncio fails when a pipe that has closed, or is about to, is aborted
