"""What each call is about to change, noted just before it does so: the memory that probes look into.

A note names the places with the identity that each has before and will have after. A worker that is killed leaves the
note (it is in the system's memory, at least), so the next attempt can tell from what lies there whether the change was
made. The notes lie beside the workspaces, outside of every tenant's root, and hold paths and hashes, no content.

What it cannot tell is said, not guessed: when the note is missing and the machine was started anew since the call was
made, or when a place is neither as before nor as after, because somebody else has changed it since.

Notes are not waited for to be on the disk. A power cut may so take a note and leave its change, or leave the note
empty: both are told as unknown, the first by the time at which this machine was started. Several machines that share
one folder of workspaces cannot tell so of each other's power cuts, nor can one whose clock is wrong by more than it
was down.
"""

import os
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from tasks.confined import Confined, Place
from tasks.identity import Identity, identity_at
from tasks.operation import NOT_DONE
from toolswarm.errors import OperationFailed
from toolswarm.messages import ToolCall

_KEPT_AFTER_DEADLINE_S = 60.0
_NOTES_BETWEEN_SWEEPS = 512
_WRITTEN_WITHIN_S = 60.0
"""A note that takes longer was left by a process that is gone."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One place that a call changes."""

    place: str
    """From the root; its bytes as Latin-1, so that any name can be noted."""
    before: Identity | None
    """None: there was nothing."""
    after: Identity | None
    """None: there will be nothing."""
    by_inode: bool = False
    """Its content may change without its being another: a folder, or a file that is moved."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What a call changes, in this order, and what it returns when that is done."""

    changes: list[Change]
    value: Any


def change(place: Place, *, before: Identity | None, after: Identity | None, by_inode: bool = False) -> Change:
    """A change of `place`."""
    return Change(place=place.relative.decode("latin-1"), before=before, after=after, by_inode=by_inode)


class Journal:
    """The notes of all tenants; `folder` is made when the first is written.

    A note is kept until the deadline of its call: later no attempt can ask for it. The time stands in its `mtime`.
    """

    def __init__(self, folder: Path, *, call_deadline_s: float) -> None:
        self._folder = folder
        self._call_deadline_s = call_deadline_s
        self._lock = threading.Lock()
        self._noted = 0

    def note(self, call: ToolCall, changes: list[Change], value: Any) -> None:
        """Say what the call changes next. It replaces what was said before."""
        self.keep(call, "note", msgspec.json.encode(Note(changes=changes, value=value)))

    def outcome(self, call: ToolCall, root: Confined) -> Any:
        """What the call returned, had it been seen to end; or NOT_DONE.

        Raises:
            OperationFailed: `outcome_unknown`.
        """
        raw = self.kept(call, "note")
        if raw is None:
            return NOT_DONE
        note = msgspec.json.decode(raw, type=Note)
        done = [_is_done(change, root) for change in note.changes]
        if done[-1]:  # they are made in this order
            return note.value
        if set(done) == {False}:
            return NOT_DONE
        places = [change.place.encode("latin-1").decode("utf-8", "backslashreplace") for change in note.changes]
        raise OperationFailed(
            "nobody saw whether this was done, and the files have been changed since; look at them",
            code="outcome_unknown",
            paths=places[:20],
        )

    def keep(self, call: ToolCall, kind: str, content: bytes) -> None:
        """Keep something for the next attempt of a call."""
        folder = self.folder(call.tenant)
        target = folder / f"{call.id}.{kind}"
        fresh = target.with_name(f".{target.name}.{threading.get_ident()}")
        fresh.write_bytes(content)
        useless_at = (call.deadline or time.time() + self._call_deadline_s) + _KEPT_AFTER_DEADLINE_S
        os.utime(fresh, (useless_at, useless_at))
        fresh.replace(target)
        with self._lock:
            self._noted += 1
            due = self._noted % _NOTES_BETWEEN_SWEEPS == 1
        if due:
            for one in [entry for entry in self._folder.iterdir() if entry.is_dir()]:
                self.sweep(one)

    def kept(self, call: ToolCall, kind: str) -> bytes | None:
        """What was kept; None: nothing.

        Raises:
            OperationFailed: `outcome_unknown` when it may have been lost.
        """
        try:
            content = (self.place(call.tenant) / f"{call.id}.{kind}").read_bytes()
            msgspec.json.decode(content)
        except FileNotFoundError:
            if _made_at(call.id) >= machine_started_at():
                return None
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # the power went before all of it was on the disk
        else:
            return content
        raise OperationFailed(
            "nobody saw whether this was done, and the machine was started anew since; look at the files",
            code="outcome_unknown",
        )

    def place(self, tenant: str) -> Path:
        """Where the tenant's notes lie, if there are any."""
        return self._folder / tenant

    def folder(self, tenant: str) -> Path:
        """The same; it is made when it is missing."""
        folder = self.place(tenant)
        if not folder.is_dir():
            self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def sweep(self, folder: Path) -> None:
        """Remove what no attempt can ask for any more."""
        now = time.time()
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                continue  # atomic batches that are to be put right: `tasks.desktop.undo`
            try:
                found = entry.stat()
                being_written = entry.name.startswith(".") and found.st_ctime > now - _WRITTEN_WITHIN_S
                if found.st_mtime < now and not being_written:
                    os.unlink(entry.path)
            except FileNotFoundError:
                continue  # another worker sweeps, too


def _is_done(change: Change, root: Confined) -> bool | None:
    """True: it is as it will be; False: as it was; None: neither."""
    now = present_identity(root, change.place.encode("latin-1"))
    if same(now, change.after, change):
        return True
    if same(now, change.before, change):
        return False
    # A removed folder, or a moved file, whose name somebody has used again: the one that was noted is gone.
    return True if change.after is None and change.by_inode else None


def same(one: Identity | None, other: Identity | None, change: Change) -> bool:
    """Whether two looks at the place of `change` saw the same thing."""
    if one is None or other is None:
        return one is other
    return one.is_same_file(other) if change.by_inode else one == other


def present_identity(root: Confined, relative: bytes) -> Identity | None:
    """What lies there now; None: nothing."""
    try:
        with root.open_parent(Place("", relative), make_parents=False) as (folder_fd, name):
            return identity_at(folder_fd, name)
    except FileNotFoundError:
        return None
    except OperationFailed as error:
        if error.failure_code in ("not_found", "not_a_directory"):
            return None
        raise


def machine_started_at() -> float:
    """Unix seconds."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _made_at(call_id: str) -> float:
    """Unix seconds; the id of a call begins with its time, and may have the number of a batch's item behind it."""
    return (UUID(call_id[:36]).int >> 80) / 1000
