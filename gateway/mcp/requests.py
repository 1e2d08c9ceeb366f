"""A `tools/call` as the call that it asks for: what MCP has no field for stands in `_meta`, under `toolswarm/`.

`toolswarm/idempotencyKey`, `toolswarm/context`, `toolswarm/priority`, and W3C's `traceparent`.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from gateway.json_values import is_object
from gateway.preferences import MAX_IDEMPOTENCY_KEY_CHARACTERS
from toolswarm.errors import InvalidArguments, InvalidRequest
from toolswarm.messages import Context, Operation, Priority, SubmitBody, canonical

T = TypeVar("T")

IDEMPOTENCY_KEY = "toolswarm/idempotencyKey"
CONTEXT = "toolswarm/context"
PRIORITY = "toolswarm/priority"

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_PRINTABLE = re.compile(rf"[\x21-\x7e]{{1,{MAX_IDEMPOTENCY_KEY_CHARACTERS}}}")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asked for."""

    name: str
    """The operation as `submit` takes it."""
    arguments: dict[str, Any]
    meta: dict[str, Any]
    responses: dict[str, Any] | None = None
    """Answers to what the operation asked before."""
    state: str | None = None


def asked_of(params: Mapping[str, Any], name: str) -> Asked:
    """What the parameters of a `tools/call` ask for."""
    arguments, meta, responses = params.get("arguments"), params.get("_meta"), params.get("inputResponses")
    state = params.get("requestState")
    return Asked(
        name=name,
        arguments=arguments if is_object(arguments) else {},
        meta=meta if is_object(meta) else {},
        responses=responses if is_object(responses) else None,
        state=state if isinstance(state, str) else None,
    )


def body_of(asked: Asked, operation: Operation | None) -> SubmitBody:
    """The call.

    Raises:
        InvalidRequest: something under `_meta` is malformed.
        InvalidArguments: the argument for answers was given as if it were one of the others.
    """
    arguments, hidden = asked.arguments, "" if operation is None else operation.answers_argument
    if hidden and hidden in arguments:
        raise InvalidArguments(f"there is no argument {hidden!r}: answers go into inputResponses", field=hidden)
    key, trace = _key(asked.meta.get(IDEMPOTENCY_KEY)), asked.meta.get("traceparent")
    if hidden and asked.responses is not None:
        answers: dict[str, Any] = {"responses": asked.responses, "state": asked.state}
        arguments = {**arguments, hidden: answers}
        # Each round is a call of its own under the client's one key.
        key = None if key is None else round_key(key, answers)
    return SubmitBody(
        operation=asked.name,
        arguments=arguments,
        context=_said(asked.meta, CONTEXT, Context, Context()),
        priority=_said(asked.meta, PRIORITY, Priority, Priority.NORMAL),
        idempotency_key=key,
        traceparent=trace if isinstance(trace, str) and _TRACEPARENT.fullmatch(trace) else None,
    )


def round_key(key: str, answers: object) -> str:
    """The idempotency key of the call that these answers belong to."""
    return hashlib.sha256(canonical([key, answers])).hexdigest()


def _key(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _PRINTABLE.fullmatch(value):
        raise InvalidRequest(
            f"_meta[{IDEMPOTENCY_KEY!r}] takes 1 to {MAX_IDEMPOTENCY_KEY_CHARACTERS} printable ASCII characters "
            "without spaces",
            field=IDEMPOTENCY_KEY,
        )
    return value


def _said(meta: Mapping[str, Any], name: str, kind: type[T], otherwise: T) -> T:
    if name not in meta:
        return otherwise
    try:
        return msgspec.convert(meta[name], kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"_meta[{name!r}]: {error}", field=name) from error
