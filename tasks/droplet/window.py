"""A part of a file, taken out of its bytes as they pass: some lines, or some bytes."""

from dataclasses import dataclass

from tasks.text import text_or_base64


@dataclass(frozen=True, kw_only=True)
class Part:
    """What was taken; `starts_at` and `ends_at` are bytes of the file."""

    raw: bytes
    starts_at: int
    more: bool
    """Whether the file goes on after it, as far as it was looked at."""
    line_cut: bool = False
    lines: int = 0
    """Whole lines in it."""

    @property
    def ends_at(self) -> int:
        """Where to go on."""
        return self.starts_at + len(self.raw)


class ByteWindow:
    """Takes `limit` bytes from `offset` on."""

    def __init__(self, offset: int, limit: int) -> None:
        self._offset = offset
        self._limit = limit
        self._at = 0
        self._kept = bytearray()
        self._more = False

    @property
    def is_full(self) -> bool:
        """Whether nothing is taken any more, and it is known whether more follows."""
        return self._more

    def begin_there(self) -> tuple[int, int]:
        """Begin where the part begins, not at the file's start; returns from where to where bytes are needed."""
        self._at = self._offset
        return self._offset, self._offset + self._limit + 1

    def add(self, chunk: bytes) -> None:
        """The file's next bytes."""
        start = min(len(chunk), max(0, self._offset - self._at))
        room = self._limit - len(self._kept)
        self._more = self._more or len(chunk) - start > room
        self._kept += chunk[start : start + room]
        self._at += len(chunk)

    def part(self) -> Part:
        """What was taken; a character that the limit cuts is left for the next part."""
        raw = bytes(self._kept)
        return Part(raw=without_half_character(raw) if self._more else raw, starts_at=self._offset, more=self._more)


class LineWindow:
    """Takes whole lines, `limit` at most and no more than `max_bytes`; a longer line is cut, and taken alone."""

    def __init__(self, offset: int, *, limit: int | None, max_bytes: int) -> None:
        self._skip = offset
        """Lines still to pass over."""
        self._limit = limit
        self._max_bytes = max_bytes
        self._at = 0
        self._starts_at = 0
        self._kept = bytearray()
        self._whole_bytes = 0
        self._whole_lines = 0
        self._full = False
        self._more = False

    @property
    def is_full(self) -> bool:
        """Whether nothing is taken any more, and it is known whether more follows."""
        return self._full and self._more

    def add(self, chunk: bytes) -> None:
        """The file's next bytes."""
        start = 0
        while start < len(chunk):
            if self._full:
                self._more = True
                break
            newline = chunk.find(b"\n", start)
            end = len(chunk) if newline < 0 else newline + 1
            if self._skip:
                self._skip -= newline >= 0
                self._starts_at = self._at + end
            else:
                self._keep(chunk[start:end], ends=newline >= 0)
            start = end
        self._at += len(chunk)

    def _keep(self, piece: bytes, *, ends: bool) -> None:
        room = self._max_bytes - len(self._kept)
        self._kept += piece[:room]
        if len(piece) > room:
            self._full = self._more = True
        elif ends:
            self._whole_bytes = len(self._kept)
            self._whole_lines += 1
            self._full = self._whole_lines == self._limit

    def part(self) -> Part:
        """What was taken."""
        raw = bytes(self._kept)
        line_cut = self._more and len(raw) > self._whole_bytes and not self._whole_lines
        if line_cut:
            raw = without_half_character(raw)
        elif self._more:
            raw = raw[: self._whole_bytes]
        return Part(raw=raw, starts_at=self._starts_at, more=self._more, line_cut=line_cut, lines=self._whole_lines)


def without_half_character(raw: bytes) -> bytes:
    """The bytes without a UTF-8 character that was cut at their end; as they are, if that makes no text of them."""
    for cut in range(min(4, len(raw) - 1)):
        if text_or_base64(raw[: len(raw) - cut])[1] == "utf-8":
            return raw[: len(raw) - cut]
    return raw
