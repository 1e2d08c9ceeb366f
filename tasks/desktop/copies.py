"""Copying files and folders within the tenant's root."""

import errno
import hashlib
import os
import stat
from contextlib import suppress
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from tasks.atomic import Content, Draft, draft
from tasks.beneath import rename_new
from tasks.confined import TEMPORARY_SUFFIX, Confined, Place, failure, refused
from tasks.desktop.desk import Desk
from tasks.desktop.effects import PointOfNoReturn, stop_if_asked
from tasks.desktop.journal import change
from tasks.desktop.moves import Destination, Overwrite, Source
from tasks.desktop.reading import too_large
from tasks.desktop.remembered import ROOT
from tasks.desktop.trees import Tally, copy_tree, dress, open_folder_at, remove_tree, see_on_disk
from tasks.desktop.writes import copy_bytes, put_file
from tasks.identity import identity_of
from tasks.operation import Run, operation
from toolswarm.messages import Effect


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """What was copied."""

    source: str
    path: str
    """The copy, normalized, relative to your root folder."""
    kind: str
    files: int
    folders: int
    size_bytes: int
    """Of all files together."""
    replaced: bool
    """Whether a file was there and is gone."""


def _was_done(desk: Desk, run: Run, **_arguments: Any) -> Any:
    return desk.journal.outcome(run.call, desk.root(run.call.tenant))


# Not idempotent: a second attempt would find the copy there, or copy another content over it. The copy gets its name
# in one rename, so the journal can tell.
@operation(
    effect=Effect.VERIFIABLE, time_limit_s=120, marks_effect=True, probe=_was_done, destructive=True, changes=ROOT
)
def copy(
    desk: Desk,
    run: Run,
    *,
    source: Source,
    destination: Destination,
    overwrite: Overwrite = False,
    make_parents: Annotated[bool, Meta(description="Make the folders above the destination.")] = False,
) -> Copied:
    """Copy a file or folder.

    The copy appears in one step when it is complete, and a copy that fails leaves nothing. Modes and extended
    attributes are copied (a file that is overwritten keeps its own); owner, times, setuid and setgid bits are not,
    and hard links become files of their own. Symbolic
    links in a folder are copied as they are stored; a source that is itself a link is refused, and so are devices,
    FIFOs and sockets.
    """
    root = desk.root(run.call.tenant)
    origin, target = root.locate(source), root.locate(destination)
    found = root.status(origin)
    if target.is_root:
        raise refused(target.given, "is the root folder itself")
    if stat.S_ISLNK(found.st_mode):
        raise failure(OSError(errno.ELOOP, ""), origin.given)
    if stat.S_ISDIR(found.st_mode):
        return _copy_folder(desk, run, _Ends(root, origin, target, make_parents))
    return _copy_file(desk, run, _Ends(root, origin, target, make_parents), overwrite=overwrite)


class _Ends(NamedTuple):
    root: Confined
    origin: Place
    target: Place
    make_parents: bool


def _copy_file(desk: Desk, run: Run, ends: _Ends, *, overwrite: bool) -> Copied:
    root, origin, target, make_parents = ends
    point = PointOfNoReturn(desk, run)
    copied: Copied | None = None
    with root.open_file(origin) as source_fd:
        opened = os.fstat(source_fd)
        if opened.st_size > desk.settings.max_file_bytes:
            raise too_large(origin.given, desk.settings.max_file_bytes)

        def write(fd: int) -> None:
            copy_bytes(source_fd, fd)

        def write_new(fd: int) -> None:
            copy_bytes(source_fd, fd)
            dress(fd, source_fd)

        def wanted(present: int | None) -> Content:
            stop_if_asked(run)
            if present is None:
                return write_new
            if not overwrite:
                raise failure(FileExistsError(errno.EEXIST, ""), target.given)
            if os.path.samestat(os.fstat(present), opened):
                raise refused(target.given, "is the source itself")
            return write

        def last_look(new: Draft) -> None:
            nonlocal copied
            copied = Copied(
                source=origin.path,
                path=target.path,
                kind="file",
                files=1,
                folders=0,
                size_bytes=new.after.size_bytes,
                replaced=new.before is not None,
            )
            point.passing([change(target, before=new.before, after=new.after)], copied)

        put_file(desk, run, target, change=wanted, before_rename=last_look, make_parents=make_parents)
    assert copied is not None
    return copied


def _copy_folder(desk: Desk, run: Run, ends: _Ends) -> Copied:
    root, origin, target, make_parents = ends
    tally = Tally(origin.given, desk.settings.max_tree_entries, lambda: stop_if_asked(run))
    with (
        root.open_folder(origin) as source_fd,
        root.open_parent(target, make_parents=make_parents) as (folder_fd, name),
        draft(folder_fd, name, target.given, lambda: stop_if_asked(run)) as held,
    ):
        with suppress(FileNotFoundError):
            os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
            raise failure(FileExistsError(errno.EEXIST, ""), target.given)
        staging = _staging_name(name)
        _remove_staging(folder_fd, staging, tally)
        os.mkdir(staging, 0o700, dir_fd=folder_fd)
        is_put = False
        try:
            staged = open_folder_at(folder_fd, staging)
            try:
                identity = identity_of(staged)
                copy_tree(source_fd, staged, tally, staging=(identity.device, identity.inode))
                dress(staged, source_fd)
                see_on_disk(staged)
            finally:
                os.close(staged)
            copied = Copied(
                source=origin.path,
                path=target.path,
                kind="directory",
                files=tally.files,
                folders=tally.folders + 1,
                size_bytes=tally.copied_bytes,
                replaced=False,
            )
            made = change(target, before=None, after=identity, by_inode=True)
            PointOfNoReturn(desk, run).passing([made], copied)
            rename_new(folder_fd, staging, folder_fd, name)
            is_put = True
            os.fsync(folder_fd)
        except OSError as error:
            raise failure(error, held.path, before_effect=not is_put) from error
        finally:
            if not is_put:
                _remove_staging(folder_fd, staging, tally)
    return copied


def _staging_name(name: bytes) -> bytes:
    return f".{hashlib.sha256(name).hexdigest()[:16]}.tree{TEMPORARY_SUFFIX}".encode()


def _remove_staging(folder_fd: int, name: bytes, tally: Tally) -> None:
    """Remove a copy that did not come to its end, this one or one of a killed worker."""
    try:
        inner = open_folder_at(folder_fd, name)
    except FileNotFoundError:
        return
    try:
        remove_tree(inner, Tally(tally.path, tally.limit * 2, lambda: None))
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder_fd)
