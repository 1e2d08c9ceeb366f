"""Carrying one run over one channel: the line goes out, input goes out, both outputs come in, until the end is told."""

import select
from collections.abc import Callable

import paramiko

from tasks.droplet.marked import MarkedStream
from tasks.droplet.session import LOST

_TICK_S = 0.05
_CHUNK_BYTES = 65_536


class RemoteStream:
    """One output: its marks, and who takes what is between them."""

    def __init__(self, mark: str, take: Callable[[bytes], None]) -> None:
        self.marked = MarkedStream(mark.encode())
        self._take = take

    def add(self, chunk: bytes) -> None:
        """Take what has come."""
        self._use(self.marked.feed(chunk))

    def finish(self) -> None:
        """Nothing more comes."""
        self._use(self.marked.rest())

    def _use(self, output: bytes) -> None:
        if output:
            self._take(output)


class RemoteCommand:
    """A run on a channel."""

    def __init__(self, channel: paramiko.Channel, *, stdin: bytes, stdout: RemoteStream, stderr: RemoteStream) -> None:
        self._channel = channel
        self._unsent = memoryview(stdin)
        self.stdout = stdout
        self.stderr = stderr

    def start(self, line: str) -> None:
        """Send the line.

        Raises:
            paramiko.SSHException: the server refused, or the connection was lost: the command may run or not.
        """
        self._channel.exec_command(line)
        self._channel.settimeout(0.0)
        if not self._unsent:
            self._channel.shutdown_write()

    def pump(self, stop: Callable[[], bool]) -> bool:
        """Carry data both ways until the run or the channel ends (True), or `stop()` says so (False)."""
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        while True:
            over = self._channel.closed
            if not self._move():
                if self.has_ended or over:
                    self.stdout.finish()
                    self.stderr.finish()
                    return True
                if self._channel.eof_received:
                    self._channel.status_event.wait(_TICK_S)  # the descriptor stays readable from now on
                else:
                    poll.poll(_TICK_S * 1000)
            if stop():
                return False

    @property
    def has_ended(self) -> bool:
        """Whether the end was told; the channel may have ended without."""
        return self.stdout.marked.closed is not None and self.stderr.marked.closed is not None

    def _move(self) -> bool:
        moved = False
        channel = self._channel
        if channel.recv_ready():
            self.stdout.add(channel.recv(_CHUNK_BYTES))
            moved = True
        if channel.recv_stderr_ready():
            self.stderr.add(channel.recv_stderr(_CHUNK_BYTES))
            moved = True
        if self._unsent and not channel.closed and channel.send_ready():
            self._send()
            moved = True
        return moved

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._channel.send(bytes(self._unsent[:_CHUNK_BYTES])) :]
            if not self._unsent:
                self._channel.shutdown_write()
        except LOST:  # closed by the other side, which did not want it all: how it ended says the rest
            self._unsent = self._unsent[:0]
