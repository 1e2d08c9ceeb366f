"""A Front in memory: calls end when their operation says so at once, or when a test ends them."""

import asyncio
import difflib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from routing.front import Caller, Front
from toolswarm.cache_messages import CachePage, CacheRequest
from toolswarm.errors import BrokerUnavailable, CallNotFound, IdempotencyConflict, ToolswarmError, UnknownOperation
from toolswarm.ids import new_call_id
from toolswarm.messages import (
    CallEvent,
    Effect,
    ErrorInfo,
    Operation,
    Priority,
    Route,
    RouteReason,
    SubmitBody,
    SwarmStatus,
    ToolResult,
)
from toolswarm.states import State

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string", "examples": ["hello"]}, "mark": {"$ref": "#/$defs/Mark"}},
    "required": ["text"],
    "additionalProperties": False,
    "$defs": {
        "Mark": {
            "type": "object",
            "properties": {
                "sign": {"enum": ["!", "?"]},
                "inner": {"anyOf": [{"$ref": "#/$defs/Mark"}, {"type": "null"}]},
            },
            "required": ["sign"],
        }
    },
}


def operation(tool: str, name: str, *aliases: str) -> Operation:
    """An entry of the catalogue."""
    return Operation(
        tool=tool,
        name=name,
        title=f"{name} of {tool}",
        description=f"Does {name}.",
        parameters=PARAMETERS,
        effect=Effect.READ,
        aliases=aliases,
    )


OPERATIONS = [
    operation("echo", "say", "repeat"),
    operation("echo", "wait"),
    operation("echo", "fail"),
    operation("echo", "miss"),
    operation("echo", "stop"),
    operation("echo", "late"),
    operation("echo", "lost"),
    operation("file", "read", "open"),
]

_LOST = ErrorInfo(code="outcome_unknown", message="the worker was lost", details={"evidence": "effect begun at 12:00"})
# What ends at once, and how; `echo.say` gives its text back, `echo.wait` runs until a test ends it.
_ENDS: dict[str, tuple[State, ErrorInfo]] = {
    "echo.fail": (State.FAILED, ErrorInfo(code="path_refused", message="not in the root", details={"path": "/x"})),
    "echo.miss": (State.FAILED, ErrorInfo(code="not_found", message="nothing is there")),
    "echo.stop": (State.CANCELLED, ErrorInfo(code="call_cancelled", message="somebody asked for it")),
    "echo.late": (State.EXPIRED, ErrorInfo(code="call_expired", message="too late")),
    "echo.lost": (State.UNKNOWN, _LOST),
}


class FakeFront(Front):
    """Keeps calls in a dictionary."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As new."""
        self.calls: dict[str, ToolResult] = {}
        self.submitted: list[SubmitBody] = []
        self.callers: list[Caller] = []
        self.catalogue = list(OPERATIONS)
        self.closed = False
        self.followers = 0
        self.silent: set[str] = set()
        """Methods that never answer."""
        self.raising: dict[str, Exception] = {}
        """Method -> what it raises."""
        self._keys: dict[str, tuple[SubmitBody, str]] = {}
        self._changed = asyncio.Event()

    async def close(self) -> None:
        self.closed = True

    async def ready(self) -> None:
        await self._touch("ready")

    async def submit(self, body: SubmitBody, caller: Caller) -> ToolResult:
        await self._touch("submit")
        self.callers.append(caller)
        if body.operation not in [known.full_name for known in self.catalogue]:
            names = [known.full_name for known in self.catalogue]
            near = difflib.get_close_matches(body.operation, names)
            raise UnknownOperation(f"no tool has an operation {body.operation!r}", nearest=near)
        if body.idempotency_key is not None:
            earlier, call_id = self._keys.setdefault(body.idempotency_key, (body, new_call_id()))
            if earlier != body:
                raise IdempotencyConflict("the key was used for another request")
            if call_id in self.calls:
                return self.calls[call_id]
        else:
            call_id = new_call_id()
        self.submitted.append(body)
        accepted = self.calls[call_id] = ToolResult(id=call_id, status=State.ACCEPTED)
        loop = asyncio.get_running_loop()
        if body.operation == "echo.say":
            loop.call_soon(self.finish, call_id, body.arguments.get("text"))
        elif body.operation in _ENDS:
            state, error = _ENDS[body.operation]
            loop.call_soon(self._set, ToolResult(id=call_id, status=state, error=error))
        return accepted

    async def submit_many(self, bodies: Sequence[SubmitBody], caller: Caller) -> list[ToolResult | ToolswarmError]:
        results: list[ToolResult | ToolswarmError] = []
        for body in bodies:
            try:
                results.append(await self.submit(body, caller))
            except ToolswarmError as error:
                results.append(error)
        return results

    async def result(self, call_id: str, caller: Caller, wait_s: float) -> ToolResult:
        await self._touch("result")
        try:
            async with asyncio.timeout(wait_s):
                while not self._found(call_id).status.terminal:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self._found(call_id)

    async def cancel(self, call_id: str, caller: Caller) -> ToolResult:
        await self._touch("cancel")
        result = self._found(call_id)
        if result.status is State.ACCEPTED:
            result = ToolResult(id=call_id, status=State.CANCELLED)
            self._set(result)
        return result

    async def events(self, call_id: str, caller: Caller) -> AsyncIterator[CallEvent]:
        self.followers += 1
        try:
            told: State | None = None
            while told is None or not told.terminal:
                result = self._found(call_id)
                if result.status is told:
                    await self._changed.wait()
                    if "events" in self.raising:
                        raise self.raising["events"]
                    continue
                told = result.status
                yield CallEvent(id=call_id, state=told, at=time.time(), result=result if told.terminal else None)
        finally:
            self.followers -= 1

    async def route(self, body: SubmitBody, caller: Caller) -> Route:
        await self._touch("route")
        reason = RouteReason(rule="full-name", operation=body.operation, why="the call names it in full")
        return Route(
            operation=body.operation,
            tool="echo",
            queue="tool.echo",
            priority=Priority.NORMAL,
            effect=Effect.READ,
            decided_by=reason,
        )

    async def operations(self) -> list[Operation]:
        await self._touch("operations")
        return list(self.catalogue)

    async def status(self) -> SwarmStatus:
        await self._touch("status")
        return SwarmStatus(at=time.time(), backlog={"tool.echo": 3})

    async def cache(self, action: str, request: CacheRequest, caller: Caller) -> CachePage:
        await self._touch("cache")
        return CachePage(invalidated=request.tags)

    def start(self, call_id: str) -> None:
        """A worker has begun the call."""
        self._set(ToolResult(id=call_id, status=State.RUNNING))

    def finish(self, call_id: str, value: Any) -> None:
        """The call has succeeded."""
        self._set(ToolResult(id=call_id, status=State.SUCCEEDED, value=value))

    def wake(self) -> None:
        """Whoever waits looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _set(self, result: ToolResult) -> None:
        self.calls[result.id] = msgspec.structs.replace(result)
        self.wake()

    def _found(self, call_id: str) -> ToolResult:
        try:
            return self.calls[call_id]
        except KeyError as error:
            raise CallNotFound("there is no call with this id") from error

    async def _touch(self, method: str) -> None:
        if method in self.raising:
            raise self.raising[method]
        if method in self.silent:
            await asyncio.Event().wait()


BROKER_DOWN = BrokerUnavailable("the broker does not answer", retry_after_s=2.5)
