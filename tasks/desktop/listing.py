"""Looking at folders and files without reading them, within the tenant's root."""

import base64
import binascii
import os
import stat
from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from tasks.confined import TEMPORARY_SUFFIX, Confined, Place
from tasks.desktop.desk import Desk
from tasks.desktop.effects import stop_if_asked
from tasks.desktop.reading import read_whole
from tasks.desktop.remembered import ROOT
from tasks.operation import Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

_DEEPEST = 32
"""Each level holds a descriptor open."""
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
_UNSEEN = os.fsencode(TEMPORARY_SUFFIX)


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing in a folder."""

    path: str
    """Relative to your root folder; bytes that are no UTF-8 are spelled `\\xNN`, and may be given so."""
    kind: str
    """`file`, `directory`, `symlink` or `other` (a device, FIFO or socket)."""
    size_bytes: int
    modified_at: float
    """Unix seconds."""
    unreadable: bool = False
    """A folder that could not be looked into, or what is in a folder that could not be entered: of that only the kind
    is known."""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a folder, sorted by name; a folder's own entries follow it."""

    path: str
    entries: list[Entry]
    truncated: bool
    """Whether there are more."""
    next_cursor: str | None
    """Give it as `cursor` to go on; None at the end."""


class FileInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a path, of a link itself and not of what it leads to."""

    path: str
    kind: str
    """`file`, `directory`, `symlink` or `other` (a device, FIFO or socket)."""
    size_bytes: int
    mode: str
    """Permissions in octal, such as `0644`."""
    uid: int
    gid: int
    hard_links: int
    modified_at: float
    """Unix seconds; so are the next two."""
    changed_at: float
    """When its content, name or mode was changed last."""
    accessed_at: float
    link_target: str | None
    """Of a symbolic link: what is stored in it."""
    sha256: str | None
    """Of a file, when it was asked for."""


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that paths are relative to."""

    path: str
    """Absolute; paths may begin with it, or be relative to it."""
    kind: str
    """`workspace`: made for you; `configured`: chosen by the operator."""
    writable: bool
    free_bytes: int


class AllowedRoots(msgspec.Struct, frozen=True, kw_only=True):
    """Where you may work, and the limits there; only the operator changes them."""

    roots: list[Root]
    max_file_bytes: int
    max_edit_bytes: int
    max_tree_entries: int


@operation(effect=Effect.READ, time_limit_s=30, tags=ROOT)
def list_directory(
    desk: Desk,
    run: Run,
    *,
    path: Annotated[str, Meta(description="Folder, relative to your root folder.", examples=["src"])] = ".",
    depth: Annotated[int, Meta(description="1: this folder; 2: its folders too; and so on.", ge=1, le=_DEEPEST)] = 1,
    max_entries: Annotated[int, Meta(description="How many entries at most.", ge=1, le=10_000)] = 1000,
    include_hidden: Annotated[bool, Meta(description="Also what begins with a dot.")] = True,
    cursor: Annotated[str | None, Meta(description="`next_cursor` of the list before, to go on after it.")] = None,
) -> Listing:
    """List a folder.

    Entries are sorted by name (byte by byte), each folder's own after it. Symbolic links are named, never followed.
    Temporary files of writes that are going on are left out. A list that is continued does not show what was made
    before the place where it goes on, in the meantime.
    """
    after = _decoded(cursor)
    root = desk.root(run.call.tenant)
    place = root.locate(path)
    entries: list[Entry] = []
    last: tuple[bytes, ...] = ()
    with root.open_folder(place) as fd:
        for names, entry in _walk(fd, (), depth=depth, after=after, hidden=include_hidden):
            if len(entries) == max_entries:
                return Listing(path=place.path, entries=entries, truncated=True, next_cursor=_encoded(last))
            if len(entries) % 256 == 0:
                stop_if_asked(run)
            entries.append(_within(place, names, entry))
            last = names
    return Listing(path=place.path, entries=entries, truncated=False, next_cursor=None)


@operation(effect=Effect.READ, time_limit_s=30, aliases=("get_file_info",), tags=ROOT)
def file_info(
    desk: Desk,
    run: Run,
    *,
    path: Annotated[str, Meta(description="Anything, relative to your root folder.", examples=["README.md"])],
    sha256: Annotated[bool, Meta(description="Also read the file and tell its hash.")] = False,
) -> FileInfo:
    """Look at a file, folder or link.

    Kind, size, mode, owner and times. A symbolic link is described itself, with its target as it is stored.
    """
    root = desk.root(run.call.tenant)
    place = root.locate(path)
    found = root.status(place)
    digest = None
    if sha256 and stat.S_ISREG(found.st_mode):
        with root.open_file(place) as fd:
            digest = read_whole(fd, place.given, desk=desk, run=run, operation="file_info").sha256
            found = os.fstat(fd)
    return FileInfo(
        path=place.path,
        kind=kind_of(found.st_mode),
        size_bytes=found.st_size,
        mode=f"{stat.S_IMODE(found.st_mode):04o}",
        uid=found.st_uid,
        gid=found.st_gid,
        hard_links=found.st_nlink,
        modified_at=found.st_mtime,
        changed_at=found.st_ctime,
        accessed_at=found.st_atime,
        link_target=_target(root, place) if stat.S_ISLNK(found.st_mode) else None,
        sha256=digest,
    )


