"""Putting a file in place on a host in one step: readers see the old content or the new one, also after a lost link.

The new content goes to a file of its own beside the target, and is renamed over it when all of it was acknowledged,
its size is right and it is on the disk. The name of that file begins with a mark of the target's and goes on with the
attempt's own, so no two attempts write into the same one; what a lost attempt has left is removed by the next that
writes the target: at once if it was an attempt of the same call, else when it was not touched for two minutes.

SFTP has no locks. Writers in this process come one after the other (so an expected hash stays true until the rename);
of two processes the one that renames last wins.
"""

import hashlib
import os
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field

from tasks.atomic import TEMPORARY_SUFFIX
from tasks.confined import shown
from tasks.droplet.remote_files import RemoteFiles
from tasks.droplet.remote_paths import RemotePlace
from tasks.droplet.sftp_wire import Attributes, OpenFlag, Refusal, Status
from tasks.droplet.work import Work
from tasks.operation import Run
from toolswarm.errors import OperationFailed

_SUFFIX = TEMPORARY_SUFFIX.encode()
_DEAD_AFTER_S = 120
_MOST_ENTRIES_SWEPT = 2000
_TICK_S = 0.05
_PRIVATE = 0o600
_KEPT_BITS = 0o1777
"""Without setuid and setgid: a kernel takes them away from a file that is written in place, too."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """The new content, beside the target."""

    path: bytes
    size_bytes: int
    synced: bool
    """Whether the host has said that it is on the disk."""


def own_name(target: bytes, run: Run) -> bytes:
    """The name of this attempt's file beside a target."""
    return _call_mark(target, run) + str(run.fence).encode() + _SUFFIX


def content_name(target: bytes, sha256: str) -> bytes:
    """The name of the file beside a target that a transfer of this content fills, whoever does it."""
    return _mark(target) + f"part-{sha256[:32]}".encode() + _SUFFIX


def _mark(target: bytes) -> bytes:
    return f".{hashlib.sha256(target).hexdigest()[:16]}.".encode()


def _call_mark(target: bytes, run: Run) -> bytes:
    return _mark(target) + hashlib.sha256(run.call.id.encode()).hexdigest()[:16].encode() + b"-"


def write_beside(
    files: RemoteFiles, place: RemotePlace, path: str, *, present: Attributes | None, content: Iterable[bytes]
) -> Written:
    """Write the new content; it is removed again when that fails.

    Raises:
        OperationFailed: nothing at the target was changed.
    """
    temporary = place.beside(own_name(place.name, files.work.run))
    with files.speaking_of(path), removed_on_failure(files, temporary):
        handle = files.sftp.open(temporary, OpenFlag.WRITE, OpenFlag.CREATE, OpenFlag.TRUNCATE, OpenFlag.EXCLUSIVE)
        if present is not None:
            files.sftp.set_attributes(handle, Attributes(mode=_PRIVATE))
        size_bytes = files.sftp.write(handle, content)
        synced = finish(files, handle, path, present=present, size_bytes=size_bytes)
    return Written(path=temporary, size_bytes=size_bytes, synced=synced)


def finish(files: RemoteFiles, handle: bytes, path: str, *, present: Attributes | None, size_bytes: int) -> bool:
    """Check what was written, give it the rights of what it replaces, sync and close it; whether it is on the disk.

    Raises:
        OperationFailed: `input_output`, `permission`.
    """
    mine = files.sftp.stat_open(handle)
    if mine.size_bytes != size_bytes:
        raise OperationFailed(
            f"host {files.host} has {mine.size_bytes} bytes of the {size_bytes} that were written for {shown(path)}; "
            "look at its disk",
            code="input_output",
            retryable=True,
            before_effect=not files.work.begun,
            host=files.host,
        )
    if present is not None:
        _keep_rights(files, handle, path, old=present, mine=mine)
    synced = files.sftp.sync(handle)
    files.sftp.close(handle)
    return synced


