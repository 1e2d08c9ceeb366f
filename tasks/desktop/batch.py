"""Several file operations in one call: one after the other, or all or none."""

from collections.abc import Coroutine, Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from tasks.desktop.copies import copy
from tasks.desktop.desk import Desk
from tasks.desktop.edits import edit_file
from tasks.desktop.effects import stop_if_asked
from tasks.desktop.files import read_file, read_files
from tasks.desktop.listing import file_info, list_directory
from tasks.desktop.moves import delete, make_directory, move
from tasks.desktop.remembered import ROOT
from tasks.desktop.staged import STAGED_OPERATIONS, StepFailed, run_staged
from tasks.desktop.undo import put_right
from tasks.desktop.writes import append_file, write_file
from tasks.operation import NOT_DONE, OperationDeclaration, Run, operation
from toolswarm.errors import InvalidArguments, OperationFailed
from toolswarm.messages import Effect, ErrorInfo, ToolCall

T = TypeVar("T")

_OPERATIONS: dict[str, OperationDeclaration] = {
    declaration.name: declaration
    for declaration in (
        *(read_file, read_files, write_file, append_file, edit_file),
        *(list_directory, file_info, make_directory, move, copy, delete),
    )
}
_PROGRESS = "progress"
_TRIES_TO_PUT_RIGHT = 3
"""Each waits for 10 s for whoever writes one of the files."""


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operation, with its arguments as it takes them by itself."""

    operation: Literal[
        "read_file",
        "read_files",
        "write_file",
        "append_file",
        "edit_file",
        "list_directory",
        "file_info",
        "make_directory",
        "move",
        "copy",
        "delete",
    ]
    arguments: dict[str, Any]


class ItemResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one operation."""

    operation: str
    state: Literal["done", "failed", "skipped"]
    value: Any = None
    """What it returned, when it is done."""
    error: ErrorInfo | None = None


class BatchResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of each operation, in their order."""

    items: list[ItemResult]
    done: int
    failed: int
    skipped: int


Planned = tuple[OperationDeclaration, dict[str, Any]]


def _look_for_outcome(desk: Desk, run: Run, *, operations: list[Item], atomic: bool, **_others: Any) -> Any:
    root = desk.root(run.call.tenant)
    if atomic:
        _put_right(desk, run)
        return desk.journal.outcome(run.call, root)
    # One after the other: the next attempt goes on where this one was lost. Only the operation that was then running
    # is in doubt, and its own probe raises if it cannot tell.
    plan = _plan(operations)
    done = _progress(desk, run)
    for index, (declaration, arguments) in enumerate(plan):
        if declaration.effect is not Effect.READ and index not in done:
            if declaration.probe is not None:
                declaration.probe(desk, ItemRun(run, index), **arguments)
            break
    return NOT_DONE


@operation(
    effect=Effect.VERIFIABLE,
    time_limit_s=300,
    marks_effect=True,
    probe=_look_for_outcome,
    destructive=True,
    changes=ROOT,
)
def batch(
    desk: Desk,
    run: Run,
    *,
    operations: Annotated[
        list[Item],
        Meta(
            description="Operations as {operation, arguments}, run in this order.",
            examples=[
                [
                    {"operation": "make_directory", "arguments": {"path": "notes"}},
                    {"operation": "write_file", "arguments": {"path": "notes/a.md", "content": "# A\n"}},
                ]
            ],
            min_length=1,
            max_length=100,
        ),
    ],
    stop_on_error: Annotated[bool, Meta(description="Skip what comes after an operation that failed.")] = True,
    atomic: Annotated[
        bool, Meta(description="All or none; only write_file, append_file, edit_file, and delete of single files.")
    ] = False,
) -> BatchResult:
    """Run several file operations in one call.

    Each has a result or an error of its own; the arguments of all are checked before the first is run. With `atomic`,
    every new content is prepared and every expected hash is checked first, and the first operation that cannot be done
    fails the batch with nothing changed. Then the files are renamed into place one by one, within milliseconds: a
    reader may see some new and some old in between. If that fails or the machine dies in the middle, what was renamed
    is put back, at the latest when a worker next opens your folder; a file that somebody else has changed by then is
    left as it is, and the error is `partly_done`, or the outcome is unknown. Folders made for it may stay.
    """
    plan = _plan(operations)
    if atomic:
        return _run_atomic(desk, run, plan)
    return _run_each(desk, run, plan, stop_on_error=stop_on_error)


def _put_right(desk: Desk, run: Run) -> None:
    """An earlier atomic batch that was stopped in the middle comes first, this call's own perhaps."""
    root = desk.root(run.call.tenant)
    for _ in range(_TRIES_TO_PUT_RIGHT):
        if put_right(desk.journal, run.call.tenant, root, waiting=lambda: stop_if_asked(run)):
            return
        stop_if_asked(run)
    raise OperationFailed(
        "an earlier atomic batch has to be undone first, and somebody is writing its files; try again",
        code="conflict",
        retryable=True,
        before_effect=True,
    )


