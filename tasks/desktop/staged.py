"""The atomic kind of batch: all changes of content are made beside their files, and then all are renamed.

Nothing of it is visible before the renames. When one of them fails, those before it are undone; when the process dies
between two, the next one undoes them (`tasks.desktop.undo`). Readers may see some files new and others old for as long
as the renames take: no file system changes several names at once.
"""

import errno
import hashlib
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import msgspec

from tasks.atomic import Draft
from tasks.confined import Place, failure, shown
from tasks.desktop.desk import Desk
from tasks.desktop.edits import edit_bounds, edit_content, read_content, told
from tasks.desktop.effects import PointOfNoReturn, journal_failed, stop_if_asked
from tasks.desktop.encodings import to_bytes
from tasks.desktop.journal import Change, change
from tasks.desktop.moves import Deleted
from tasks.desktop.patching import Bounds
from tasks.desktop.reading import too_large
from tasks.desktop.undo import OpenBatch, Spot, forget_second_name, keep_second_name, undo
from tasks.desktop.writes import Written, added_bytes, check_expected, taken
from tasks.operation import Run
from toolswarm.errors import OperationFailed

Arguments = dict[str, Any]
Step = tuple[str, Arguments]
Key = tuple[int, int, bytes]


class _Target:
    """One file that the batch changes."""

    def __init__(self, place: Place, folder_fd: int, name: bytes) -> None:
        self.place = place
        self.draft = Draft(folder_fd, name, place.given)
        self.present: int | None = None
        self.original: bytes | None = None
        self.content: bytes | None = None
        """After the steps so far; None: no file."""

    @property
    def is_changed(self) -> bool:
        return self.content != self.original

    def change(self) -> Change:
        after = None if self.content is None else self.draft.after
        return change(self.place, before=self.draft.before, after=after)


class StepFailed(Exception):
    """One step cannot be done, so none is."""

    def __init__(self, index: int, error: OperationFailed) -> None:
        super().__init__(f"step {index}")
        self.index = index
        self.error = error


def run_staged(
    desk: Desk, run: Run, steps: list[Step], result: Callable[[list[msgspec.Struct]], msgspec.Struct]
) -> msgspec.Struct:
    """Do all steps or none; `result` makes what the call returns of what each has left.

    Raises:
        StepFailed: nothing was changed.
        OperationFailed: nothing was changed, unless it says otherwise.
    """
    with ExitStack() as held:
        targets = _targets(held, desk, run, steps)
        every = list({id(target): target for target in targets}.values())
        values: list[msgspec.Struct] = []
        for index, ((name, arguments), target) in enumerate(zip(steps, targets, strict=True)):
            try:
                values.append(_STEPS[name](target, arguments, edit_bounds(desk, run)))
                _check_size(every, target, desk)
            except OperationFailed as error:
                raise StepFailed(index, error) from error
        value = result(values)
        changed = [target for target in every if target.is_changed]
        for target in changed:
            stop_if_asked(run)
            try:
                if target.content is not None:
                    target.draft.fill(target.content, target.present)
            except OSError as error:
                raise failure(error, target.place.given) from error
        _check_unchanged(every)
        if changed:
            PointOfNoReturn(desk, run).passing([target.change() for target in changed], value)
            _check_unchanged(every)  # to ask the ledger took a while
            _rename_all(desk, run, changed)
    return value


def _targets(held: ExitStack, desk: Desk, run: Run, steps: list[Step]) -> list[_Target]:
    """The file of each step; their names are ours until `held` is closed."""
    root = desk.root(run.call.tenant)
    by_key: dict[Key, _Target] = {}
    targets: list[_Target] = []
    for index, (_, arguments) in enumerate(steps):
        try:
            place = root.locate(arguments["path"])
            if place.says_folder:
                raise failure(IsADirectoryError(errno.EISDIR, ""), place.given)
            parent = root.open_parent(place, make_parents=arguments.get("make_parents", False))
            folder_fd, name = held.enter_context(parent)
        except OperationFailed as error:
            raise StepFailed(index, error) from error
        folder = os.fstat(folder_fd)
        key = (folder.st_dev, folder.st_ino, name)
        targets.append(by_key.setdefault(key, _Target(place, folder_fd, name)))
    for key in sorted(by_key):  # the same order for everybody, so that nobody waits in a circle
        target = by_key[key]
        held.callback(target.draft.leave)
        try:
            target.draft.take(lambda: stop_if_asked(run))
            target.present = held.enter_context(target.draft.present())
        except OSError as error:
            raise StepFailed(targets.index(target), failure(error, target.place.given)) from error
        except OperationFailed as error:
            raise StepFailed(targets.index(target), error) from error
        if target.present is not None:
            target.original = target.content = read_content(target.present, target.place.given, desk)
            try:
                _check_size(list(by_key.values()), target, desk)
            except OperationFailed as error:
                raise StepFailed(targets.index(target), error) from error
    return targets


