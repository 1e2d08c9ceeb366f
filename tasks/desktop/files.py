"""Reading files within the tenant's root."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tasks.desktop.desk import Desk
from tasks.desktop.encodings import Encoding
from tasks.desktop.reading import Asked, FileText, Opened, Unit, read_whole, take_part
from tasks.desktop.remembered import ROOT
from tasks.operation import Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect, ErrorInfo

_LARGEST_READ_BYTES = 1 << 20
_LARGEST_TOTAL_BYTES = 4 << 20
_DEFAULT_LINES = 2000

Path = Annotated[str, Meta(description="File, relative to your root folder.", examples=["notes/today.md"])]
AnyEncoding = Literal["auto", Encoding]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file, or some lines of it, for `read_files`."""

    path: str
    offset: Annotated[int, Meta(ge=0)] = 0
    """First line, counted from 0."""
    limit: Annotated[int, Meta(ge=1, le=1_000_000)] = _DEFAULT_LINES
    """How many lines at most."""


class ReadItem(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one of the files: its text, or why there is none."""

    path: str
    """As it was asked for."""
    file: FileText | None
    error: ErrorInfo | None


class ReadFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The files in the order in which they were asked for."""

    items: list[ReadItem]
    failed: int
    """How many have an error."""
    truncated: bool
    """Whether `max_total_bytes` cut anything off."""


@operation(effect=Effect.READ, time_limit_s=30, tags=ROOT)
def read_file(
    desk: Desk,
    run: Run,
    *,
    path: Path,
    unit: Annotated[Unit, Meta(description="What `offset` and `limit` count: lines or bytes.")] = "lines",
    offset: Annotated[int, Meta(description="First line (or byte) to return, counted from 0.", ge=0)] = 0,
    limit: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000_000)] | None,
        Meta(description="How many lines (or bytes) at most; none: 2000 lines, or as many bytes as `max_bytes` has."),
    ] = None,
    max_bytes: Annotated[int, Meta(description="How many bytes at most.", ge=1, le=_LARGEST_READ_BYTES)] = 262_144,
    encoding: Annotated[
        AnyEncoding,
        Meta(description="`auto`: by the byte order mark, else UTF-8, else base64. `latin-1` only when you say so."),
    ] = "auto",
) -> FileText:
    """Read a file.

    All of it, or some lines or bytes, with the SHA-256 of the whole file. Line ends are kept as they are; what is no
    text comes as base64. Go on at `next_offset` until it is null. A line longer than `max_bytes` is cut between two
    characters: its rest begins at the byte `rest_offset_bytes` (read that with unit=bytes), and `next_offset` is the
    line after it. A symbolic link is followed if it stays within your root folder. Devices, FIFOs and sockets are
    refused.
    """
    if limit is None:
        limit = _DEFAULT_LINES if unit == "lines" else max_bytes
    return _read(desk, run, path, Asked(unit, offset, limit, max_bytes, encoding), operation="read_file")


@operation(effect=Effect.READ, time_limit_s=60, aliases=("read_multiple_files",), tags=ROOT)
def read_files(
    desk: Desk,
    run: Run,
    *,
    paths: Annotated[
        list[str | Part],
        Meta(
            description="Files, each as a path or as {path, offset, limit} to have some of its lines.",
            examples=[["src/app.py", {"path": "log.txt", "offset": 100, "limit": 50}]],
            min_length=1,
            max_length=200,
        ),
    ],
    max_bytes: Annotated[
        int, Meta(description="How many bytes of each at most.", ge=1, le=_LARGEST_READ_BYTES)
    ] = 262_144,
    max_total_bytes: Annotated[
        int, Meta(description="How many bytes of all together at most.", ge=1, le=_LARGEST_TOTAL_BYTES)
    ] = _LARGEST_READ_BYTES,
) -> ReadFiles:
    """Read several files.

    Each as `read_file` gives it. A file that cannot be read has an `error` and does not keep the others from being
    read. When `max_total_bytes` is used up, the file that reached it is cut, and those after it have the error
    `total_cap`.
    """
    items: list[ReadItem] = []
    left = max_total_bytes
    for wanted in paths:
        part = wanted if isinstance(wanted, Part) else Part(path=wanted)
        asked = Asked("lines", part.offset, part.limit, min(max_bytes, max(1, left)), "auto")
        try:
            if left <= 0:
                message = "max_total_bytes was used up before this file; ask for it again, with fewer others"
                raise OperationFailed(message, code="total_cap", before_effect=True)
            text = _read(desk, run, part.path, asked, operation="read_files")
        except OperationFailed as error:
            if error.failure_code == "stopped":
                raise
            items.append(ReadItem(path=part.path, file=None, error=error.info()))
        else:
            left -= len(text.content.encode())
            items.append(ReadItem(path=part.path, file=text, error=None))
    failed = sum(item.error is not None for item in items)
    capped = left <= 0 and (failed > 0 or any(item.file and item.file.truncated for item in items))
    return ReadFiles(items=items, failed=failed, truncated=capped)


def _read(desk: Desk, run: Run, path: str, asked: Asked, *, operation: str) -> FileText:
    root = desk.root(run.call.tenant)
    place = root.locate(path)
    with root.open_file(place) as fd:
        facts = read_whole(fd, place.given, desk=desk, run=run, operation=operation)
        return take_part(Opened(fd, place, facts), asked, run)