def _plan(items: list[Item]) -> list[Planned]:
    plan: list[Planned] = []
    for index, item in enumerate(items):
        declaration = _OPERATIONS[item.operation]
        try:
            plan.append((declaration, declaration.convert(item.arguments)))
        except InvalidArguments as error:
            raise OperationFailed(
                f"operations[{index}] cannot be run: {error.message}",
                code="invalid_batch",
                before_effect=True,
                item=index,
            ) from error
    return plan


def _run_atomic(desk: Desk, run: Run, plan: list[Planned]) -> BatchResult:
    for index, (declaration, arguments) in enumerate(plan):
        if declaration.name not in STAGED_OPERATIONS or arguments.get("recursive"):
            names = ", ".join(STAGED_OPERATIONS)
            raise OperationFailed(
                f"operations[{index}] cannot be part of an atomic batch: only {names} of single files can",
                code="invalid_batch",
                before_effect=True,
                item=index,
            )
    _put_right(desk, run)
    steps = [(declaration.name, arguments) for declaration, arguments in plan]

    def result(values: list[msgspec.Struct]) -> BatchResult:
        return _result([_done(declaration, value) for (declaration, _), value in zip(plan, values, strict=True)])

    try:
        value = run_staged(desk, run, steps, result)
    except StepFailed as failed:
        error = failed.error
        raise OperationFailed(
            f"operations[{failed.index}] failed, so nothing was done: {error.message}",
            code=error.failure_code,
            retryable=error.failure_retryable,
            before_effect=True,
            item=failed.index,
            **error.details,
        ) from error
    assert isinstance(value, BatchResult)
    return value


def _run_each(desk: Desk, run: Run, plan: list[Planned], *, stop_on_error: bool) -> BatchResult:
    recorded = _progress(desk, run) if run.fence > 1 else {}
    results: list[ItemResult] = []
    has_begun = has_failed = False
    for index, (declaration, arguments) in enumerate(plan):
        stop_if_asked(run, before_effect=not has_begun)
        changes = declaration.effect is not Effect.READ
        if index in recorded:
            results.append(recorded[index])
            has_failed = has_failed or recorded[index].state == "failed"
            continue
        if has_failed and stop_on_error:
            results.append(ItemResult(operation=declaration.name, state="skipped"))
            continue
        if changes and not has_begun:
            run.begin_effect()
            has_begun = True
        try:
            result = _run_one(desk, ItemRun(run, index), declaration, arguments)
        except OperationFailed as error:  # stopped
            error.before_effect = error.before_effect and not has_begun
            raise
        has_failed = has_failed or result.state == "failed"
        results.append(result)
        if changes:
            recorded[index] = result
            desk.journal.keep(run.call, _PROGRESS, msgspec.json.encode(recorded))
    return _result(results)


def _run_one(desk: Desk, run: "ItemRun", declaration: OperationDeclaration, arguments: dict[str, Any]) -> ItemResult:
    try:
        value = NOT_DONE
        if run.fence > 1 and declaration.probe is not None:
            value = declaration.probe(desk, run, **arguments)
        if value is NOT_DONE:
            value = declaration.function(desk, run, **arguments)
    except OperationFailed as error:
        if error.failure_code == "stopped":
            raise
        return ItemResult(operation=declaration.name, state="failed", error=error.info())
    return _done(declaration, value)


def _done(declaration: OperationDeclaration, value: Any) -> ItemResult:
    return ItemResult(operation=declaration.name, state="done", value=msgspec.to_builtins(value))


def _result(items: list[ItemResult]) -> BatchResult:
    states = [item.state for item in items]
    return BatchResult(
        items=items, done=states.count("done"), failed=states.count("failed"), skipped=states.count("skipped")
    )


def _progress(desk: Desk, run: Run) -> dict[int, ItemResult]:
    """The operations that changed something, or failed to, in an earlier attempt."""
    raw = desk.journal.kept(run.call, _PROGRESS)
    return {} if raw is None else msgspec.json.decode(raw, type=dict[int, ItemResult])


class ItemRun:
    """The run of one operation of a batch: it has notes of its own, and the batch has begun the effect already."""

    def __init__(self, run: Run, index: int) -> None:
        self._run = run
        self._call = msgspec.structs.replace(run.call, id=f"{run.call.id}.{index}")

    @property
    def call(self) -> ToolCall:
        """The batch's call, with the item's number behind its id."""
        return self._call

    @property
    def fence(self) -> int:
        """The batch's."""
        return self._run.fence

    @property
    def worker(self) -> str:
        """The batch's."""
        return self._run.worker

    def remaining_s(self) -> float:
        """The batch's."""
        return self._run.remaining_s()

    def stop_requested(self) -> bool:
        """Whether the batch is to stop."""
        return self._run.stop_requested()

    def begin_effect(self) -> None:
        """The batch has."""

    async def begin_effect_async(self) -> None:
        """The batch has."""

    def executed_on(self, place: str) -> None:
        """Said of the batch."""
        self._run.executed_on(place)

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The batch's."""
        return self._run.wait(coroutine)

    def tell(self, output: Mapping[str, Any]) -> None:
        """Said of the batch."""
        self._run.tell(output)
