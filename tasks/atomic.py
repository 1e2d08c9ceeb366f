"""Changing a file in one step: readers see the old content or the new one, also after a crash.

The new content goes to a file beside the target whose name follows from the target's, and that is held under `flock`
from before the old content is looked at until the rename. So writers of one file come one after the other (a compared
hash stays true until the rename, an edit is made on what is there), and what a killed writer left behind is taken over
by the next, never piled up. Whoever does not take the lock (an editor, a command) is noticed just before the rename,
by the file's identity and time, and the change is made anew on what he left.

An older attempt of a call cannot write over a newer one's: the newer begins when the older's lease has ended, and the
older looks at its lease (`before_rename`) while it holds the lock that the newer has to wait for.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable, Generator

from tasks.beneath import rename_new
from tasks.confined import TEMPORARY_SUFFIX as TEMPORARY_SUFFIX
from tasks.confined import Confined, Place, failure, refused, shown
from tasks.identity import Identity, identity_at, identity_of
from tasks.metadata import give_metadata
from toolswarm.errors import OperationFailed

_LOCK_TIMEOUT_S = 10.0
_TRIES = 5
"""How often a change is made anew because somebody without our lock was faster."""

Content = bytes | Callable[[int], None]
"""The new content, or what writes it to a descriptor."""


def nothing() -> None:
    """What is done at a point where there is nothing to do."""


class Draft:
    """The next content of one file: a temporary file beside it, which is also the lock on the file's name."""

    def __init__(self, folder_fd: int, name: bytes, path: str) -> None:
        self.folder_fd = folder_fd
        self.name = name
        self.path = path
        self.before: Identity | None = None
        """The file that was there when `present` was opened last."""
        self.temporary = temporary_name(name)
        self._fd = -1
        self._is_put = False

    def take(self, waiting: Callable[[], None]) -> None:
        """Wait until the name is ours; `waiting` is called now and then and may raise."""
        self._fd = _take(self, waiting)

    def leave(self) -> None:
        """Give the name up; what was not put in place is gone."""
        if self._fd < 0:
            return
        if not self._is_put:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.temporary, dir_fd=self.folder_fd)
        os.close(self._fd)  # gives up the lock
        self._fd = -1

    @contextlib.contextmanager
    def present(self) -> Generator[int | None, None, None]:
        """A descriptor of the file that is there now; None: there is none.

        Raises:
            OperationFailed: what is there is no file, or may not be written.
        """
        fd = _open_present(self)
        self.before = None if fd is None else identity_of(fd)
        try:
            yield fd
        finally:
            if fd is not None:
                os.close(fd)

    def fill(self, content: Content, present: int | None) -> None:
        """Make the new content, with the mode, owner and attributes of the present file, and see it on the disk."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        give_metadata(self._fd, present, self.folder_fd)
        if callable(content):
            content(self._fd)
        else:
            write_all(self._fd, content)
        os.fsync(self._fd)

    @property
    def after(self) -> Identity:
        """The file that will be there."""
        return identity_of(self._fd)

    def is_unchanged(self) -> bool:
        """Whether the name still means the file that was there, as it was."""
        try:
            return identity_at(self.folder_fd, self.name) == self.before
        except FileNotFoundError:
            return self.before is None

    def put(self) -> None:
        """Rename it into place, durably.

        Raises:
            FileExistsError: there was no file, and now there is one.
        """
        if self.before is None:
            rename_new(self.folder_fd, self.temporary, self.folder_fd, self.name)
        else:
            os.replace(self.temporary, self.name, src_dir_fd=self.folder_fd, dst_dir_fd=self.folder_fd)
        self._is_put = True
        os.fsync(self.folder_fd)

    @property
    def is_put(self) -> bool:
        """Whether the new content is in its place."""
        return self._is_put


def temporary_name(name: bytes) -> bytes:
    """The name beside `name` that holds its next content."""
    return f".{hashlib.sha256(name).hexdigest()[:16]}{TEMPORARY_SUFFIX}".encode()


@contextlib.contextmanager
def draft(
    folder_fd: int, name: bytes, path: str, waiting: Callable[[], None] = nothing
) -> Generator[Draft, None, None]:
    """The name is ours alone within the block, among all writers who ask for it so.

    Raises:
        OperationFailed: `conflict` when it is held by somebody else for too long.
    """
    held = Draft(folder_fd, name, path)
    try:
        held.take(waiting)
        yield held
    except OSError as error:
        raise failure(error, path, before_effect=not held.is_put) from error
    finally:
        held.leave()


def atomic_change(
    confined: Confined,
    path: str | Place,
    *,
    make_parents: bool,
    change: Callable[[int | None], Content | None],
    before_rename: Callable[[Draft], None],
    waiting: Callable[[], None] = nothing,
) -> bool:
    """Put the content at `path` that `change` makes of the present one; mode, owner and attributes are kept.

    `change` gets a descriptor of the present file (None: there is none) while no other writer of ours can change it;
    None from it leaves all as it is, and it may raise. `before_rename` is the last chance to raise; both are called
    again when a stranger was faster. Returns whether anything was changed.

    Raises:
        OperationFailed: nothing was changed, unless it says otherwise.
    """
    place = confined.locate(path) if isinstance(path, str) else path
    if place.says_folder:
        raise failure(IsADirectoryError(errno.EISDIR, ""), place.given)
    with (
        confined.open_parent(place, make_parents=make_parents) as (folder_fd, name),
        draft(folder_fd, name, place.given, waiting) as new,
    ):
        for _ in range(_TRIES):
            with new.present() as present:
                content = change(present)
                if content is None:
                    return False
                new.fill(content, present)
            if not new.is_unchanged():
                continue
            before_rename(new)
            if new.is_unchanged():
                with contextlib.suppress(FileExistsError):
                    new.put()
                    return True
        raise _busy(place.given)


def atomic_replace(
    confined: Confined,
    path: str | Place,
    *,
    content: bytes,
    make_parents: bool,
    may_replace: Callable[[int | None], bool],
) -> bool:
    """Put `content` at `path` if `may_replace` says so of the present file; returns what it said."""
    return atomic_change(
        confined,
        path,
        make_parents=make_parents,
        change=lambda present: content if may_replace(present) else None,
        before_rename=lambda _: None,
    )


def write_all(fd: int, content: bytes) -> None:
    """Write all of it, however often the system takes a part only."""
    left = memoryview(content)
    while left:
        left = left[os.write(fd, left) :]


def _take(wanted: Draft, waiting: Callable[[], None]) -> int:
    """The temporary file, ours alone."""
    give_up_at = time.monotonic() + _LOCK_TIMEOUT_S
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        fd = os.open(wanted.temporary, flags, 0o600, dir_fd=wanted.folder_fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(fd, wanted):
                found = os.fstat(fd)
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == os.geteuid():
                    return fd
                # Not made by us: it may be another file under a second name, which must not be emptied.
                os.unlink(wanted.temporary, dir_fd=wanted.folder_fd)
        except BlockingIOError:
            waiting_too_long = time.monotonic() > give_up_at
            try:
                waiting()
                if waiting_too_long:
                    raise _busy(wanted.path) from None
            except BaseException:
                os.close(fd)
                raise
            time.sleep(0.002)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is_still(fd: int, wanted: Draft) -> bool:
    """Whether the locked file is still the one of that name: the writer before us has moved his into place."""
    try:
        now = os.stat(wanted.temporary, dir_fd=wanted.folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(now, os.fstat(fd))


def _open_present(wanted: Draft) -> int | None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(wanted.name, flags, dir_fd=wanted.folder_fd)
    except FileNotFoundError:
        return None
    mode = os.fstat(fd).st_mode
    writable = os.access(wanted.name, os.W_OK, dir_fd=wanted.folder_fd, effective_ids=True)
    if stat.S_ISREG(mode) and writable:
        return fd
    os.close(fd)
    if stat.S_ISREG(mode):
        # A rename would get round the file's own protection.
        raise failure(PermissionError(errno.EACCES, ""), wanted.path)
    if stat.S_ISDIR(mode):
        raise failure(IsADirectoryError(errno.EISDIR, ""), wanted.path)
    raise refused(wanted.path, "is not a regular file (a device or a FIFO)")


def _busy(path: str) -> OperationFailed:
    return OperationFailed(
        f"{shown(path)} is being written by somebody else for too long; try again",
        code="conflict",
        retryable=True,
        before_effect=True,
    )
