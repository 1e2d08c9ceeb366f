"""What can be said of a call beside its arguments, and the body that is sent for it."""

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import msgspec

from toolswarm.errors import (
    CallCancelled,
    CallEnded,
    CallExpired,
    CallFailed,
    InvalidRequest,
    OutcomeUnknown,
    ValueGone,
)
from toolswarm.messages import CacheMode, Context, Priority, SubmitBody, ToolResult
from toolswarm.states import State

DEFAULT_TIMEOUT_S = 330.0
"""Longer than the server's default deadline (300 s), so that the end of every call is heard."""


class OptionChanges(TypedDict, total=False):
    """What `options(…)` takes; see CallOptions."""

    priority: Priority | str
    context: Context | Mapping[str, str | None]
    deadline_s: float | None
    idempotency_key: str | None
    cache: CacheMode | str
    timeout_s: float


class CallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a call that is not an argument of the operation."""

    priority: Priority = Priority.NORMAL
    context: Context = Context()
    deadline_s: float | None = None
    """Seconds from the submit on."""
    idempotency_key: str | None = None
    cache: CacheMode = CacheMode.USE
    timeout_s: float = DEFAULT_TIMEOUT_S
    """How long a method waits before it raises WaitTimedOut."""

    def changed(self, changes: OptionChanges) -> "CallOptions":
        """The same with some fields set anew; text is taken for priorities, modes and contexts.

        Raises:
            InvalidRequest: an option is unknown or of a wrong type.
        """
        merged = {name: getattr(self, name) for name in self.__struct_fields__} | dict(changes)
        try:
            return msgspec.convert(msgspec.to_builtins(merged), CallOptions)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"options: {error}") from error

    def body(self, operation: str, arguments: Mapping[str, Any], now: float) -> SubmitBody:
        """The body of one call.

        It always has an idempotency key, so that a submit whose answer was lost can be sent again: the second
        joins the first instead of repeating it.
        """
        return SubmitBody(
            operation=operation,
            arguments=dict(arguments),
            context=self.context,
            priority=self.priority,
            deadline=None if self.deadline_s is None else now + self.deadline_s,
            idempotency_key=self.idempotency_key or uuid.uuid4().hex,
            cache=self.cache,
        )

    def bodies(self, calls: Iterable[tuple[str, Mapping[str, Any]]], now: float) -> list[SubmitBody]:
        """The bodies of many calls; a key of the caller's is numbered, since each call needs its own."""
        key = self.idempotency_key
        bodies = [self.body(operation, arguments, now) for operation, arguments in calls]
        if key is None:
            return bodies
        return [msgspec.structs.replace(body, idempotency_key=f"{key}:{number}") for number, body in enumerate(bodies)]


_ENDS: dict[State, type[CallEnded]] = {
    State.FAILED: CallFailed,
    State.CANCELLED: CallCancelled,
    State.EXPIRED: CallExpired,
    State.UNKNOWN: OutcomeUnknown,
}


def whole_value(result: ToolResult, whole: bytes) -> Any:
    """The value of a call whose result has only the beginning.

    Raises:
        ValueGone: what came is not what the result speaks of.
    """
    told = result.meta.whole
    if told is None or hashlib.sha256(whole).hexdigest() != told.sha256:
        raise ValueGone("the value arrived incomplete: ask again", size_bytes=len(whole))
    return msgspec.json.decode(whole)


def value_of(result: ToolResult) -> Any:
    """The value of a call that succeeded.

    Raises:
        CallFailed, CallCancelled, CallExpired, OutcomeUnknown: it ended otherwise.
    """
    if result.status is State.SUCCEEDED:
        return result.value
    raise _ENDS[result.status](result)
