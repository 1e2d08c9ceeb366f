"""Telling a run's output from what surrounds it on a channel (see tasks/droplet/remote_script.py)."""

_LONGEST_PREAMBLE_BYTES = 65_536


class MarkedStream:
    """One of a run's two streams: a line that opens it, the output, and a line that closes it."""

    def __init__(self, mark: bytes) -> None:
        self._open = mark
        self._close = b"\n" + mark + b" end"
        self._pending = bytearray()
        self.preamble = b""
        """What the login shell said before; cut when it is long."""
        self.opened: list[str] | None = None
        """The words behind the mark; None: it has not been seen."""
        self.closed: list[str] | None = None
        """The words at the end; None: the stream was cut off, or goes on."""

    def feed(self, chunk: bytes) -> bytes:
        """The output in what has come by now; what may be the start of the closing line is held back."""
        if self.closed is not None:
            return b""
        self._pending += chunk
        if self.opened is None and not self._find_opening():
            return b""
        at = self._pending.find(self._close)
        if at >= 0:
            line_end = self._pending.find(b"\n", at + 1)
            if line_end < 0:
                return self._take(at)
            self.closed = self._pending[at + len(self._close) : line_end].decode("ascii", "replace").split()
            return self._take(at)
        return self._take(len(self._pending) - self._held_back())

    def rest(self) -> bytes:
        """What was held back, once nothing more comes."""
        return b"" if self.opened is None or self.closed is not None else self._take(len(self._pending))

    def _find_opening(self) -> bool:
        start = self._pending.find(self._open)
        line_end = self._pending.find(b"\n", start)
        if start < 0 or line_end < 0:
            self.preamble = bytes(self._pending[:_LONGEST_PREAMBLE_BYTES])
            if start < 0:
                del self._pending[_LONGEST_PREAMBLE_BYTES : max(_LONGEST_PREAMBLE_BYTES, len(self._pending) - 100)]
            return False
        self.preamble = bytes(self._pending[:start][:_LONGEST_PREAMBLE_BYTES])
        self.opened = self._pending[start + len(self._open) : line_end].decode("ascii", "replace").split()
        del self._pending[: line_end + 1]
        return True

    def _held_back(self) -> int:
        for length in range(min(len(self._close) - 1, len(self._pending)), 0, -1):
            if self._pending.endswith(self._close[:length]):
                return length
        return 0

    def _take(self, length: int) -> bytes:
        taken = bytes(self._pending[:length])
        del self._pending[:length]
        return taken
