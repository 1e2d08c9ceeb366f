"""Output of a program, kept within a size: its head and its tail, and how much was left out between them."""

from tasks.text import printable

_LONGEST_CHARACTER_BYTES = 4


class CappedOutput:
    """Takes any amount of bytes in memory of about the limit."""

    def __init__(self, limit_bytes: int) -> None:
        self._head_bytes = limit_bytes - limit_bytes // 2
        self._tail_bytes = limit_bytes // 2
        self._head = bytearray()
        self._tail = bytearray()
        self.total_bytes = 0

    @property
    def dropped_bytes(self) -> int:
        """How much is in neither head nor tail."""
        return max(0, self.total_bytes - self._head_bytes - self._tail_bytes)

    def add(self, chunk: bytes) -> None:
        """Take what the program has written next."""
        self.total_bytes += len(chunk)
        room = self._head_bytes - len(self._head)
        if room:
            self._head += chunk[:room]
            chunk = chunk[room:]
        self._tail += chunk
        if len(self._tail) > 2 * self._tail_bytes + 65_536:
            self._trim()

    def text(self, *, raw: bool = False) -> str:
        """What was kept; a line says where something was left out. Safe to print, unless `raw` is asked for."""
        shown = as_it_is if raw else printable
        self._trim()
        if not self.dropped_bytes:
            return shown(bytes(self._head + self._tail))
        head, tail = bytes(self._head), bytes(self._tail)
        start = 0
        while start < min(len(tail), _LONGEST_CHARACTER_BYTES - 1) and tail[start] & 0xC0 == 0x80:
            start += 1
        middle = f"\n[… {self.dropped_bytes} bytes left out …]\n"
        return shown(_without_cut_character(head)) + middle + shown(tail[start:])

    def _trim(self) -> None:
        del self._tail[: max(0, len(self._tail) - self._tail_bytes)]


def as_it_is(raw: bytes) -> str:
    """Output of a program with its control sequences; only bytes that are no UTF-8 are spelled out."""
    return raw.decode("utf-8", "backslashreplace")


def _without_cut_character(raw: bytes) -> bytes:
    for back in range(1, min(_LONGEST_CHARACTER_BYTES, len(raw) + 1)):
        first = raw[-back]
        if first & 0xC0 == 0xC0:
            needed = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
            return raw if back >= needed else raw[:-back]
        if first & 0x80 == 0:
            return raw
    return raw
