"""`--follow`: prints what an operation says while somebody else waits for its end."""

import sys
import threading
from typing import Any, TextIO

import msgspec

from toolswarm.cli.output import printable
from toolswarm.errors import ToolswarmError
from toolswarm.handle import CallHandle

LAST_WORDS_S = 2.0
"""How long the end of the events is waited for once the call has ended."""


class Follower:
    """Reads the events of a call on a thread of its own; a stream that breaks ends it, and nothing else.

    Text of the streams `stdout` and `stderr` goes there as it is; with `json`, and of any other kind, an output is a
    line of JSON on stderr.
    """

    def __init__(self, handle: CallHandle, *, json: bool) -> None:
        self._handle = handle
        self._json = json
        self._lock = threading.Lock()
        self._ended = False
        self._open_line: TextIO | None = None
        # A daemon: whoever waits no longer does not wait for a stream that is silent.
        self._thread = threading.Thread(target=self._run, name="toolswarm-follow", daemon=True)

    def __enter__(self) -> "Follower":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """From here on nothing is printed."""
        with self._lock:
            self._ended = True

    def catch_up(self) -> None:
        """The call has ended: print what it said last, and end the line that it left open."""
        self._thread.join(LAST_WORDS_S)
        with self._lock:
            self._ended = True
            if self._open_line is not None:
                self._open_line.write("\n")

    def _run(self) -> None:
        try:
            for event in self._handle.events():
                if event.output is not None and not self._print(event.output):
                    return
        except BrokenPipeError:
            return  # nobody reads any more; who prints the value finds out, too
        except ToolswarmError as error:
            with self._lock:
                if not self._ended:
                    sys.stderr.write(
                        f"cannot follow the call any more ({printable(error.code)}); waiting for its end\n"
                    )

    def _print(self, output: dict[str, Any]) -> bool:
        with self._lock:
            if self._ended:
                return False
            stream = {"stdout": sys.stdout, "stderr": sys.stderr}.get(str(output.get("stream")))
            text = output.get("text")
            if stream is None or not isinstance(text, str) or self._json:
                sys.stderr.write(msgspec.json.encode(output).decode() + "\n")
            else:
                stream.write(_shown(text) if stream.isatty() else text)
                stream.flush()
                if text:
                    self._open_line = None if text.endswith("\n") else stream
            return True


def _shown(text: str) -> str:
    """The text for a terminal, which it must not steer."""
    return "\t".join(printable(part) for part in text.split("\t"))
