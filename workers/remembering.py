"""What the worker does for the cache: fill after a read, invalidate by tags before the caller of a write is told.

Operations that declare nothing of this cost nothing. A cache that does not answer delays a call once, by
`cache.timeout_s`, and is left alone until it does.
"""

import asyncio
import concurrent.futures
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from cache import Answer, Cache, Change, Key, Reading
from cache.rules import filled
from store.configuration import Configuration
from store.sections import Secret, Section
from tasks.operation import OperationDeclaration, Tool
from toolswarm.errors import ToolswarmError
from toolswarm.messages import CacheMode, Operation, ToolResult, canonical
from toolswarm.states import State
from workers.attempt import Attempt

NEGATIVE_CODES = frozenset({"not_found"})
"""Failures that are answers: there is no such thing."""


class _Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt means to the cache."""

    started_at: float
    key: Key | None = None
    reading: Reading | None = None
    change: Change | None = None


class Remembering:
    """Begins before an operation runs, ends before the ledger is told of its result."""

    def __init__(
        self, cache: Cache, tool: Tool, resources: Any, *, edition: str, threads: concurrent.futures.Executor
    ) -> None:
        self.operations: list[Operation] = tool.describe(edition)
        """The tool's part of the catalogue."""
        self._cache = cache
        self._tool = tool
        self._resources = resources
        self._threads = threads
        self._described = {operation.name: operation for operation in self.operations}
        self._watched: dict[tuple[str, int], _Watched] = {}

    async def begin(self, attempt: Attempt, declaration: OperationDeclaration, arguments: Mapping[str, Any]) -> None:
        """The operation runs next; nothing that fails here is a failure of the call."""
        if declaration.changes:
            tags = await self._tags(attempt, declaration.changes, arguments)
            if tags is None:
                tags = filled(declaration.changes, arguments)
            hold_s = declaration.time_limit_s
            change = await self._cache.changing(tags, attempt.grant.id, hold_s=hold_s)
            self._watch(attempt, _Watched(started_at=time.monotonic(), change=change))
            return
        if attempt.call.cache is CacheMode.SKIP:
            return
        key = self._cache.key(self._described[declaration.name], attempt.call)
        if key is None:
            return
        reading = None
        tags = await self._tags(attempt, declaration.tags, arguments)
        if tags is not None:
            reading = await self._cache.begin(key, tags, attempt.grant.id)
        self._watch(attempt, _Watched(started_at=time.monotonic(), key=key, reading=reading))

    async def rescue(self, attempt: Attempt, failed: ToolResult) -> ToolResult | None:
        """What was remembered, in place of a failure that may pass; None when there is nothing."""
        watched = self._watched.get(_of(attempt))
        if watched is None or watched.key is None or attempt.call.cache is not CacheMode.USE:
            return None
        if failed.status is not State.FAILED or failed.error is None or not failed.error.retryable:
            return None
        kept_s = watched.key.rules.stale_if_error_s
        found = await self._cache.get(watched.key.name) if kept_s > 0 else None
        if found is None or found.answer.value is None or -found.fresh_s > kept_s:
            return None
        self._cache.counts["stale_if_error"] += 1
        meta = msgspec.structs.replace(
            failed.meta, cache="stale", age_s=round(found.age_s, 3), executed_on=found.answer.place
        )
        value = msgspec.json.decode(found.answer.value)
        return ToolResult(id=failed.id, status=State.SUCCEEDED, value=value, meta=meta)

    async def end(self, attempt: Attempt, result: ToolResult | None) -> None:
        """The call ends with this result, or goes on elsewhere as another operation (None)."""
        watched = self._watched.pop(_of(attempt), None)
        if watched is None:
            return
        if watched.change is not None:
            # Of an unknown outcome it is not said that it is over: who looks now must not see what was before.
            if result is None or result.status is not State.UNKNOWN:
                await self._cache.changed(watched.change)
            return
        if watched.key is None:
            return
        answer = None if result is None else _answer(result, attempt, watched)
        if watched.reading is not None and answer is not None:
            await self._cache.fill(watched.reading, answer)
        else:
            await self._cache.let_go(watched.key, attempt.grant.id)

    def forget(self, attempt: Attempt) -> None:
        """The attempt is over for this worker."""
        self._watched.pop(_of(attempt), None)

    def _watch(self, attempt: Attempt, watched: _Watched) -> None:
        self._watched[_of(attempt)] = watched

    async def _tags(
        self, attempt: Attempt, templates: tuple[str, ...], arguments: Mapping[str, Any]
    ) -> tuple[str, ...] | None:
        """The tags; None when the tool cannot tell what they are of."""
        if not templates:
            return ()
        values, spell = arguments, self._tool.tag_values
        if spell is not None:
            loop = asyncio.get_running_loop()
            try:
                values = await loop.run_in_executor(self._threads, spell, self._resources, attempt, arguments)
            except ToolswarmError:
                return None  # the operation itself says what is wrong with its arguments
        return filled(templates, values)


def edition_of(cache: Cache, configuration: Configuration, tool: str) -> str:
    """Stands for the tool's section of the configuration, its credentials among it, and tells nothing of it.

    Whatever an operator changes there may make another answer right: nothing that was remembered before is found.
    """
    section = getattr(configuration, tool, None)
    if not cache.seal.shared or not isinstance(section, Section):
        return ""
    return cache.seal.name(canonical(msgspec.to_builtins(section, enc_hook=_revealed)))


def _revealed(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError


def _of(attempt: Attempt) -> tuple[str, int]:
    return attempt.grant.id, attempt.grant.fence


def _answer(result: ToolResult, attempt: Attempt, watched: _Watched) -> Answer | None:
    cost_s = time.monotonic() - watched.started_at
    if result.meta.whole is not None:
        return None  # only its beginning is here, and the whole lies beside this call
    if result.status is State.SUCCEEDED and result.meta.cache == "miss":
        return Answer(value=msgspec.json.encode(result.value), place=attempt.place, cost_s=cost_s)
    if result.status is State.FAILED and result.error is not None and result.error.code in NEGATIVE_CODES:
        return Answer(error=result.error, place=attempt.place, cost_s=cost_s)
    return None