def _rename_all(desk: Desk, run: Run, changed: list[_Target]) -> None:
    spots = [Spot(target.draft.folder_fd, target.draft.name, target.change()) for target in changed]
    try:
        mark = OpenBatch(desk.journal, run.call, [spot.change for spot in spots])
    except OSError as error:
        raise journal_failed(error) from error
    try:
        for spot in spots:
            if spot.change.before is not None:
                keep_second_name(spot)
                os.fsync(spot.folder_fd)
        for target in changed:
            if target.content is None:
                os.unlink(target.draft.name, dir_fd=target.draft.folder_fd)
                os.fsync(target.draft.folder_fd)
            else:
                target.draft.put()
    except BaseException as error:
        try:
            complete = undo(spots)
        except OSError as second:
            raise _cannot_undo(second, changed) from error  # the mark stays: it is tried again
        mark.settled()
        if not complete:
            raise OperationFailed(
                "the batch failed in the middle, and some files were changed by somebody else since; look at them",
                code="partly_done",
                paths=[target.place.path for target in changed],
            ) from error
        if isinstance(error, FileExistsError):
            raise _changed_meanwhile(changed[0]) from error
        if isinstance(error, OSError):
            raise failure(error, changed[0].place.given) from error
        raise
    else:
        for spot in spots:
            forget_second_name(spot)
        mark.settled()
    finally:
        mark.close()
    for spot in spots:
        if spot.change.before is not None:
            desk.read_cache.drop(*spot.change.before[:2])


def _cannot_undo(error: OSError, changed: list[_Target]) -> OperationFailed:
    why = os.strerror(error.errno or errno.EIO)
    return OperationFailed(
        f"the batch failed in the middle and could not be undone yet ({why}); it is undone when that is put right",
        code="partly_done",
        paths=[target.place.path for target in changed],
    )


def _check_unchanged(every: list[_Target]) -> None:
    for target in every:
        if not target.draft.is_unchanged():
            raise _changed_meanwhile(target)


def _changed_meanwhile(target: _Target) -> OperationFailed:
    message = f"{shown(target.place.given)} was changed by somebody else at this moment; nothing was done, try again"
    return OperationFailed(message, code="conflict", retryable=True, before_effect=True)


def _check_size(every: list[_Target], target: _Target, desk: Desk) -> None:
    if sum(len(one.content or b"") + len(one.original or b"") for one in every) > 2 * desk.settings.max_edit_bytes:
        raise too_large(target.place.given, desk.settings.max_edit_bytes)


def _sha256(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()


def _written(target: _Target, new: bytes) -> Written:
    created, changed = target.content is None, target.content != new
    target.content = new
    sha256 = hashlib.sha256(new).hexdigest()
    return Written(path=target.place.path, sha256=sha256, size_bytes=len(new), created=created, changed=changed)


def _write(target: _Target, arguments: Arguments, _: Bounds) -> Written:
    raw = to_bytes(arguments["content"], arguments["encoding"])
    if target.content != raw:
        if arguments["mode"] == "create" and target.content is not None:
            raise taken(target.place.given)
        check_expected(target.place.given, arguments["expected_sha256"], _sha256(target.content))
    return _written(target, raw)


def _append(target: _Target, arguments: Arguments, _: Bounds) -> Written:
    raw = added_bytes(arguments["content"], arguments["encoding"])
    check_expected(target.place.given, arguments["expected_sha256"], _sha256(target.content))
    return _written(target, (target.content or b"") + raw)


def _edit(target: _Target, arguments: Arguments, bounds: Bounds) -> msgspec.Struct:
    if target.content is None:
        raise failure(FileNotFoundError(errno.ENOENT, ""), target.place.given)
    check_expected(target.place.given, arguments["expected_sha256"], _sha256(target.content))
    before = target.content
    outcome = edit_content(
        before,
        arguments["edits"],
        bounds,
        encoding=arguments["encoding"],
        path=target.place.given,
        with_kept=arguments["dry_run"],
    )
    if not arguments["dry_run"]:
        target.content = outcome.patched.content
    return told(target.place.path, before, outcome, with_diff=arguments["dry_run"])


def _delete(target: _Target, arguments: Arguments, _: Bounds) -> Deleted:
    there = target.content is not None
    if not there and not arguments["missing_ok"]:
        raise failure(FileNotFoundError(errno.ENOENT, ""), target.place.given)
    target.content = None
    return Deleted(path=target.place.path, kind="file" if there else None, deleted=there, files=int(there), folders=0)


_STEPS: dict[str, Callable[[_Target, Arguments, Bounds], msgspec.Struct]] = {
    "write_file": _write,
    "append_file": _append,
    "edit_file": _edit,
    "delete": _delete,
}
STAGED_OPERATIONS = tuple(_STEPS)
"""What an atomic batch can be made of."""
