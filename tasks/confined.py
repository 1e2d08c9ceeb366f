"""A folder that paths cannot leave: the only way in which tools touch local files.

Every path is resolved by `tasks.beneath` from a descriptor of the folder, and everything else (rename, mkdir) is done
with `dir_fd` of a folder that was opened so. A symbolic link may lead to another place inside; it may never be written
through. A hard link to a file outside cannot be told from that file: whoever may make one may read the file anyway.
"""

import errno
import os
import stat
import weakref
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.beneath import open_beneath
from toolswarm.errors import OperationFailed

_LONGEST_PATH_BYTES = 4095
_FAILURES: dict[int, tuple[str, str]] = {
    errno.ENOENT: ("not_found", "there is no {path}; list the folder above it"),
    errno.ENOTDIR: ("not_a_directory", "{path} is not a folder, or leads through a file"),
    errno.EISDIR: ("is_a_directory", "{path} is a folder; name a file in it"),
    errno.EXDEV: ("path_refused", "{path} leads outside the root; give a path relative to it"),
    errno.ELOOP: ("path_refused", "{path} is or leads through a symbolic link that is not followed; name its target"),
    errno.ENAMETOOLONG: ("path_refused", "{path} is too long"),
    errno.ENXIO: ("path_refused", "{path} is a socket or a FIFO, not a file"),
    errno.EINVAL: ("path_refused", "{path} is not a usable name"),
    errno.EACCES: ("permission", "{path} may not be used by the worker; change its mode or owner"),
    errno.EPERM: ("permission", "{path} may not be changed by the worker; change its owner or attributes"),
    errno.EROFS: ("permission", "{path} is on a read-only file system"),
    errno.ENOSPC: ("no_space", "no space is left for {path}; free some"),
    errno.EDQUOT: ("no_space", "the disk quota leaves no space for {path}; free some"),
    errno.EFBIG: ("no_space", "{path} would be larger than a file may be here"),
}


def failure(error: OSError, path: str, *, before_effect: bool = True) -> OperationFailed:
    """What an operation says of `error`: the path as it was given, and what to do; never a path of the machine."""
    code, sentence = _FAILURES.get(
        error.errno or 0, ("input_output", "{path}: " + os.strerror(error.errno or errno.EIO))
    )
    return OperationFailed(sentence.format(path=shown(path)), code=code, before_effect=before_effect, path=path[:200])


def refused(path: str, why: str) -> OperationFailed:
    """A path that is not even tried."""
    return OperationFailed(f"{shown(path)} {why}", code="path_refused", before_effect=True, path=path[:200])


def shown(path: str) -> str:
    """A path as messages show it: quoted, on one line, not endless."""
    return ascii(path if len(path) <= 200 else path[:200] + "…")


class Confined:
    """One root folder, held open; closed when nobody holds this object any more."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        found = os.fstat(self.fd)
        self.identity = (found.st_dev, found.st_ino)
        weakref.finalize(self, os.close, self.fd)

    def relative(self, path: str) -> bytes:
        """The path from the root, unresolved; an absolute one is taken when it spells the root's own name first.

        Raises:
            OperationFailed: `path_refused` for an empty, endless or unencodable path, or one with a NUL.
        """
        if not path:
            raise refused(path, "is empty; use '.' for the root itself")
        if "\0" in path:
            raise refused(path, "contains a NUL character")
        try:
            raw = os.fsencode(path)
        except UnicodeEncodeError as error:
            raise refused(path, "cannot be a file name") from error
        if len(raw) > _LONGEST_PATH_BYTES:
            raise refused(path, "is too long")
        if raw.startswith(b"/"):
            root = os.fsencode(self.root)
            if raw.rstrip(b"/") == root:
                return b"."
            if not raw.startswith(root.rstrip(b"/") + b"/"):
                raise refused(path, "is outside the root; give a path relative to it")
            raw = raw[len(root) :].lstrip(b"/") or b"."
        return raw

    @contextmanager
    def open_file(self, path: str) -> Generator[int, None, None]:
        """A descriptor to read a regular file; never blocks on a FIFO, never touches a device's data.

        Raises:
            OperationFailed: `path_refused`, `not_found`, `is_a_directory`, `permission`, …
        """
        relative = self.relative(path)
        try:
            fd = open_beneath(self.fd, relative, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            raise failure(error, path) from error
        try:
            _check_regular(os.fstat(fd).st_mode, path)
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def open_folder(self, path: str) -> Generator[int, None, None]:
        """A descriptor of a folder, to list it or to work in it.

        Raises:
            OperationFailed: `path_refused`, `not_found`, `not_a_directory`, `permission`, …
        """
        relative = self.relative(path)
        try:
            fd = open_beneath(self.fd, relative, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise failure(error, path) from error
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def open_parent(self, path: str, *, make_parents: bool) -> Generator[tuple[int, bytes], None, None]:
        """The folder that `path` lies in, and its last name, for a write.

        Raises:
            OperationFailed: as `open_folder`; `is_a_directory` when the path has no last name.
        """
        folder, _, name = self.relative(path).rpartition(b"/")
        if name in (b"", b".", b".."):
            raise failure(IsADirectoryError(errno.EISDIR, ""), path)
        try:
            fd = self._open_or_make(folder) if make_parents else self._open_path(folder or b".")
        except OSError as error:
            raise failure(error, path) from error
        try:
            yield fd, name
        finally:
            os.close(fd)

    def _open_path(self, relative: bytes) -> int:
        return open_beneath(self.fd, relative, os.O_RDONLY | os.O_DIRECTORY)

    def _open_or_make(self, relative: bytes) -> int:
        fd = self._open_path(b".")
        so_far = b"."
        for part in relative.split(b"/"):
            so_far += b"/" + part
            try:
                inner = self._open_or_make_one(fd, part, so_far)
            finally:
                os.close(fd)
            fd = inner
        return fd

    def _open_or_make_one(self, parent_fd: int, name: bytes, so_far: bytes) -> int:
        try:
            return self._open_path(so_far)
        except FileNotFoundError:
            # It exists when somebody else has just made it, or is a dangling link: opening it again tells which.
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=parent_fd)
            return self._open_path(so_far)


def _check_regular(mode: int, path: str) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise failure(IsADirectoryError(errno.EISDIR, ""), path)
    raise OperationFailed(
        f"{shown(path)} is not a regular file (a device, FIFO or socket)",
        code="path_refused",
        before_effect=True,
        path=path[:200],
    )
