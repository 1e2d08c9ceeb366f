"""From an error on the wire (problem+json of the gateway, ErrorInfo of the router pool) to the class with its code."""

from collections.abc import Mapping
from typing import Any

import msgspec

from toolswarm.errors import CallEnded, OperationFailed, ToolswarmError, Unavailable
from toolswarm.messages import ErrorInfo


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The members of an RFC 9457 problem that the client reads."""

    code: str
    title: str = ""
    detail: str = ""
    status: int = 0
    retryable: bool = False
    details: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


def _classes(parent: type[ToolswarmError]) -> dict[str, type[ToolswarmError]]:
    found = {parent.code: parent}
    for child in parent.__subclasses__():
        # Only the client's own tree: a program may have errors of its own below it. And not what is made from a result
        # or by a tool: as an answer to a request it would say nothing more.
        if child.__module__ == ToolswarmError.__module__ and child not in (CallEnded, OperationFailed):
            found |= _classes(child)
    return found


ERROR_CLASSES: Mapping[str, type[ToolswarmError]] = _classes(ToolswarmError)
"""Code -> class, of every error that can answer a request."""


def error_from_info(info: ErrorInfo) -> ToolswarmError:
    """The error with this code; an unknown code becomes a ToolswarmError that keeps it in `details["code"]`."""
    kind = ERROR_CLASSES.get(info.code)
    if kind is None:
        return ToolswarmError(info.message, **(info.details | {"code": info.code, "retryable": info.retryable}))
    return kind(info.message, **info.details)


def error_from_problem(problem: Problem, retry_after_s: float | None = None) -> ToolswarmError:
    """The error that a problem stands for; `retry_after_s` is the answer's Retry-After."""
    details = dict(problem.details)
    if retry_after_s is not None:
        details["retry_after_s"] = retry_after_s
    if problem.code not in ERROR_CLASSES:
        details["http_status"] = problem.status
    message = problem.detail or problem.title or problem.code
    return error_from_info(ErrorInfo(code=problem.code, message=message, retryable=problem.retryable, details=details))


def error_from_answer(status: int, body: bytes, headers: Mapping[str, str]) -> ToolswarmError:
    """The error that an HTTP answer of 400 or more stands for, also when no gateway of ours wrote it."""
    retry_after_s = parse_retry_after(headers.get("retry-after"))
    if "json" in headers.get("content-type", ""):
        try:
            return error_from_problem(msgspec.json.decode(body, type=Problem), retry_after_s)
        except msgspec.DecodeError:  # JSON of something that is not our gateway: told apart by its status, below
            pass
    if status in (502, 503, 504):
        details = {} if retry_after_s is None else {"retry_after_s": retry_after_s}
        return Unavailable(f"the server answered HTTP {status}", http_status=status, **details)
    return ToolswarmError(
        f"the server answered HTTP {status} without saying why; is the URL that of a Toolswarm gateway?",
        http_status=status,
    )


def parse_retry_after(text: str | None) -> float | None:
    """Seconds of a Retry-After header; None for none, or for the form with a date, which our gateway never sends."""
    if text is None or not text.strip().isdecimal():
        return None
    return float(text)
