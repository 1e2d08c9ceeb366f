"""Reading a file to its end, once, for what there is to say of it, and taking a window out of it."""

import hashlib
import os
from typing import Literal, NamedTuple

import msgspec

from tasks.confined import Place, shown
from tasks.desktop.desk import Desk
from tasks.desktop.effects import stop_if_asked
from tasks.desktop.encodings import MARKS, as_base64, mark_of, to_text
from tasks.desktop.read_cache import FileFacts
from tasks.desktop.windows import LineWindow, NewlineCount, Window, without_half_character
from tasks.operation import Run
from toolswarm.errors import OperationFailed

_CHUNK_BYTES = 1 << 20
_LARGEST_KEPT_BYTES = 1 << 20
"""Larger files are not kept in memory; their hash is."""
_LARGEST_UTF_16_BYTES = 16 << 20
"""Lines of UTF-16 are found in the decoded text, which is held whole."""

Unit = Literal["lines", "bytes"]


class FileText(msgspec.Struct, frozen=True, kw_only=True):
    """A file's content, or the part of it that was asked for."""

    path: str
    """Normalized, relative to your root folder."""
    content: str
    encoding: str
    """What `content` is: `utf-8`, `utf-8-sig`, `utf-16-le`, `utf-16-be` (these three: a byte order mark was taken
    off), `latin-1` when that was asked for, or `base64` when this part is no text."""
    sha256: str
    """Of the whole file as it lies on the disk; give it to a write as `expected_sha256`."""
    size_bytes: int
    """Of the whole file."""
    newline: str
    """How lines end in the whole file: `\\n`, `\\r\\n`, `\\r`, `mixed` or `none` (`unknown` in UTF-16 over 16 MiB)."""
    unit: Unit
    offset: int
    """The first line, or byte, that `content` has."""
    truncated: bool
    """Whether more follows."""
    next_offset: int | None
    """The line, or byte, to go on with; None at the end."""
    line_cut: bool
    """Whether the one line here is longer than `max_bytes`: `next_offset` is the line after it."""
    rest_offset_bytes: int | None
    """Where the rest of a cut line begins, to be read with `unit=bytes`."""


class Asked(NamedTuple):
    """Which part of a file is wanted, and as what."""

    unit: Unit
    offset: int
    limit: int
    max_bytes: int
    encoding: str
    """An encoding, or `auto`."""


class Opened(NamedTuple):
    """A file that is open, and was read once."""

    fd: int
    place: Place
    facts: FileFacts


def read_whole(fd: int, path: str, *, desk: Desk, run: Run, operation: str) -> FileFacts:
    """What reading the file to its end shows; from memory when it is known.

    Raises:
        OperationFailed: `too_large`, `stopped`.
    """
    status = os.fstat(fd)
    limit_bytes = desk.settings.max_file_bytes
    if status.st_size > limit_bytes:
        raise too_large(path, limit_bytes)
    known = desk.read_cache.get(status)
    if known is not None:
        return known
    digest, newlines = hashlib.sha256(), NewlineCount()
    first: bytes | None = None
    kept: list[bytes] = []
    size_bytes = 0
    while chunk := os.pread(fd, _CHUNK_BYTES, size_bytes):
        stop_if_asked(run)
        first = chunk if first is None else first
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            raise too_large(path, limit_bytes)
        digest.update(chunk)
        newlines.add(chunk)
        if size_bytes <= _LARGEST_KEPT_BYTES:
            kept.append(chunk)
    mark = mark_of(first or b"")
    facts = FileFacts(
        sha256=digest.hexdigest(),
        size_bytes=size_bytes,
        newline=newlines.kind() if mark not in ("utf-16-le", "utf-16-be") else _newline_of_utf_16(fd, size_bytes, mark),
        mark=mark,
        content=b"".join(kept) if size_bytes <= _LARGEST_KEPT_BYTES else None,
    )
    after = os.fstat(fd)
    if (after.st_size, after.st_mtime_ns, after.st_ctime_ns) == (size_bytes, status.st_mtime_ns, status.st_ctime_ns):
        desk.read_cache.put(status, facts, operation=operation)
    return facts


def take_part(opened: Opened, asked: Asked, run: Run) -> FileText:
    """The part of the file that was asked for.

    Raises:
        OperationFailed: `invalid_text` when it is not in the encoding that was asked for.
    """
    fd, place, facts = opened
    encoding = asked.encoding if asked.encoding != "auto" else facts.mark or "utf-8"
    taken = None
    if asked.unit == "bytes":
        window = _bytes_window(fd, facts, asked, encoding)
    else:
        if encoding.startswith("utf-16"):
            taken = _lines_of_utf_16(opened, asked, encoding)
        window = taken[0] if taken else _lines_window(fd, facts, asked, run)
    content, said = taken[1:] if taken else _text(window, asked.encoding, encoding, place.given)
    return FileText(
        path=place.path,
        content=content,
        encoding=said,
        sha256=facts.sha256,
        size_bytes=facts.size_bytes,
        newline=facts.newline,
        unit=asked.unit,
        offset=asked.offset,
        truncated=window.next_offset is not None,
        next_offset=window.next_offset,
        line_cut=window.rest_offset_bytes is not None,
        rest_offset_bytes=window.rest_offset_bytes,
    )


