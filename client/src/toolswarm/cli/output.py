"""What the command prints: one JSON document with `--json`, else text for people; errors go to stderr."""

import shutil
import sys
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from toolswarm.errors import CallEnded, OutcomeUnknown, ToolswarmError
from toolswarm.messages import ErrorInfo

GAP = "  "


def print_json(document: object) -> None:
    """Print the one JSON document of a run."""
    sys.stdout.write(pretty(document) + "\n")


def pretty(value: object) -> str:
    """A value as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def print_value(value: Any) -> None:
    """Print a call's value: the text itself when it is an object with a text field `content`, else JSON."""
    content = _content(value)
    if not isinstance(content, str):
        print_json(value)
        return
    sys.stdout.write(content)
    if sys.stdout.isatty() and not content.endswith("\n"):
        sys.stdout.write("\n")


def print_error(error: ToolswarmError, *, json: bool) -> None:
    """Print an error: `error: code: message` on stderr, and with `--json` the document that stands for it."""
    info = error.error if isinstance(error, CallEnded) else error_info(error)
    sys.stderr.write(f"error: {printable(info.code)}: {printable(info.message)}{_advice(error)}\n")
    if isinstance(error, CallEnded) and info.details and not json:
        word = "evidence" if isinstance(error, OutcomeUnknown) else "details"
        sys.stderr.write(f"{word}: {printable(pretty(info.details))}\n")
    if json:
        print_json(error.result if isinstance(error, CallEnded) else {"error": info})


def error_info(error: ToolswarmError) -> ErrorInfo:
    """The error as a message, with the code it came with when that code is not one of ours."""
    code = error.details.get("code")
    info = error.info()
    return msgspec.structs.replace(info, code=code) if isinstance(code, str) and type(error) is ToolswarmError else info


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; in a terminal the last one is cut to fit."""
    lines = [list(head), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in lines:
        text = GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        sys.stdout.write((text if limit is None or len(text) <= limit else text[: limit - 1] + "…") + "\n")


def print_line(text: str) -> None:
    """Print a line of text for people."""
    sys.stdout.write(printable(text) + "\n")


def printable(text: str) -> str:
    """The text with control characters spelled out: what comes from outside must not steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _content(value: Any) -> Any:
    return cast("dict[str, Any]", value).get("content") if isinstance(value, dict) else None


def _advice(error: ToolswarmError) -> str:
    nearest: Sequence[Any] = error.details.get("nearest") or ()
    if not nearest or "did you mean" in error.message.lower():
        return ""
    return f"; did you mean {printable(' or '.join(str(name) for name in nearest))}?"
