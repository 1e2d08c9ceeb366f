"""Reading, writing and listing files within the tenant's root."""

import hashlib
import os
from typing import Annotated

import msgspec
from msgspec import Meta

from tasks.atomic import atomic_replace
from tasks.confined import shown
from tasks.desktop.desk import Desk
from tasks.desktop.scan import Entry, walk
from tasks.operation import Run, operation
from tasks.text import text_or_base64
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

_CHUNK_BYTES = 1 << 20
_LARGEST_FILE_BYTES = 1 << 30  # it is read to its end for the hash: about a second
_LARGEST_READ_BYTES = 1 << 20


class FileText(msgspec.Struct, frozen=True, kw_only=True):
    """A file's content, or the part of it that was asked for."""

    path: str
    content: str
    encoding: str
    """`utf-8`, or `base64` when these lines are not UTF-8."""
    sha256: str
    """Of the whole file; give it to `write_file` as `expected_sha256`."""
    size_bytes: int
    """Of the whole file."""
    offset: int
    truncated: bool
    """Whether more follows, or a line was cut."""
    next_offset: int | None
    """The line to go on with; None at the end."""
    line_cut: bool
    """Whether the one line is longer than `max_bytes`: its rest is left out."""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What a write has left."""

    path: str
    sha256: str
    size_bytes: int
    created: bool
    changed: bool
    """False when the file had this content already."""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a folder, sorted by name; a folder's own entries follow it."""

    path: str
    entries: list[Entry]
    truncated: bool


@operation(effect=Effect.READ, time_limit_s=30)
def read_file(
    desk: Desk,
    run: Run,
    *,
    path: Annotated[str, Meta(description="File, relative to your root folder.")],
    offset: Annotated[int, Meta(description="First line to return, counted from 0.", ge=0)] = 0,
    limit: Annotated[int, Meta(description="How many lines at most.", ge=1, le=1_000_000)] = 2000,
    max_bytes: Annotated[int, Meta(description="How many bytes at most.", ge=1, le=_LARGEST_READ_BYTES)] = 262_144,
) -> FileText:
    """Read a file.

    All of it, or some lines. Line ends and byte order marks are kept as they are. What is not UTF-8 comes as base64.
    """
    with desk.root(run.call.tenant).open_file(path) as fd:
        if os.fstat(fd).st_size > _LARGEST_FILE_BYTES:
            raise _too_large(path)
        window = _Window(offset, limit=limit, max_bytes=max_bytes)
        digest = hashlib.sha256()
        size_bytes = 0
        while chunk := os.read(fd, _CHUNK_BYTES):
            stop_if_asked(run)
            size_bytes += len(chunk)
            if size_bytes > _LARGEST_FILE_BYTES:
                raise _too_large(path)
            digest.update(chunk)
            window.add(chunk)
    raw, next_offset, line_cut = window.result()
    content, encoding = text_or_base64(raw)
    return FileText(
        path=path,
        content=content,
        encoding=encoding,
        sha256=digest.hexdigest(),
        size_bytes=size_bytes,
        offset=offset,
        truncated=next_offset is not None or line_cut,
        next_offset=next_offset,
        line_cut=line_cut,
    )


@operation(effect=Effect.IDEMPOTENT, time_limit_s=30)
def write_file(
    desk: Desk,
    run: Run,
    *,
    path: Annotated[str, Meta(description="File, relative to your root folder.")],
    content: Annotated[str, Meta(description="The whole new content, written as UTF-8 with its line ends as given.")],
    make_parents: Annotated[bool, Meta(description="Make the folders above it when they are missing.")] = False,
    expected_sha256: Annotated[
        Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None,
        Meta(description="Write only if the file's present content has this SHA-256."),
    ] = None,
) -> Written:
    """Write a file in one step.

    Whoever reads it sees the old content or the new one, never a mixture. Mode, owner and extended attributes of an
    existing file are kept. A symbolic link is not written through.
    """
    try:
        raw = content.encode("utf-8")
    except UnicodeEncodeError as error:
        raise OperationFailed(
            "content has half of a surrogate pair, which UTF-8 cannot hold; send whole characters",
            code="invalid_text",
            before_effect=True,
        ) from error
    new_sha256 = hashlib.sha256(raw).hexdigest()
    created = False

    def may_replace(present: int | None) -> bool:
        nonlocal created
        created = present is None
        stop_if_asked(run)
        if present is not None and expected_sha256 is None and os.fstat(present).st_size != len(raw):
            return True
        present_sha256 = None if present is None else _sha256(present, run)
        if present_sha256 == new_sha256:
            return False  # also the second attempt of a call whose first one wrote, and was lost
        if expected_sha256 is not None and present_sha256 != expected_sha256:
            raise OperationFailed(
                f"{shown(path)} is not as expected: it was changed or removed; read it again, then write",
                code="conflict",
                before_effect=True,
                expected_sha256=expected_sha256,
                present_sha256=present_sha256,
            )
        return True

    confined = desk.root(run.call.tenant)
    changed = atomic_replace(confined, path, content=raw, make_parents=make_parents, may_replace=may_replace)
    return Written(path=path, sha256=new_sha256, size_bytes=len(raw), created=created, changed=changed)


