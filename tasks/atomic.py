"""Replacing a file in one step: readers see the old content or the new one, also after a crash.

The new content goes to a file beside the target whose name follows from the target's, and that is held under `flock`
from before the old content is looked at until the rename. So writers of one file come one after the other (a compared
hash stays true until the rename), and what a killed writer left behind is taken over by the next, never piled up.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable

from tasks.confined import Confined, failure, refused, shown
from toolswarm.errors import OperationFailed

TEMPORARY_SUFFIX = ".toolswarm-tmp"
_LOCK_TIMEOUT_S = 10.0
_COPIED_ATTRIBUTES = ("user.", "system.posix_acl_access")  # not capabilities: a write takes them away, as in place
_UMASK = os.umask(0o077)
os.umask(_UMASK)


def atomic_replace(
    confined: Confined,
    path: str,
    *,
    content: bytes,
    make_parents: bool,
    may_replace: Callable[[int | None], bool],
) -> bool:
    """Put `content` at `path`; keeps mode, owner and extended attributes of a file that was there.

    `may_replace` gets a descriptor of the present file (None: there is none) while no other writer of ours can change
    it; it says whether to go on, or raises. Returns what it said.

    Raises:
        OperationFailed: nothing was changed, unless it says otherwise.
    """
    with confined.open_parent(path, make_parents=make_parents) as (folder_fd, name):
        temporary = f".{hashlib.sha256(name).hexdigest()[:16]}{TEMPORARY_SUFFIX}".encode()
        try:
            fd = _take(folder_fd, temporary, path)
        except OSError as error:
            raise failure(error, path) from error
        in_place = False
        try:
            present = _open_present(folder_fd, name, path)
            try:
                if not may_replace(present):
                    return False
                _fill(fd, content, present)
            finally:
                if present is not None:
                    os.close(present)
            os.replace(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
            in_place = True
            os.fsync(folder_fd)
            return True
        except OSError as error:
            raise failure(error, path, before_effect=not in_place) from error
        finally:
            if not in_place:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder_fd)
            os.close(fd)  # gives up the lock


def _take(folder_fd: int, temporary: bytes, path: str) -> int:
    """The temporary file, ours alone."""
    give_up_at = time.monotonic() + _LOCK_TIMEOUT_S
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        fd = os.open(temporary, flags, 0o600, dir_fd=folder_fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(fd, folder_fd, temporary):
                found = os.fstat(fd)
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == os.geteuid():
                    os.fchmod(fd, 0o600)
                    os.ftruncate(fd, 0)
                    return fd
                # Not made by us: it may be another file under a second name, which must not be emptied.
                os.unlink(temporary, dir_fd=folder_fd)
        except BlockingIOError:
            if time.monotonic() > give_up_at:
                os.close(fd)
                raise OperationFailed(
                    f"{shown(path)} is being written by somebody else for too long; try again",
                    code="conflict",
                    retryable=True,
                    before_effect=True,
                ) from None
            time.sleep(0.002)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is_still(fd: int, folder_fd: int, name: bytes) -> bool:
    """Whether the locked file is still the one of that name: the writer before us has moved his into place."""
    try:
        now = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(now, os.fstat(fd))


def _open_present(folder_fd: int, name: bytes, path: str) -> int | None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=folder_fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise failure(error, path) from error
    mode = os.fstat(fd).st_mode
    writable = os.access(name, os.W_OK, dir_fd=folder_fd, effective_ids=True)
    if stat.S_ISREG(mode) and writable:
        return fd
    os.close(fd)
    if stat.S_ISREG(mode):
        # A rename would get round the file's own protection.
        raise failure(PermissionError(errno.EACCES, ""), path)
    if stat.S_ISDIR(mode):
        raise failure(IsADirectoryError(errno.EISDIR, ""), path)
    raise refused(path, "is not a regular file (a device or a FIFO)")


def _fill(fd: int, content: bytes, present: int | None) -> None:
    if present is None:
        os.fchmod(fd, 0o666 & ~_UMASK)
    else:
        old = os.fstat(present)
        mine = os.fstat(fd)
        if (old.st_uid, old.st_gid) != (mine.st_uid, mine.st_gid):
            os.fchown(fd, old.st_uid, old.st_gid)
        # Without setuid and setgid: the kernel takes them away from a file that is written in place, too.
        os.fchmod(fd, stat.S_IMODE(old.st_mode) & 0o1777)
        for attribute in os.listxattr(present):
            if attribute.startswith(_COPIED_ATTRIBUTES):
                os.setxattr(fd, attribute, os.getxattr(present, attribute))
    left = memoryview(content)
    while left:
        left = left[os.write(fd, left) :]
    os.fsync(fd)
