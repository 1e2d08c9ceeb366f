"""Writing whole files, and adding to them, within the tenant's root."""

import hashlib
import os
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tasks.atomic import Content, Draft, atomic_change, write_all
from tasks.confined import Place, shown
from tasks.desktop.desk import Desk
from tasks.desktop.effects import PointOfNoReturn, stop_if_asked
from tasks.desktop.encodings import Encoding, encoded, to_bytes
from tasks.desktop.files import Path
from tasks.desktop.journal import change
from tasks.desktop.reading import too_large
from tasks.desktop.remembered import ROOT
from tasks.identity import Identity
from tasks.operation import Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

_CHUNK_BYTES = 1 << 20

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
MakeParents = Annotated[bool, Meta(description="Make the folders above it when they are missing.")]
ExpectedSha256 = Annotated[
    Sha256 | None, Meta(description="Do it only if the file's present content has this SHA-256; else `conflict`.")
]
WrittenAs = Annotated[
    Encoding,
    Meta(description="What `content` is written as; utf-8-sig and the utf-16 ones put their byte order mark first."),
]


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What a write has left."""

    path: str
    """Normalized, relative to your root folder."""
    sha256: str
    size_bytes: int
    created: bool
    changed: bool
    """False when the file had this content already."""


def _was_done(desk: Desk, run: Run, **_arguments: Any) -> Any:
    return desk.journal.outcome(run.call, desk.root(run.call.tenant))


# Not idempotent: a second attempt would write over what somebody else has written since the first, and one of
# mode=create would find its own file and take it for another's when that has been changed.
@operation(
    effect=Effect.VERIFIABLE, time_limit_s=30, marks_effect=True, probe=_was_done, destructive=True, changes=ROOT
)
def write_file(
    desk: Desk,
    run: Run,
    *,
    path: Path,
    content: Annotated[
        str, Meta(description="The whole new content; its line ends are kept as given.", examples=["first line\n"])
    ],
    mode: Annotated[
        Literal["replace", "create"],
        Meta(description="`replace` what is there, if anything; `create`: fail if something else is there."),
    ] = "replace",
    make_parents: MakeParents = False,
    expected_sha256: ExpectedSha256 = None,
    encoding: WrittenAs = "utf-8",
) -> Written:
    """Write a file in one step.

    Whoever reads it sees the old content or the new one, never a mixture, also after a crash. Mode, owner, ACL and
    extended attributes of an existing file are kept, setuid and setgid bits are not. The file is replaced, so another
    hard link to it keeps the old content. A symbolic link, device or FIFO is not written through. Writing the content
    that is there already succeeds and changes nothing, in both modes. To add to a file use append_file.
    """
    raw = to_bytes(content, encoding)
    place = desk.root(run.call.tenant).locate(path)
    if len(raw) > desk.settings.max_file_bytes:
        raise too_large(place.given, desk.settings.max_file_bytes)
    point = PointOfNoReturn(desk, run)
    sha256 = hashlib.sha256(raw).hexdigest()
    written = Written(path=place.path, sha256=sha256, size_bytes=len(raw), created=False, changed=False)

    def wanted(present: int | None) -> bytes | None:
        stop_if_asked(run)
        if present is None and expected_sha256 is None:
            return raw
        same_size = present is not None and os.fstat(present).st_size == len(raw)
        if mode == "create" and not same_size and present is not None:
            raise taken(place.given)
        if expected_sha256 is None and not same_size:
            return raw
        present_sha256 = None if present is None else sha256_of(present, run)
        if present_sha256 == sha256:
            return None
        if mode == "create" and present is not None:
            raise taken(place.given)
        check_expected(place.given, expected_sha256, present_sha256)
        return raw

    def last_look(new: Draft) -> None:
        nonlocal written
        written = msgspec.structs.replace(written, created=new.before is None, changed=True)
        point.passing([change(place, before=new.before, after=new.after)], written)

    put_file(desk, run, place, change=wanted, before_rename=last_look, make_parents=make_parents)
    return written


# Not idempotent: what is added twice is there twice. The journal knows which file the append leaves, and the change is
# one rename, so a probe can tell whether it was done for as long as nobody else has written the file since.
@operation(effect=Effect.VERIFIABLE, time_limit_s=60, marks_effect=True, probe=_was_done, changes=ROOT)
def append_file(
    desk: Desk,
    run: Run,
    *,
    path: Path,
    content: Annotated[str, Meta(description="What comes after the present content.", examples=["one more line\n"])],
    make_parents: MakeParents = False,
    expected_sha256: ExpectedSha256 = None,
    encoding: Annotated[
        Literal["utf-8", "utf-16-le", "utf-16-be", "latin-1", "base64"],
        Meta(description="What `content` is written as; no byte order mark is put between."),
    ] = "utf-8",
) -> Written:
    """Add to the end of a file.

    Makes the file when it is not there. The file with its new end takes the place of the old one in one step, as
    write_file does it: a reader sees all of the addition or nothing, and of two calls at once neither is lost. The
    file is copied for it, so adding little by little to a large file is slow. No line end is put in between: bring
    your own.
    """
    raw = added_bytes(content, encoding)
    root = desk.root(run.call.tenant)
    place = root.locate(path)
    point = PointOfNoReturn(desk, run)
    sha256 = ""
    written: Written | None = None

    def with_end(present: int | None) -> Content | None:
        nonlocal sha256
        digest = hashlib.sha256()
        if present is not None:
            if os.fstat(present).st_size + len(raw) > desk.settings.max_file_bytes:
                raise too_large(place.given, desk.settings.max_file_bytes)
            _feed(digest.update, present, run)
            check_expected(place.given, expected_sha256, digest.hexdigest())
        else:
            check_expected(place.given, expected_sha256, None)
        digest.update(raw)
        sha256 = digest.hexdigest()
        if present is not None and not raw:
            return None
        return lambda fd: _copy_and_add(present, fd, raw)

    def last_look(new: Draft) -> None:
        nonlocal written
        after = new.after
        written = Written(
            path=place.path, sha256=sha256, size_bytes=after.size_bytes, created=new.before is None, changed=True
        )
        point.passing([change(place, before=new.before, after=after)], written)

    put_file(desk, run, place, change=with_end, before_rename=last_look, make_parents=make_parents)
    if written is not None:
        return written
    size_bytes = root.status(place).st_size
    return Written(path=place.path, sha256=sha256, size_bytes=size_bytes, created=False, changed=False)


def put_file(
    desk: Desk,
    run: Run,
    place: Place,
    *,
    change: Callable[[int | None], Content | None],
    before_rename: Callable[[Draft], None],
    make_parents: bool = False,
) -> bool:
    """`atomic_change` in the tenant's root; what was read of the old file is forgotten."""
    replaced: Identity | None = None

    def noting(new: Draft) -> None:
        nonlocal replaced
        before_rename(new)
        replaced = new.before

    changed = atomic_change(
        desk.root(run.call.tenant),
        place,
        make_parents=make_parents,
        change=change,
        before_rename=noting,
        waiting=lambda: stop_if_asked(run),
    )
    if changed and replaced is not None:
        desk.read_cache.drop(replaced.device, replaced.inode)
    return changed