@operation(effect=Effect.READ, time_limit_s=30)
def list_directory(
    desk: Desk,
    run: Run,
    *,
    path: Annotated[str, Meta(description="Folder, relative to your root folder.")] = ".",
    depth: Annotated[int, Meta(description="1: this folder; 2: its folders too; and so on.", ge=1, le=32)] = 1,
    max_entries: Annotated[int, Meta(description="How many entries at most.", ge=1, le=10_000)] = 1000,
) -> Listing:
    """List a folder.

    Entries are sorted by name, each folder's own after it. Symbolic links are named, never followed.
    """
    entries: list[Entry] = []
    truncated = False
    with desk.root(run.call.tenant).open_folder(path) as fd:
        for found in walk(fd, depth=depth):
            stop_if_asked(run)
            if len(entries) == max_entries:
                truncated = True
                break
            entries.append(found.entry)
    return Listing(path=path, entries=entries, truncated=truncated)


def stop_if_asked(run: Run) -> None:
    """End a long piece of work that nobody waits for any more, before it has changed anything.

    Raises:
        OperationFailed: `stopped`.
    """
    if run.stop_requested():
        raise OperationFailed("stopped before it was done", code="stopped", retryable=True, before_effect=True)


class _Window:
    """Takes some lines out of chunks of bytes, without keeping the rest."""

    def __init__(self, offset: int, *, limit: int, max_bytes: int) -> None:
        self._offset = offset
        self._limit = limit
        self._max_bytes = max_bytes
        self._line = 0
        """Line that the next byte belongs to."""
        self._kept = bytearray()
        self._whole_bytes = 0
        """How much of `_kept` is whole lines, and how many lines that is."""
        self._whole_lines = 0
        self._full = False
        self._more = False

    def add(self, chunk: bytes) -> None:
        if self._full:
            self._more = True
            return
        start = 0
        while start < len(chunk) and not self._full:
            newline = chunk.find(b"\n", start)
            end = len(chunk) if newline < 0 else newline + 1
            if self._line >= self._offset:
                self._keep(chunk[start:end], ends=newline >= 0)
            if newline >= 0:
                self._line += 1
            start = end
        self._more = start < len(chunk)

    def _keep(self, piece: bytes, *, ends: bool) -> None:
        room = self._max_bytes - len(self._kept)
        self._kept += piece[:room]
        if len(piece) > room:
            self._full = True
        elif ends:
            self._whole_bytes = len(self._kept)
            self._whole_lines += 1
            self._full = self._whole_lines == self._limit

    def result(self) -> tuple[bytes, int | None, bool]:
        """The bytes, the line to go on with, and whether the only line was cut."""
        if not self._full:
            return bytes(self._kept), None, False
        after = self._offset + self._whole_lines
        if len(self._kept) == self._whole_bytes:
            return bytes(self._kept), after if self._more or self._whole_lines < self._limit else None, False
        if self._whole_lines:
            return bytes(self._kept[: self._whole_bytes]), after, False
        return _without_half_character(bytes(self._kept)), after + 1, True


def _without_half_character(raw: bytes) -> bytes:
    for cut in range(min(4, len(raw))):
        if raw[len(raw) - 1 - cut] & 0xC0 != 0x80:  # the first byte of the last character
            head, last = raw[: len(raw) - 1 - cut], raw[len(raw) - 1 - cut :]
            return raw if text_or_base64(last)[1] == "utf-8" else head
    return raw


def _sha256(fd: int, run: Run) -> str:
    digest = hashlib.sha256()
    while chunk := os.read(fd, _CHUNK_BYTES):
        stop_if_asked(run)
        digest.update(chunk)
    return digest.hexdigest()


def _too_large(path: str) -> OperationFailed:
    return OperationFailed(
        f"{shown(path)} is larger than {_LARGEST_FILE_BYTES} bytes; read a part of it with run_command",
        code="too_large",
        before_effect=True,
        limit_bytes=_LARGEST_FILE_BYTES,
    )
