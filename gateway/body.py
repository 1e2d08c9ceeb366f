"""Reading a body: bounded in size, depth and time before anything looks at it; errors name the field."""

import asyncio
import re
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from gateway.errors import BodyTimedOut
from gateway.json_values import is_array, is_object
from toolswarm.errors import InvalidRequest, PayloadTooLarge
from toolswarm.messages import SubmitBody

BODY_TIMEOUT_S = 30.0
"""A body that trickles in longer than this is not waited for."""
MAX_DEPTH = 100
"""Containers within containers; more is an attack on whoever walks the value recursively after us."""

_Message = TypeVar("_Message")

_WHERE = re.compile(r" - at `\$\.?([^`]*)`$")
_NAMED_FIELD = re.compile(r"field `([^`]*)`")


class CallerGone(Exception):
    """The caller closed the connection before he was answered; nobody is left to be told."""


async def read(request: Request, limit_bytes: int) -> bytes:
    """The whole body.

    Raises:
        PayloadTooLarge: announced or found to be larger than the limit; the rest is not kept.
        BodyTimedOut: it did not arrive in time.
        CallerGone: the connection was closed.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit_bytes:
        raise _too_large(int(announced), limit_bytes)
    first, more = await _next_part(request)
    if not more:  # the usual case: one part, no list, no timer
        if len(first) > limit_bytes:
            raise _too_large(len(first), limit_bytes)
        return first
    parts, size_bytes = [first], len(first)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while more:
                if size_bytes > limit_bytes:
                    raise _too_large(size_bytes, limit_bytes)
                part, more = await _next_part(request)
                parts.append(part)
                size_bytes += len(part)
    except TimeoutError as error:
        raise BodyTimedOut(f"the body did not arrive within {BODY_TIMEOUT_S:g} s") from error
    if size_bytes > limit_bytes:
        raise _too_large(size_bytes, limit_bytes)
    return b"".join(parts)


def decode(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[_Message]) -> _Message:
    """The message in a body.

    Raises:
        InvalidRequest: not JSON, nested too deeply, or not of the decoder's type; `details["field"]` names the place.
    """
    try:
        message = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise _too_deep() from error
    if isinstance(message, SubmitBody):
        refuse_depth(message.arguments)
    return message


def refuse_depth(arguments: dict[str, Any]) -> None:
    """Look at the arguments level by level, without recursion.

    Raises:
        InvalidRequest: they are nested too deeply.
    """
    level: list[Any] = [arguments]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for container in level:
            values = container.values() if is_object(container) else container
            below += [value for value in values if is_object(value) or is_array(value)]
        if not below:
            return
        level = below
    raise _too_deep()


async def _next_part(request: Request) -> tuple[bytes, bool]:
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise CallerGone
    return message.get("body", b""), message.get("more_body", False)


def _invalid(message: str) -> InvalidRequest:
    where = _WHERE.search(message)
    parts = [where.group(1)] if where else []
    named = _NAMED_FIELD.search(message)
    if named:
        parts.append(named.group(1))
    field = ".".join(part for part in parts if part)
    return InvalidRequest(f"the body is not what is expected here: {message}", **({"field": field} if field else {}))


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"the body is nested more than {MAX_DEPTH} levels deep", field="arguments")


def _too_large(size_bytes: int, limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the body has {size_bytes} bytes or more, the limit is {limit_bytes}",
        size_bytes=size_bytes,
        limit_bytes=limit_bytes,
    )
