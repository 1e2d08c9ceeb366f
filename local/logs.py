"""Showing what the services said, and what they go on to say."""

import time
from pathlib import Path

from local.state_folder import StateFolder
from toolswarm.errors import ConfigurationError

_LAST_LINES = 40
_TAIL_BYTES = 65_536
_LOOK_S = 0.2


def logs(folder: StateFolder, *, service: str | None, follow: bool) -> int:
    """Print the last lines of one log, or of all with the service's name before each line.

    Raises:
        ConfigurationError: there is no such service; the message names those there are.
    """
    names = sorted(file.stem for file in folder.logs.glob("*.log"))
    if service is not None and service not in names:
        raise ConfigurationError(f"there is no log of {service}; there are: {', '.join(names) or 'none yet'}")
    chosen = [service] if service is not None else names
    width = max(map(len, chosen), default=0)
    tails = [_Tail(folder.logs / f"{name}.log", f"{name:{width}} | " if service is None else "") for name in chosen]
    for tail in tails:
        tail.show_last()
    while follow:
        time.sleep(_LOOK_S)
        for tail in tails:
            tail.show_new()
    return 0


class _Tail:
    """The end of one file."""

    def __init__(self, file: Path, prefix: str) -> None:
        self._file = file
        self._prefix = prefix
        self._offset = 0
        self._partial = b""

    def show_last(self) -> None:
        size = self._file.stat().st_size
        self._offset = max(0, size - _TAIL_BYTES)
        self._show(self._read()[-_LAST_LINES:])

    def show_new(self) -> None:
        self._show(self._read())

    def _read(self) -> list[bytes]:
        try:
            with self._file.open("rb") as log:
                if log.seek(0, 2) < self._offset:
                    self._offset = 0  # it was set aside and begun anew
                log.seek(self._offset)
                fresh = log.read()
        except FileNotFoundError:
            return []
        self._offset += len(fresh)
        *lines, self._partial = (self._partial + fresh).split(b"\n")
        return lines

    def _show(self, lines: list[bytes]) -> None:
        for line in lines:
            print(self._prefix + line.decode(errors="replace"), flush=True)