def too_large(path: str, limit_bytes: int) -> OperationFailed:
    """The refusal of a file that is larger than the operator allows."""
    return OperationFailed(
        f"{shown(path)} is larger than {limit_bytes} bytes; take a part of it with run_command",
        code="too_large",
        before_effect=True,
        limit_bytes=limit_bytes,
    )


def _lines_window(fd: int, facts: FileFacts, asked: Asked, run: Run) -> Window:
    window = LineWindow(asked.offset, limit=asked.limit, max_bytes=asked.max_bytes)
    if facts.content is not None:
        window.add(facts.content)
        return window.result(facts.size_bytes)
    at = 0
    while not window.is_full and (chunk := os.pread(fd, _CHUNK_BYTES, at)):
        stop_if_asked(run)
        window.add(chunk)
        at += len(chunk)
    return window.result(facts.size_bytes)


def _bytes_window(fd: int, facts: FileFacts, asked: Asked, encoding: str) -> Window:
    wanted = min(asked.limit, asked.max_bytes)
    if facts.content is not None:
        raw = facts.content[asked.offset : asked.offset + wanted]
    else:
        raw = os.pread(fd, wanted, asked.offset)
    if asked.offset + len(raw) < facts.size_bytes:
        if encoding in ("utf-8", "utf-8-sig"):
            raw = without_half_character(raw)
        elif encoding.startswith("utf-16"):
            raw = _without_half_utf_16(raw, encoding)
    end = asked.offset + len(raw)
    return Window(raw, asked.offset, end if raw and end < facts.size_bytes else None)


def _text(window: Window, asked: str, encoding: str, path: str) -> tuple[str, str]:
    raw = window.raw
    if encoding == "base64":
        return as_base64(raw), "base64"
    mark = MARKS.get(encoding, b"")
    text = None
    if not (encoding.startswith("utf-16") and window.start_byte % 2):
        text = to_text(raw.removeprefix(mark) if mark and window.start_byte == 0 else raw, encoding)
    if text is not None:
        return text, encoding
    if asked != "auto":
        raise OperationFailed(
            f"{shown(path)} is not {encoding} in this part; leave encoding out to get it as it is",
            code="invalid_text",
            before_effect=True,
        )
    return as_base64(raw), "base64"


def _lines_of_utf_16(opened: Opened, asked: Asked, encoding: str) -> tuple[Window, str, str] | None:
    """Lines are taken from the text as UTF-8, so `max_bytes` counts those; None: the file is not UTF-16 after all."""
    fd, place, facts = opened
    if facts.size_bytes > _LARGEST_UTF_16_BYTES:
        raise OperationFailed(
            f"{shown(place.given)} is too large for lines of UTF-16; read it with unit=bytes",
            code="too_large",
            before_effect=True,
            limit_bytes=_LARGEST_UTF_16_BYTES,
        )
    raw = _all(fd, facts)
    mark = MARKS[encoding]
    text = to_text(raw.removeprefix(mark), encoding)
    if text is None:
        return None
    utf_8 = text.encode()
    lines = LineWindow(asked.offset, limit=asked.limit, max_bytes=asked.max_bytes)
    lines.add(utf_8)
    window = lines.result(len(utf_8))
    if window.rest_offset_bytes is not None:
        units = len(utf_8[: window.rest_offset_bytes].decode().encode("utf-16-le"))
        rest = units + (len(mark) if raw.startswith(mark) else 0)
        window = window._replace(rest_offset_bytes=rest)
    return window, window.raw.decode(), encoding


def _newline_of_utf_16(fd: int, size_bytes: int, encoding: str) -> str:
    if size_bytes > _LARGEST_UTF_16_BYTES:
        return "unknown"
    text = to_text(os.pread(fd, size_bytes, 0), encoding)
    newlines = NewlineCount()
    newlines.add((text or "").encode())
    return newlines.kind()


def _all(fd: int, facts: FileFacts) -> bytes:
    return facts.content if facts.content is not None else os.pread(fd, facts.size_bytes, 0)


def _without_half_utf_16(raw: bytes, encoding: str) -> bytes:
    raw = raw[: len(raw) & ~1]
    high = raw[-1:] if encoding == "utf-16-le" else raw[-2:-1]
    cut_pair = len(raw) > 2 and 0xD8 <= high[0] <= 0xDB
    return raw[:-2] if cut_pair else raw
