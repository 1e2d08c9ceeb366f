"""Telling followers of a call what a command says, while it says it: whole characters, safe to show."""

from tasks.operation import Run
from tasks.text import printable

_LONGEST_BYTES = 16_384
"""Of one event: whoever wants it all has the result."""


class ToldOutput:
    """One output of a command on one host."""

    def __init__(self, attempt: Run, host: str, stream: str) -> None:
        self._attempt = attempt
        self._host = host
        self._stream = stream
        self._pending = b""

    def add(self, chunk: bytes) -> None:
        """Take what the command has written next; half a character waits for its other half."""
        raw = self._pending + chunk
        cut = _start_of_cut_character(raw)
        self._pending = raw[cut:]
        for start in range(0, cut, _LONGEST_BYTES):
            self._tell(raw[start : min(cut, start + _LONGEST_BYTES)])

    def finish(self) -> None:
        """Tell what has waited, as it is."""
        if self._pending:
            self._tell(self._pending)
            self._pending = b""

    def _tell(self, raw: bytes) -> None:
        self._attempt.tell({"host": self._host, "stream": self._stream, "text": printable(raw)})


def _start_of_cut_character(raw: bytes) -> int:
    for back in range(1, min(4, len(raw) + 1)):
        byte = raw[-back]
        if byte & 0xC0 == 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(raw) if back >= needed else len(raw) - back
        if byte & 0x80 == 0:
            break
    return len(raw)
