"""The local file that a download fills: it survives a broken connection, and the next attempt goes on with it.

It lies beside the target and is named after the target and after what is downloaded (host, path, size, time), so
another version of the remote file begins anew. It is held under `flock` while somebody fills it; those of other
versions that nobody holds are removed.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

from tasks.atomic import TEMPORARY_SUFFIX
from tasks.confined import Confined, Place, failure, shown
from toolswarm.errors import OperationFailed

_CHUNK_BYTES = 1 << 20
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Partial:
    """What was downloaded so far; `fd` is open for reading and writing."""

    def __init__(self, folder_fd: int, name: bytes, fd: int) -> None:
        self._folder_fd = folder_fd
        self._name = name
        self.fd = fd

    @property
    def size_bytes(self) -> int:
        """How much there is."""
        return os.fstat(self.fd).st_size

    def cut(self, size_bytes: int) -> None:
        """Keep the start only."""
        os.ftruncate(self.fd, size_bytes)

    def write(self, chunk: bytes, at: int) -> None:
        """Write at a place, all of it."""
        while chunk:
            written = os.pwrite(self.fd, chunk, at)
            chunk, at = chunk[written:], at + written

    def remove(self) -> None:
        """It is of no use any more."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._folder_fd)

    def read(self, check: Callable[[], None]) -> Iterator[bytes]:
        """Its content from the start; `check` may raise."""
        return read_all(self.fd, check)


def read_all(fd: int, check: Callable[[], None], *, offset: int = 0) -> Iterator[bytes]:
    """The content of an open file, wherever its position is; `check` may raise."""
    while chunk := os.pread(fd, _CHUNK_BYTES, offset):
        check()
        offset += len(chunk)
        yield chunk


@contextmanager
def partial(confined: Confined, place: Place, version: str, *, make_parents: bool) -> Generator[Partial, None, None]:
    """The file of this version beside the target, ours alone.

    Raises:
        OperationFailed: `conflict` when somebody else is filling it, `path_refused`, `not_found`, …
    """
    with confined.open_parent(place, make_parents=make_parents) as (folder_fd, target):
        mark = f".{hashlib.sha256(target).hexdigest()[:16]}.part-".encode()
        name = mark + version.encode() + TEMPORARY_SUFFIX.encode()
        try:
            fd = _take(folder_fd, name, place.given)
        except OSError as error:
            raise failure(error, place.given) from error
        try:
            _remove_others(folder_fd, mark, name)
            yield Partial(folder_fd, name, fd)
        except OSError as error:
            raise failure(error, place.given) from error
        finally:
            os.close(fd)


def _take(folder_fd: int, name: bytes, path: str) -> int:
    fd = os.open(name, _FLAGS, 0o600, dir_fd=folder_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found, now = os.fstat(fd), os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        # Another file under a second name must not be written to, nor one that was just moved away.
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        if not os.path.samestat(found, now):
            raise BlockingIOError
    except (BlockingIOError, FileNotFoundError) as error:
        os.close(fd)
        raise OperationFailed(
            f"{shown(path)} is being downloaded by another call; wait for that one",
            code="conflict",
            retryable=True,
            before_effect=True,
        ) from error
    except BaseException:
        os.close(fd)
        raise
    return fd


def _remove_others(folder_fd: int, mark: bytes, own: bytes) -> None:
    readable = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        names = [os.fsencode(entry) for entry in os.listdir(readable)]
    finally:
        os.close(readable)
    for name in names:
        if name.startswith(mark) and name != own:
            _remove_if_free(folder_fd, name)


def _remove_if_free(folder_fd: int, name: bytes) -> None:
    try:
        fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    except OSError:  # gone, or not made by us
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=folder_fd)
    except (BlockingIOError, FileNotFoundError):
        return
    finally:
        os.close(fd)
