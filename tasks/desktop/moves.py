"""Making folders, and moving, copying and deleting files and folders within the tenant's root."""

import errno
import os
import stat
import sys
from contextlib import ExitStack
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tasks.atomic import draft
from tasks.beneath import rename_new
from tasks.confined import Confined, Place, failure, refused, shown
from tasks.desktop.desk import Desk
from tasks.desktop.effects import PointOfNoReturn, stop_if_asked
from tasks.desktop.journal import change
from tasks.desktop.listing import kind_of
from tasks.desktop.remembered import ROOT
from tasks.desktop.trees import Tally, open_folder_at, remove_litter, remove_tree
from tasks.identity import Identity, identity_at
from tasks.operation import Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

Source = Annotated[str, Meta(description="File or folder, relative to your root folder.", examples=["drafts/a.md"])]
Destination = Annotated[
    str, Meta(description="Its new path, with its name, relative to your root folder.", examples=["done/a.md"])
]
Overwrite = Annotated[bool, Meta(description="Replace a file that is there; a folder is never replaced.")]


class FolderMade(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that is there now."""

    path: str
    """Normalized, relative to your root folder."""
    created: bool
    """False when it was there already."""


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """Where something is now."""

    source: str
    path: str
    """The new path, normalized, relative to your root folder."""
    kind: str
    replaced: bool
    """Whether a file was there and is gone."""


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """What is gone."""

    path: str
    kind: str | None
    """`file`, `directory`, `symlink` or `other`; None: there was nothing."""
    deleted: bool
    files: int | None
    """Files and links that were removed, in all; None: the count was lost with a worker."""
    folders: int | None


@operation(effect=Effect.IDEMPOTENT, time_limit_s=10, aliases=("create_directory",), changes=ROOT)
def make_directory(
    desk: Desk,
    run: Run,
    *,
    path: Annotated[str, Meta(description="Folder, relative to your root folder.", examples=["reports/2026"])],
    make_parents: Annotated[bool, Meta(description="Make the folders above it when they are missing.")] = True,
) -> FolderMade:
    """Make a folder.

    Succeeds when it is there already. It is an error when something else has the name.
    """
    root = desk.root(run.call.tenant)
    place = root.locate(path)
    if place.is_root:
        return FolderMade(path=place.path, created=False)
    with root.open_parent(place, make_parents=make_parents) as (folder_fd, name):
        stop_if_asked(run)
        try:
            os.mkdir(name, dir_fd=folder_fd)
            os.fsync(folder_fd)
        except FileExistsError as error:
            if stat.S_ISDIR(root.status(place).st_mode):
                return FolderMade(path=place.path, created=False)
            raise failure(error, place.given) from error
        except OSError as error:
            raise failure(error, place.given) from error
    return FolderMade(path=place.path, created=True)


def _was_done(desk: Desk, run: Run, **_arguments: Any) -> Any:
    return desk.journal.outcome(run.call, desk.root(run.call.tenant))


# Not idempotent: a second attempt would not find the source, or would move what has taken its name since. A moved
# file is still the same inode, so the journal can tell whether it was moved.
@operation(
    effect=Effect.VERIFIABLE, time_limit_s=30, marks_effect=True, probe=_was_done, destructive=True, changes=ROOT
)
def move(
    desk: Desk,
    run: Run,
    *,
    source: Source,
    destination: Destination,
    overwrite: Overwrite = False,
    make_parents: Annotated[bool, Meta(description="Make the folders above the destination.")] = False,
) -> Moved:
    """Move or rename a file or folder.

    In one step: nobody sees both or neither. A symbolic link is moved itself. Fails if something is at the destination
    (unless `overwrite`, and both are files), and between file systems: copy and delete there. A file that may not be
    written is not overwritten either, as in write_file.
    """
    root = desk.root(run.call.tenant)
    origin, target = root.locate(source), root.locate(destination)
    _check_not_root(origin)
    _check_not_root(target)
    if target.relative.startswith(origin.relative + b"/"):
        raise refused(target.given, "lies in what is to be moved")
    with ExitStack() as held:
        from_fd, from_name = held.enter_context(root.open_parent(origin, make_parents=False))
        _look(from_fd, from_name, origin)  # nothing is made above the destination for a source that is not there
        to_fd, to_name = held.enter_context(root.open_parent(target, make_parents=make_parents))
        _hold(held, run, [(from_fd, from_name, origin), (to_fd, to_name, target)])
        found = _look(from_fd, from_name, origin)
        origin_identity = _identity(from_fd, from_name, origin)
        there = _check_target(to_fd, to_name, target, overwrite=overwrite, found=found)
        moved = Moved(source=origin.path, path=target.path, kind=kind_of(found.st_mode), replaced=there is not None)
        if there is not None and there.is_same_file(origin_identity):
            if _same_name((from_fd, from_name), (to_fd, to_name)):
                return msgspec.structs.replace(moved, replaced=False)
            raise refused(target.given, "is the same file under a second name; delete the one that is to go")
        PointOfNoReturn(desk, run).passing(
            [
                change(origin, before=origin_identity, after=None, by_inode=True),
                change(target, before=there, after=origin_identity, by_inode=True),
            ],
            moved,
        )
        is_moved = False
        try:
            if overwrite:
                os.replace(from_name, to_name, src_dir_fd=from_fd, dst_dir_fd=to_fd)
            else:
                rename_new(from_fd, from_name, to_fd, to_name)
            is_moved = True
            os.fsync(to_fd)
            os.fsync(from_fd)
        except OSError as error:
            if is_moved:
                raise failure(error, target.given, before_effect=False) from error
            raise _move_failure(error, target) from error
    return moved


# Not idempotent: a second attempt would remove what somebody has put there since. The journal knows which inode was to
# go; a second attempt goes on where the first one stopped if it is still there.
@operation(
    effect=Effect.VERIFIABLE, time_limit_s=120, marks_effect=True, probe=_was_done, destructive=True, changes=ROOT
)
def delete(
    desk: Desk,
    run: Run,
    *,
    path: Annotated[str, Meta(description="File or folder, relative to your root folder.", examples=["old.log"])],
    recursive: Annotated[bool, Meta(description="Also a folder with something in it, and all of that.")] = False,
    missing_ok: Annotated[bool, Meta(description="Succeed when there is nothing.")] = False,
) -> Deleted:
    """Delete a file, link or folder.

    For good: there is no bin. A symbolic link is removed itself, never what it leads to. A folder with something in it
    needs `recursive`; that is not one step, and when it fails or is stopped in the middle, the rest is still there.
    The root folder itself cannot be deleted.
    """
    root = desk.root(run.call.tenant)
    place = root.locate(path)
    _check_not_root(place)
    try:
        return _delete(desk, run, root, place, recursive=recursive)
    except OperationFailed as error:
        if missing_ok and error.failure_code == "not_found":
            return Deleted(path=place.path, kind=None, deleted=False, files=0, folders=0)
        raise


def _delete(desk: Desk, run: Run, root: Confined, place: Place, *, recursive: bool) -> Deleted:
    begun = False
    tally = Tally(place.given, sys.maxsize, lambda: stop_if_asked(run, before_effect=False))
    with ExitStack() as held:
        folder_fd, name = held.enter_context(root.open_parent(place, make_parents=False))
        _hold(held, run, [(folder_fd, name, place)])
        found = _look(folder_fd, name, place)
        is_folder = stat.S_ISDIR(found.st_mode)
        try:
            inner = -1
            if is_folder:
                inner = open_folder_at(folder_fd, name)
                held.callback(os.close, inner)
                if os.fstat(inner).st_dev != os.fstat(folder_fd).st_dev:
                    raise refused(place.given, "is a mount point")
                if not recursive:
                    remove_litter(inner, place.given)
                    if os.listdir(inner):
                        raise failure(OSError(errno.ENOTEMPTY, ""), place.given)
            counts = (None, None) if is_folder else (1, 0)
            gone = Deleted(
                path=place.path, kind=kind_of(found.st_mode), deleted=True, files=counts[0], folders=counts[1]
            )
            gone_change = change(place, before=identity_at(folder_fd, name), after=None, by_inode=is_folder)
            PointOfNoReturn(desk, run).passing([gone_change], gone)
            begun = True
            tally.count(found.st_mode)
            if is_folder:
                remove_tree(inner, tally)
                os.rmdir(name, dir_fd=folder_fd)
            else:
                os.unlink(name, dir_fd=folder_fd)
            os.fsync(folder_fd)
        except OSError as error:
            raise failure(error, place.given, before_effect=not begun) from error
        except OperationFailed as error:
            error.before_effect = not begun
            raise
    desk.read_cache.drop(found.st_dev, found.st_ino)
    return msgspec.structs.replace(gone, files=tally.files, folders=tally.folders)


def _same_name(one: tuple[int, bytes], other: tuple[int, bytes]) -> bool:
    return one[1] == other[1] and os.path.sameopenfile(one[0], other[0])


def _check_not_root(place: Place) -> None:
    if place.is_root:
        raise refused(place.given, "is the root folder itself, which stays where it is")


def _look(folder_fd: int, name: bytes, place: Place) -> os.stat_result:
    try:
        return os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except OSError as error:
        raise failure(error, place.given) from error


def _identity(folder_fd: int, name: bytes, place: Place) -> Identity:
    try:
        return identity_at(folder_fd, name)
    except OSError as error:
        raise failure(error, place.given) from error


def _hold(held: ExitStack, run: Run, names: list[tuple[int, bytes, Place]]) -> None:
    """Take the locks of the names, in an order that is the same for everybody."""
    keyed = {(*os.fstat(folder_fd)[1:3], name): (folder_fd, name, place) for folder_fd, name, place in names}
    for key in sorted(keyed):
        folder_fd, name, place = keyed[key]
        held.enter_context(draft(folder_fd, name, place.given, lambda: stop_if_asked(run)))


def _check_target(
    folder_fd: int, name: bytes, target: Place, *, overwrite: bool, found: os.stat_result
) -> Identity | None:
    try:
        there = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise failure(error, target.given) from error
    if not overwrite and not os.path.samestat(there, found):
        raise failure(FileExistsError(errno.EEXIST, ""), target.given)
    if overwrite and not (stat.S_ISREG(there.st_mode) and stat.S_ISREG(found.st_mode)):
        message = f"{shown(target.given)} is there already, and only a file can replace a file"
        raise OperationFailed(message, code="exists", before_effect=True, path=target.given[:200])
    if overwrite and not os.access(name, os.W_OK, dir_fd=folder_fd, effective_ids=True):
        raise failure(PermissionError(errno.EACCES, ""), target.given)  # as write_file decides: its own protection
    return _identity(folder_fd, name, target)


def _move_failure(error: OSError, target: Place) -> OperationFailed:
    if error.errno == errno.EXDEV:
        message = f"{shown(target.given)} is on another file system; copy there, then delete here"
        return OperationFailed(message, code="cross_device", before_effect=True)
    if error.errno == errno.EINVAL:
        return refused(target.given, "lies in what is to be moved")
    return failure(error, target.given)
