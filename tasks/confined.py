"""A folder that paths cannot leave: the only way in which tools touch local files.

Every path is resolved by `tasks.beneath` from a descriptor of the folder, and everything else (rename, mkdir) is done
with `dir_fd` of a folder that was opened so. A symbolic link may lead to another place inside; it may never be written
through. A hard link to a file outside cannot be told from that file: whoever may make one may read the file anyway.
How a path may be spelled is said in `tasks.spelling`.
"""

import errno
import os
import stat
import weakref
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.beneath import open_beneath
from tasks.spelling import as_bytes, beneath_root, folded, other_forms, other_spellings
from toolswarm.errors import OperationFailed

TEMPORARY_SUFFIX = ".toolswarm-tmp"
"""Names that end so are ours: nothing else may be made there, and lists and searches do not show them."""
_RESERVED = os.fsencode(TEMPORARY_SUFFIX)
_FAILURES: dict[int, tuple[str, str]] = {
    errno.ENOENT: ("not_found", "there is no {path}; list the folder above it"),
    errno.ENOTDIR: ("not_a_directory", "{path} is not a folder, or leads through a file"),
    errno.EISDIR: ("is_a_directory", "{path} is a folder; name a file in it"),
    errno.EEXIST: ("exists", "{path} is there already; remove it first or take another name"),
    errno.ENOTEMPTY: ("not_empty", "{path} is a folder with something in it; say recursive if all of it is to go"),
    errno.EXDEV: ("path_refused", "{path} leads outside the root; give a path relative to it"),
    errno.ELOOP: ("path_refused", "{path} is or leads through a symbolic link that is not followed; name its target"),
    errno.ENAMETOOLONG: ("path_refused", "{path} is too long"),
    errno.ENXIO: ("path_refused", "{path} is a socket or a FIFO, not a file"),
    errno.EINVAL: ("path_refused", "{path} is not a usable name"),
    errno.EBUSY: ("path_refused", "{path} is in use by the system (a mount point)"),
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
    message = sentence.format(path=shown(path))
    if code == "not_found" and path.startswith("~"):
        message += " (~ is a name here, not a home folder: paths are relative to the root)"
    elif code == "not_found" and "://" in path:
        message += " (an address is taken for a name here: nothing is fetched)"
    return OperationFailed(message, code=code, before_effect=before_effect, path=path[:200])


def refused(path: str, why: str) -> OperationFailed:
    """A path that is not even tried."""
    return OperationFailed(f"{shown(path)} {why}", code="path_refused", before_effect=True, path=path[:200])


def shown(path: str) -> str:
    """A path as messages show it: quoted, on one line, not endless."""
    return ascii(path if len(path) <= 200 else path[:200] + "…")


@dataclass(frozen=True, slots=True)
class Place:
    """A path as it was given, and what it means."""

    given: str
    relative: bytes
    """From the root, without `.` and `..`; the root itself is `.`."""

    @property
    def path(self) -> str:
        """The normalized path for results: relative to the root, with `/`; bytes that are no UTF-8 as `\\xNN`."""
        return self.relative.decode("utf-8", "backslashreplace")

    @property
    def is_root(self) -> bool:
        """Whether it is the root folder itself."""
        return self.relative == b"."

    @property
    def says_folder(self) -> bool:
        """Whether the path was given with a slash at its end."""
        return self.given.endswith(("/", "\\"))


class Confined:
    """One root folder, held open; closed when nobody holds this object any more."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        found = os.fstat(self.fd)
        self.identity = (found.st_dev, found.st_ino)
        names = {os.path.normpath(os.path.abspath(os.fsencode(root))), os.path.realpath(os.fsencode(root))}
        self._names = tuple(sorted(names, key=len, reverse=True))
        """How an absolute path may begin: the root as it is configured, and without symbolic links."""
        weakref.finalize(self, os.close, self.fd)

    def locate(self, path: str) -> Place:
        """What a path means; touches the disk only when the path can be spelled in more than one way.

        Raises:
            OperationFailed: `path_refused` for an empty, endless or unencodable path, one with a NUL, or one that
                leads outside.
        """
        try:
            raw = as_bytes(path)
            relative = beneath_root(raw, self._names)
            if b"\\" in raw and not self._is_there(relative):
                relative = self._respelled(raw)
        except ValueError as error:
            raise refused(path, str(error)) from error
        if not relative.isascii():
            relative = self._in_its_form(relative)
        return Place(path, relative)

    def relative(self, path: str) -> bytes:
        """The path from the root as bytes; see `locate`."""
        return self.locate(path).relative

    @contextmanager
    def open_file(self, path: str | Place) -> Generator[int, None, None]:
        """A descriptor to read a regular file; never blocks on a FIFO, never touches a device's data.

        Raises:
            OperationFailed: `path_refused`, `not_found`, `is_a_directory`, `permission`, …
        """
        place = self._place(path)
        try:
            fd = open_beneath(self.fd, place.relative, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            raise failure(error, place.given) from error
        try:
            _check_regular(os.fstat(fd).st_mode, place.given)
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def open_folder(self, path: str | Place) -> Generator[int, None, None]:
        """A descriptor of a folder, to list it or to work in it.

        Raises:
            OperationFailed: `path_refused`, `not_found`, `not_a_directory`, `permission`, …
        """
        place = self._place(path)
        try:
            fd = open_beneath(self.fd, place.relative, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise failure(error, place.given) from error
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def open_parent(self, path: str | Place, *, make_parents: bool) -> Generator[tuple[int, bytes], None, None]:
        """The folder that `path` lies in, and its last name, for a write.

        Raises:
            OperationFailed: as `open_folder`; `is_a_directory` when the path has no last name, `path_refused` for a
                name that is kept for temporary files.
        """
        place = self._place(path)
        folder, _, name = place.relative.rpartition(b"/")
        if place.is_root:
            raise failure(IsADirectoryError(errno.EISDIR, ""), place.given)
        made = place.relative.split(b"/") if make_parents else [name]
        if any(part.endswith(_RESERVED) for part in made):
            raise refused(place.given, f"has a name kept for temporary files (*{TEMPORARY_SUFFIX})")
        try:
            fd = self._open_or_make(folder) if make_parents else self._open_path(folder or b".")
        except OSError as error:
            raise failure(error, place.given) from error
        try:
            yield fd, name
        finally:
            os.close(fd)

    def status(self, path: str | Place) -> os.stat_result:
        """What lies at a path; of a link at its end, the link itself.

        Raises:
            OperationFailed: as `open_folder`.
        """
        place = self._place(path)
        try:
            return self._status(place.relative)
        except OSError as error:
            raise failure(error, place.given) from error

    def _place(self, path: str | Place) -> Place:
        return path if isinstance(path, Place) else self.locate(path)

    def _status(self, relative: bytes) -> os.stat_result:
        if relative == b".":
            return os.fstat(self.fd)
        folder, _, name = relative.rpartition(b"/")
        fd = open_beneath(self.fd, folder or b".", os.O_PATH | os.O_DIRECTORY)
        try:
            return os.stat(name, dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(fd)

    def _is_there(self, relative: bytes) -> bool:
        try:
            self._status(relative)
        except OSError:
            return False
        return True

    def _respelled(self, raw: bytes) -> bytes:
        for spelling in other_spellings(raw):
            relative = beneath_root(spelling, self._names)
            if self._is_there(relative):
                return relative
        return beneath_root(folded(raw), self._names)

    def _in_its_form(self, relative: bytes) -> bytes:
        """The path with each name in the Unicode form in which it is there, when it is there in one other form only."""
        done = b"."
        for part in relative.split(b"/"):
            here = done + b"/" + part
            if not part.isascii() and not self._is_there(here):
                found = [form for form in other_forms(part) if self._is_there(done + b"/" + form)]
                if len(found) == 1:
                    here = done + b"/" + found[0]
            done = here
        return done[2:]

    def _open_path(self, relative: bytes) -> int:
        return open_beneath(self.fd, relative, os.O_RDONLY | os.O_DIRECTORY)

    def _open_or_make(self, relative: bytes) -> int:
        fd = self._open_path(b".")
        so_far = b"."
        for part in filter(None, relative.split(b"/")):
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
                os.fsync(parent_fd)
            return self._open_path(so_far)


def _check_regular(mode: int, path: str) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise failure(IsADirectoryError(errno.EISDIR, ""), path)
    raise refused(path, "is not a regular file (a device, FIFO or socket)")