@operation(effect=Effect.READ, time_limit_s=10, aliases=("list_allowed_directories",))
def allowed_roots(desk: Desk, run: Run) -> AllowedRoots:
    """Tell where you may work.

    Your root folder and the limits on files in it. No path leads outside, and no operation changes this.
    """
    tenant = run.call.tenant
    root = desk.root(tenant)
    space = os.statvfs(root.root)
    found = Root(
        path=os.fsencode(root.root).decode("utf-8", "backslashreplace"),
        kind="configured" if desk.is_configured(tenant) else "workspace",
        writable=os.access(root.root, os.W_OK, effective_ids=True),
        free_bytes=space.f_bavail * space.f_frsize,
    )
    return AllowedRoots(
        roots=[found],
        max_file_bytes=desk.settings.max_file_bytes,
        max_edit_bytes=desk.settings.max_edit_bytes,
        max_tree_entries=desk.settings.max_tree_entries,
    )


def kind_of(mode: int) -> str:
    """`file`, `directory`, `symlink` or `other`."""
    return _KINDS.get(stat.S_IFMT(mode), "other")


def _walk(
    folder_fd: int, above: tuple[bytes, ...], *, depth: int, after: tuple[bytes, ...], hidden: bool
) -> Iterator[tuple[tuple[bytes, ...], Entry]]:
    """What comes after `after` (names from this folder), with the names that lead to it."""
    with os.scandir(folder_fd) as scanned:
        found = {os.fsencode(entry.name): entry for entry in scanned}
    for name in sorted(found):
        if name.endswith(_UNSEEN) or (not hidden and name.startswith(b".")):
            continue
        if after and name < after[0]:
            continue
        told_already = bool(after) and name == after[0]
        try:
            status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            continue  # removed in between
        except PermissionError:  # a folder that may be listed but not entered
            if not told_already:
                yield (*above, name), _unknown(found[name])
            continue
        inner = _open_folder(folder_fd, name) if stat.S_ISDIR(status.st_mode) and depth > 1 else None
        here = (*above, name)
        try:
            if not told_already:
                yield here, _entry(status, unreadable=inner is None and stat.S_ISDIR(status.st_mode) and depth > 1)
            if inner is not None:
                rest = after[1:] if told_already else ()
                yield from _walk(inner, here, depth=depth - 1, after=rest, hidden=hidden)
        finally:
            if inner is not None:
                os.close(inner)


def _open_folder(parent_fd: int, name: bytes) -> int | None:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    except OSError:
        return None  # told as `unreadable`


def _entry(status: os.stat_result, *, unreadable: bool) -> Entry:
    return Entry(
        path="",
        kind=kind_of(status.st_mode),
        size_bytes=status.st_size,
        modified_at=status.st_mtime,
        unreadable=unreadable,
    )


def _unknown(entry: "os.DirEntry[str]") -> Entry:
    if entry.is_symlink():
        kind = "symlink"
    elif entry.is_dir(follow_symlinks=False):
        kind = "directory"
    else:
        kind = "file" if entry.is_file(follow_symlinks=False) else "other"
    return Entry(path="", kind=kind, size_bytes=0, modified_at=0.0, unreadable=True)


def _within(folder: Place, names: tuple[bytes, ...], entry: Entry) -> Entry:
    relative = b"/".join(names if folder.is_root else (folder.relative, *names))
    return msgspec.structs.replace(entry, path=Place("", relative).path)


def _target(root: Confined, place: Place) -> str:
    with root.open_parent(place, make_parents=False) as (folder_fd, name):
        try:
            return os.readlink(name, dir_fd=folder_fd).decode("utf-8", "backslashreplace")
        except OSError as error:
            raise OperationFailed(
                f"{place.path!a} was changed while it was looked at; look again", code="conflict", retryable=True
            ) from error


def _encoded(names: tuple[bytes, ...]) -> str:
    return base64.urlsafe_b64encode(b"/".join(names)).decode("ascii")


def _decoded(cursor: str | None) -> tuple[bytes, ...]:
    if cursor is None:
        return ()
    try:
        raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        message = "cursor is not one that a list gave; leave it out to begin anew"
        raise OperationFailed(message, code="invalid_cursor", before_effect=True) from error
    return tuple(raw.split(b"/"))