def check_expected(path: str, expected_sha256: str | None, present_sha256: str | None) -> None:
    """Refuse to change a file that is not the one the caller has seen.

    Raises:
        OperationFailed: `conflict`.
    """
    if expected_sha256 is not None and present_sha256 != expected_sha256:
        raise OperationFailed(
            f"{shown(path)} is not as expected: it was changed or removed; read it again, then write",
            code="conflict",
            before_effect=True,
            expected_sha256=expected_sha256,
            present_sha256=present_sha256,
        )


def taken(path: str) -> OperationFailed:
    """Something else is there already."""
    message = f"{shown(path)} is there already, with other content; use mode=replace to overwrite it"
    return OperationFailed(message, code="exists", before_effect=True, path=path[:200])


def added_bytes(content: str, encoding: str) -> bytes:
    """What is put behind a file's content: without a byte order mark."""
    return to_bytes(content, encoding) if encoding == "base64" else encoded(content, encoding, what="content")


def sha256_of(fd: int, run: Run) -> str:
    """The hash of the whole file."""
    digest = hashlib.sha256()
    _feed(digest.update, fd, run)
    return digest.hexdigest()


def _feed(take: Callable[[bytes], None], fd: int, run: Run) -> None:
    at = 0
    while chunk := os.pread(fd, _CHUNK_BYTES, at):
        stop_if_asked(run)
        take(chunk)
        at += len(chunk)


def _copy_and_add(present: int | None, fd: int, tail: bytes) -> None:
    if present is not None:
        copy_bytes(present, fd)
    write_all(fd, tail)


def copy_bytes(source: int, target: int) -> None:
    """All of a file, within the kernel where that is possible."""
    at = 0
    try:
        while count := os.copy_file_range(source, target, _CHUNK_BYTES * 64, offset_src=at):
            at += count
    except OSError:
        if at:
            raise
        while chunk := os.pread(source, _CHUNK_BYTES, at):
            write_all(target, chunk)
            at += len(chunk)
