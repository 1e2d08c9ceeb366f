"""Taking a part out of a file: some lines or some bytes, cut where no character is broken."""

from typing import NamedTuple

_BLOCK_BYTES = 65_536


class Window(NamedTuple):
    """A part of a file."""

    raw: bytes
    start_byte: int
    next_offset: int | None
    """Where to go on, in the unit that was asked for; None at the end."""
    rest_offset_bytes: int | None = None
    """Where the rest of a line begins that was cut; None: none was."""


class LineWindow:
    """Takes some lines out of chunks of bytes, without keeping the rest."""

    def __init__(self, offset: int, *, limit: int, max_bytes: int) -> None:
        self._offset = offset
        self._limit = limit
        self._max_bytes = max_bytes
        self._to_skip = offset
        self._at_byte = 0
        """Where in the file the next chunk begins."""
        self._start_byte: int | None = None
        self._kept = bytearray()
        self._whole_bytes = 0
        """How much of `_kept` is whole lines, and how many lines that is."""
        self._whole_lines = 0
        self.is_full = False

    def add(self, chunk: bytes) -> None:
        """Take what is wanted of the next piece of the file."""
        start = 0
        if self._to_skip:
            start, self._to_skip = after_lines(chunk, 0, self._to_skip)
        if not self.is_full and start < len(chunk):
            if self._start_byte is None:
                self._start_byte = self._at_byte + start
            self._keep(chunk[start : start + self._max_bytes - len(self._kept) + 1])
        self._at_byte += len(chunk)

    def _keep(self, piece: bytes) -> None:
        room = self._max_bytes - len(self._kept)
        fits = piece[:room]
        end, missing = after_lines(fits, 0, self._limit - self._whole_lines)
        if missing == 0:
            self._kept += fits[:end]
            self._whole_lines = self._limit
            self._whole_bytes = len(self._kept)
            self.is_full = True
            return
        lines = self._limit - self._whole_lines - missing
        if lines:
            self._whole_lines += lines
            self._whole_bytes = len(self._kept) + fits.rindex(b"\n") + 1
        self._kept += fits
        self.is_full = len(piece) > room

    def result(self, size_bytes: int) -> Window:
        """What was taken of a file of this size."""
        start = self._at_byte if self._start_byte is None else self._start_byte
        after = self._offset + self._whole_lines
        if len(self._kept) > self._whole_bytes and self.is_full:
            if not self._whole_lines:
                cut = without_half_character(bytes(self._kept))
                return Window(cut, start, after + 1, rest_offset_bytes=start + len(cut))
            del self._kept[self._whole_bytes :]
        raw = bytes(self._kept)
        return Window(raw, start, after if self.is_full and start + len(raw) < size_bytes else None)


def after_lines(raw: bytes, start: int, count: int) -> tuple[int, int]:
    """The place after `count` line ends, and how many of them were not there (then the place is the end)."""
    while count > _BLOCK_BYTES // 256 and start + _BLOCK_BYTES <= len(raw):
        there = raw.count(b"\n", start, start + _BLOCK_BYTES)
        if there >= count:
            break
        count -= there
        start += _BLOCK_BYTES
    while count:
        newline = raw.find(b"\n", start)
        if newline < 0:
            return len(raw), count
        start = newline + 1
        count -= 1
    return start, 0


def without_half_character(raw: bytes) -> bytes:
    """UTF-8 that was cut anywhere, without the piece of a character at its end; other bytes as they are."""
    for back in range(1, min(4, len(raw)) + 1):
        lead = raw[-back]
        if lead & 0xC0 != 0x80:  # the first byte of the last character
            length = 1 if lead < 0x80 else 2 if lead >> 5 == 0b110 else 3 if lead >> 4 == 0b1110 else 4
            return raw[:-back] if back < length <= 4 and lead >= 0xC2 and len(raw) > back else raw
    return raw


class NewlineCount:
    """Counts the kinds of line ends in chunks of bytes."""

    def __init__(self) -> None:
        self._crlf = self._lf = self._cr = 0
        self._ended_with_cr = False

    def add(self, chunk: bytes) -> None:
        """Count those of the next piece."""
        if not chunk:
            return
        returns = chunk.count(b"\r")
        crlf = chunk.count(b"\r\n") if returns else 0
        self._cr += returns - crlf
        self._lf += chunk.count(b"\n") - crlf
        self._crlf += crlf
        if self._ended_with_cr and chunk[0] == 0x0A:
            self._cr -= 1
            self._lf -= 1
            self._crlf += 1
        self._ended_with_cr = chunk[-1] == 0x0D

    def kind(self) -> str:
        """`\\n`, `\\r\\n`, `\\r`, `mixed` or `none`."""
        kinds = [end for end, count in (("\n", self._lf), ("\r\n", self._crlf), ("\r", self._cr)) if count]
        return kinds[0] if len(kinds) == 1 else "mixed" if kinds else "none"