def put(files: RemoteFiles, place: RemotePlace, path: str, *, temporary: bytes, may_replace: bool) -> None:
    """The rename: from here on the target is the new one.

    Raises:
        OperationFailed: `exists` when something is there that may not be replaced.
    """
    with files.speaking_of(path), removed_on_failure(files, temporary):
        files.work.check()
        files.work.begin_effect()
        try:
            if may_replace:
                files.sftp.replace(temporary, place.path)
            else:
                files.sftp.rename(temporary, place.path)
        except Refusal as refusal:
            if refusal.status == Status.NO_SUCH_FILE:
                raise _taken_away(files, path) from refusal
            if refusal.status == Status.FAILURE and not may_replace and files.found(place.path, path) is not None:
                raise exists(path) from refusal
            raise


def check_replaceable(files: RemoteFiles, place: RemotePlace, path: str) -> None:
    """Before anything is written: whether the file there may be written to. A rename would get round its own rights.

    Raises:
        OperationFailed: `permission`, `unsupported`.
    """
    with files.speaking_of(path):
        files.sftp.close(files.sftp.open(place.path, OpenFlag.WRITE))
    if not files.sftp.can_replace:
        raise OperationFailed(
            f"host {files.host} cannot replace {shown(path)} in one step (its SFTP server lacks posix-rename); "
            "delete it first",
            code="unsupported",
            before_effect=not files.work.begun,
            host=files.host,
        )


def sweep(files: RemoteFiles, place: RemotePlace) -> None:
    """Remove what lost attempts have left beside the target, as far as it is found among the folder's first entries."""
    mark = _mark(place.name)
    own = _call_mark(place.name, files.work.run)
    with files.cleaning_up():
        now = files.sftp.stat(place.path, follow=False).modified_at or 0  # on the host's clock, written just now
        for count, named in enumerate(files.sftp.entries(place.folder)):
            if count >= _MOST_ENTRIES_SWEPT:
                return
            if named.is_usable and named.name.startswith(mark) and named.name.endswith(_SUFFIX):
                touched_at = named.attributes.modified_at or 0
                if named.name.startswith(own) or touched_at < now - _DEAD_AFTER_S:
                    with files.cleaning_up():
                        files.sftp.remove(place.beside(named.name))


def exists(path: str) -> OperationFailed:
    """There is something already."""
    return OperationFailed(
        f'there is something at {shown(path)} already; use mode="replace", or another name',
        code="exists",
        before_effect=True,
        path=path[:200],
    )


def _taken_away(files: RemoteFiles, path: str) -> OperationFailed:
    return OperationFailed(
        f"what was written for {shown(path)} was put in place or removed by somebody else; look, and write it again",
        code="conflict",
        retryable=True,
        host=files.host,
    )


@contextmanager
def removed_on_failure(files: RemoteFiles, temporary: bytes) -> Generator[None, None, None]:
    """What was to become the target is not left behind, as far as the host can be reached."""
    try:
        yield
    except BaseException:
        with files.cleaning_up():
            files.sftp.remove(temporary)
        raise


def _keep_rights(files: RemoteFiles, handle: bytes, path: str, *, old: Attributes, mine: Attributes) -> None:
    if (old.owner, old.group) != (mine.owner, mine.group) and old.owner is not None:
        try:
            files.sftp.set_attributes(handle, Attributes(owner=old.owner, group=old.group))
        except Refusal as refusal:
            raise OperationFailed(
                f"{shown(path)} belongs to another user or group on host {files.host}, which a replacement would "
                "change; use the right remote user, or delete it first",
                code="permission",
                before_effect=not files.work.begun,
                host=files.host,
            ) from refusal
    if old.permissions is not None:
        files.sftp.set_attributes(handle, Attributes(mode=old.permissions & _KEPT_BITS))


@dataclass(eq=False)
class _Turn:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class Turns:
    """One writer of a remote file at a time, as far as this process goes."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._turns: dict[tuple[int, str, bytes], _Turn] = {}

    @contextmanager
    def turn(self, host: str, path: bytes, work: Work) -> Generator[None, None, None]:
        """Wait for the others."""
        key = (os.getpid(), host, path)
        with self._guard:
            turn = self._turns.setdefault(key, _Turn())
            turn.users += 1
        try:
            while not turn.lock.acquire(timeout=_TICK_S):
                work.check()
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            with self._guard:
                turn.users -= 1
                if not turn.users:
                    del self._turns[key]


TURNS = Turns()
"""Of all hosts of this process."""
