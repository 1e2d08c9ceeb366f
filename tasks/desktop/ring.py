"""The newest output of a program in bounded memory, that can be read again from any place that is still there."""

import codecs
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of the output: its text, and where the next part begins."""

    text: str
    """Bytes that are no UTF-8 are spelled out; control sequences are not."""
    next_cursor: int
    dropped_bytes: int
    """What was between the cursor that was asked for and the oldest byte that is still there."""


class Ring:
    """Keeps the last bytes; a cursor counts bytes from the very first one."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept = bytearray()
        self.end = 0
        """Bytes that were ever added: the cursor behind the last one."""

    @property
    def start(self) -> int:
        """The cursor of the oldest byte that is still there."""
        return self.end - len(self._kept)

    def add(self, data: bytes) -> None:
        """Take what comes next."""
        self.end += len(data)
        self._kept += data
        excess = len(self._kept) - self._limit_bytes
        if excess > 0:
            del self._kept[:excess]

    def read(self, cursor: int, max_bytes: int, *, complete: bool) -> Piece:
        """What begins at the cursor; a character that is not all there is left for later, unless it is `complete`."""
        begin = max(cursor, self.start)
        raw = bytes(self._kept[begin - self.start :][:max_bytes])
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        text = decoder.decode(raw, final=complete and begin + len(raw) == self.end)
        waiting, _ = decoder.getstate()
        return Piece(text=text, next_cursor=begin + len(raw) - len(waiting), dropped_bytes=begin - cursor)
