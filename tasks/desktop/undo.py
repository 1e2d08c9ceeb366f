"""Undoing an atomic batch that was stopped between its renames, by its own process or by whoever comes after it.

While a batch renames, a file `*.open` in the journal names its places, held under `flock`, and each file that is about
to go has a second name beside it. A lock that can be had means that the process is gone: then what was renamed is
renamed back. That happens when a worker first opens the tenant's root, and when the batch's call is tried again. While
somebody holds the lock of one of the names nothing is undone, and the mark stays for the next look.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from tasks.atomic import draft
from tasks.beneath import rename_new
from tasks.confined import TEMPORARY_SUFFIX, Confined, Place
from tasks.desktop.journal import Change, Journal, same
from tasks.identity import identity_at
from toolswarm.errors import OperationFailed
from toolswarm.messages import ToolCall

_OPEN = "open"
UNDO_SUFFIX = os.fsencode(f".undo{TEMPORARY_SUFFIX}")


class Spot(NamedTuple):
    """One name that a batch changes."""

    folder_fd: int
    name: bytes
    change: Change


class OpenBatch:
    """The mark that a batch is renaming; goes when all is settled, and stays when the process dies."""

    def __init__(self, journal: Journal, call: ToolCall, changes: list[Change]) -> None:
        self._folder = journal.folder(call.tenant) / _OPEN
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._file = self._folder / f"{call.id}.open"
        fresh = self._folder / f".{call.id}"
        self._fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        os.write(self._fd, msgspec.json.encode(changes))
        os.fsync(self._fd)
        fresh.replace(self._file)
        _sync_folder(self._folder)

    def settled(self) -> None:
        """All is renamed, or all is as it was, or the caller is told that it is not."""
        with suppress(FileNotFoundError):
            self._file.unlink()

    def close(self) -> None:
        """Whoever looks next may put right what is not settled."""
        os.close(self._fd)


def keep_second_name(spot: Spot) -> None:
    """Give the file that is there a second name, so that it outlives the rename.

    Raises:
        OSError: the file system has no hard links.
    """
    undo = undo_name(spot.name)
    with suppress(FileNotFoundError):
        os.unlink(undo, dir_fd=spot.folder_fd)  # of a batch that could not be undone any more
    os.link(spot.name, undo, src_dir_fd=spot.folder_fd, dst_dir_fd=spot.folder_fd, follow_symlinks=False)


def forget_second_name(spot: Spot) -> None:
    """The file that was there is not needed any more."""
    with suppress(FileNotFoundError):
        os.unlink(undo_name(spot.name), dir_fd=spot.folder_fd)


def undo_name(name: bytes) -> bytes:
    """The second name of a file while a batch renames."""
    return f".{hashlib.sha256(name).hexdigest()[:16]}".encode() + UNDO_SUFFIX


def undo(spots: list[Spot]) -> bool:
    """Make every place what it was; False when somebody else has changed one since, which is left alone then.

    Raises:
        OSError: one could not be renamed back; what it was is still there under its second name.
    """
    complete = True
    for spot in reversed(spots):
        complete = _undo_one(spot) and complete
        forget_second_name(spot)
        os.fsync(spot.folder_fd)
    return complete


def put_right(journal: Journal, tenant: str, root: Confined, *, waiting: Callable[[], None] | None = None) -> bool:
    """Undo, or complete, the batches whose processes are gone; False when one is left to be put right later.

    `waiting` is called while somebody else writes one of their files, and may raise; None: do not wait for him.
    """
    complete = True
    for file in sorted((journal.place(tenant) / _OPEN).glob("[!.]*.open")):
        try:
            fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            changes = msgspec.json.decode(file.read_bytes(), type=list[Change])
        except BlockingIOError:
            continue  # its process is alive, or somebody else is putting it right
        except FileNotFoundError:
            continue  # somebody else has
        except (msgspec.DecodeError, UnicodeDecodeError):
            # It was on the disk before the first rename, so the disk has lost it: nothing can be undone by it, and the
            # tenant must not wait for it for ever. The call itself is told by its note.
            file.unlink(missing_ok=True)
        else:
            if _settle(changes, root, waiting or _not_waiting):
                file.unlink(missing_ok=True)
            else:
                complete = False
        finally:
            os.close(fd)
    return complete


class _IsHeldError(Exception):
    """Somebody writes the file at this moment."""


def _not_waiting() -> None:
    raise _IsHeldError


def _settle(changes: list[Change], root: Confined, waiting: Callable[[], None]) -> bool:
    """Undo or complete one batch; False: not now, and nothing was lost."""
    try:
        with ExitStack() as held:
            spots: list[Spot] = []
            for change in sorted(changes, key=lambda change: change.place):
                place = Place("", change.place.encode("latin-1"))
                try:
                    folder_fd, name = held.enter_context(root.open_parent(place, make_parents=False))
                except OperationFailed as error:
                    if error.failure_code not in ("not_found", "not_a_directory"):
                        return False
                    continue  # somebody has removed its folder since
                held.enter_context(draft(folder_fd, name, place.path, waiting))
                spots.append(Spot(folder_fd, name, change))
            if len(spots) == len(changes) and not any(_is(spot, done=False) for spot in spots):
                for spot in spots:  # all was renamed, and somebody may have gone on from there
                    forget_second_name(spot)
            else:
                undo(spots)
    except _IsHeldError:
        return False
    except OperationFailed as error:
        if error.failure_code == "stopped":
            raise
        return False
    return True


def _undo_one(spot: Spot) -> bool:
    if _is(spot, done=False):
        return True
    if not _is(spot, done=True):
        return False
    if spot.change.before is None:
        os.unlink(spot.name, dir_fd=spot.folder_fd)
        return True
    try:
        if spot.change.after is None:
            rename_new(spot.folder_fd, undo_name(spot.name), spot.folder_fd, spot.name)
        else:
            os.replace(undo_name(spot.name), spot.name, src_dir_fd=spot.folder_fd, dst_dir_fd=spot.folder_fd)
    except (FileNotFoundError, FileExistsError):
        return False  # somebody has removed the second name, or taken the first: what was is gone
    return True


def _is(spot: Spot, *, done: bool) -> bool:
    try:
        now = identity_at(spot.folder_fd, spot.name)
    except FileNotFoundError:
        now = None
    return same(now, spot.change.after if done else spot.change.before, spot.change)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
