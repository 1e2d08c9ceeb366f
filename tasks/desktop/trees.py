"""Copying and removing whole folders from descriptor to descriptor: no path is resolved, no link followed."""

import ctypes
import fcntl
import os
import stat
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress

from tasks.atomic import nothing
from tasks.confined import TEMPORARY_SUFFIX, refused, shown
from tasks.desktop.undo import UNDO_SUFFIX
from tasks.desktop.writes import copy_bytes
from tasks.metadata import give_attributes
from toolswarm.errors import OperationFailed

_DEEPEST = 100
"""Each level holds two descriptors open."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LITTER = os.fsencode(TEMPORARY_SUFFIX)
_libc = ctypes.CDLL(None, use_errno=True)


class Tally:
    """Counts what a walk through a tree touches, and ends it when that is too much or nobody waits any more."""

    def __init__(self, path: str, limit: int, checkpoint: Callable[[], None]) -> None:
        self.path = path
        self.files = 0
        self.folders = 0
        self.copied_bytes = 0
        self.limit = limit
        self._checkpoint = checkpoint

    def count(self, mode: int) -> None:
        """One more file or folder.

        Raises:
            OperationFailed: `too_large`, `stopped`.
        """
        if stat.S_ISDIR(mode):
            self.folders += 1
        else:
            self.files += 1
        if self.files + self.folders > self.limit:
            raise OperationFailed(
                f"{shown(self.path)} has more than {self.limit} files and folders; take a smaller one",
                code="too_large",
                before_effect=True,
                limit=self.limit,
            )
        self._checkpoint()


def open_folder_at(parent_fd: int, name: bytes) -> int:
    """A folder by its name, never through a link."""
    return os.open(name, _FOLDER, dir_fd=parent_fd)


def copy_tree(source_fd: int, target_fd: int, tally: Tally, *, staging: tuple[int, int], depth: int = 0) -> None:
    """Copy what is in one folder into another, empty one: modes and attributes, links as they are stored.

    `staging` is the device and inode of the topmost target, which may lie within the source.

    Raises:
        OperationFailed: `path_refused` for a device, FIFO or socket, a mount point, or a target within the source.
        OSError: anything else.
    """
    _check_depth(depth, tally)
    device = os.fstat(source_fd).st_dev
    for name in map(os.fsencode, os.listdir(source_fd)):
        status = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
        if (status.st_dev, status.st_ino) == staging:
            raise refused(tally.path, "cannot be copied into itself")
        if name.endswith(_LITTER):
            continue  # of a write that is going on
        tally.count(status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            _check_device(status, device, tally)
            with ExitStack() as opened:
                inner = open_folder_at(source_fd, name)
                opened.callback(os.close, inner)
                os.mkdir(name, 0o700, dir_fd=target_fd)
                target = open_folder_at(target_fd, name)
                opened.callback(os.close, target)
                copy_tree(inner, target, tally, staging=staging, depth=depth + 1)
                dress(target, inner)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=target_fd)
        elif stat.S_ISREG(status.st_mode):
            _copy_file(source_fd, target_fd, name, tally)
        else:
            raise refused(tally.path, "has a device, FIFO or socket in it, which is not copied")


def dress(target_fd: int, source_fd: int) -> None:
    """Give a copy the mode (without setuid, setgid) and the attributes of its source."""
    give_attributes(target_fd, source_fd)
    os.fchmod(target_fd, stat.S_IMODE(os.fstat(source_fd).st_mode) & 0o1777)


def remove_tree(folder_fd: int, tally: Tally, *, depth: int = 0) -> None:
    """Remove all that is in a folder.

    Raises:
        OperationFailed: `path_refused` for a mount point.
        OSError: anything else; what came before it is gone.
    """
    _check_depth(depth, tally)
    device = os.fstat(folder_fd).st_dev
    for name in map(os.fsencode, os.listdir(folder_fd)):
        try:
            status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            continue  # somebody else has removed it
        tally.count(status.st_mode)
        if not stat.S_ISDIR(status.st_mode):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder_fd)
            continue
        _check_device(status, device, tally)
        inner = open_folder_at(folder_fd, name)
        try:
            remove_tree(inner, tally, depth=depth + 1)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=folder_fd)


def remove_litter(folder_fd: int, path: str) -> None:
    """Remove what killed writers have left in a folder; while a live one is at work there, nothing."""
    left = [name for name in map(os.fsencode, os.listdir(folder_fd)) if name.endswith(_LITTER)]
    folders: list[bytes] = []
    for name in left:
        if stat.S_ISDIR(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode):
            folders.append(name)
        elif not _remove_unheld(folder_fd, name):
            return
    for name in folders:
        inner = open_folder_at(folder_fd, name)
        try:
            remove_tree(inner, Tally(path, sys.maxsize, nothing))
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=folder_fd)


def see_on_disk(fd: int) -> None:
    """Wait until all that was written to this file system is on the disk: for many files at once."""
    if _libc.syncfs(ctypes.c_int(fd)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _remove_unheld(folder_fd: int, name: bytes) -> bool:
    if name.endswith(UNDO_SUFFIX):
        return False  # of a batch that is yet to be put right
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=folder_fd)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def _copy_file(source_fd: int, target_fd: int, name: bytes, tally: Tally) -> None:
    with ExitStack() as opened:
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source_fd)
        opened.callback(os.close, source)
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise refused(tally.path, "was changed while it was copied; try again")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(name, flags, 0o600, dir_fd=target_fd)
        opened.callback(os.close, target)
        copy_bytes(source, target)
        dress(target, source)
        tally.copied_bytes += os.fstat(target).st_size


def _check_depth(depth: int, tally: Tally) -> None:
    if depth >= _DEEPEST:
        raise refused(tally.path, f"is deeper than {_DEEPEST} folders; take a folder further down")


def _check_device(status: os.stat_result, device: int, tally: Tally) -> None:
    if status.st_dev != device:
        raise refused(tally.path, "has another file system mounted in it; name what is in there by itself")
