"""The one table from error to HTTP, and the problem document (RFC 9457) that a caller gets.

Nothing else in the gateway names a status of an error: code that meets one raises it, and the outermost layer answers
with `problem_response`.
"""

from typing import Any, NamedTuple

import msgspec
from starlette.responses import Response

from toolswarm import errors
from toolswarm.errors import CallEnded, ToolswarmError
from toolswarm.messages import ToolResult
from toolswarm.states import State

PROBLEM_TYPE = "application/problem+json"


class NoSuchPath(errors.RequestRefused):
    """The gateway has nothing at this path."""

    code = "no_such_path"


class MethodNotAllowed(errors.RequestRefused):
    """The path exists, the method does not; `details["allowed"]` has those that do."""

    code = "method_not_allowed"


class BodyTimedOut(errors.RequestRefused):
    """The body did not arrive in time."""

    code = "body_timed_out"
    retryable = True


class InternalError(ToolswarmError):
    """The gateway itself failed; `details["incident"]` finds the reason in its log."""

    code = "internal"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error as RFC 9457 wants it, with the members of an ErrorInfo beside."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    details: dict[str, Any]


class _Face(NamedTuple):
    status: int
    title: str


# The nearest ancestor counts, so a new class is answered like its parent until it has a line of its own.
_FACES: dict[type[ToolswarmError], _Face] = {
    ToolswarmError: _Face(500, "Something went wrong"),
    InternalError: _Face(500, "Internal error"),
    errors.ConfigurationError: _Face(500, "The server is not configured for this"),
    errors.RequestRefused: _Face(400, "Request refused"),
    errors.InvalidRequest: _Face(400, "Not a well-formed request"),
    errors.AuthenticationFailed: _Face(401, "Authentication failed"),
    errors.PermissionDenied: _Face(403, "Permission denied"),
    errors.UnknownOperation: _Face(404, "Unknown operation"),
    errors.CallNotFound: _Face(404, "Call not found"),
    NoSuchPath: _Face(404, "No such path"),
    MethodNotAllowed: _Face(405, "Method not allowed"),
    BodyTimedOut: _Face(408, "The body did not arrive in time"),
    errors.NoValue: _Face(409, "The call has no value"),
    errors.ValueGone: _Face(410, "The value is not kept any more"),
    errors.IdempotencyConflict: _Face(409, "Idempotency key already used"),
    errors.PayloadTooLarge: _Face(413, "Payload too large"),
    errors.InvalidArguments: _Face(422, "Invalid arguments"),
    errors.Unavailable: _Face(503, "Temporarily unavailable"),
    errors.BrokerUnavailable: _Face(503, "The broker does not answer"),
    errors.GatewayUnreachable: _Face(503, "Gateway not reachable"),
    errors.WaitTimedOut: _Face(504, "Still running"),
    errors.OperationFailed: _Face(422, "The operation failed"),
    errors.CallEnded: _Face(422, "The call did not succeed"),
    errors.CallFailed: _Face(422, "The call failed"),
    errors.CallCancelled: _Face(409, "The call was cancelled"),
    errors.CallExpired: _Face(504, "The deadline passed"),
    errors.OutcomeUnknown: _Face(504, "The outcome is unknown"),
}

# A failed call whose operation found nothing there is a 404; every other code of an operation is a 422.
_NOTHING_THERE = _Face(404, "Not found")
_NOTHING_THERE_CODES = frozenset({"not_found"})

_ENDED: dict[State, type[CallEnded]] = {
    State.FAILED: errors.CallFailed,
    State.CANCELLED: errors.CallCancelled,
    State.EXPIRED: errors.CallExpired,
    State.UNKNOWN: errors.OutcomeUnknown,
}


def ended(result: ToolResult) -> CallEnded:
    """The error that stands for a call that ended without success."""
    return _ENDED[result.status](result)


def problem_of(error: ToolswarmError) -> Problem:
    """The document for an error."""
    info = error.info()
    face = _face(type(error))
    code, details = info.code, info.details
    if isinstance(error, errors.CallFailed):
        code = error.error.code
        face = _NOTHING_THERE if code in _NOTHING_THERE_CODES else face
    if isinstance(error, CallEnded):
        details = {"id": error.result.id, **error.error.details}
    if isinstance(error, errors.OutcomeUnknown):
        details = {"evidence": error.error.message, **details}
    return Problem(
        type="/problems/" + code.replace("_", "-"),
        title=face.title,
        status=face.status,
        detail=info.message,
        code=code,
        retryable=error.error.retryable if isinstance(error, CallEnded) else info.retryable,
        details=details,
    )


def problem_response(error: ToolswarmError) -> Response:
    """The answer to a request that met this error."""
    problem = problem_of(error)
    headers: dict[str, str] = {}
    if problem.status in (429, 503):
        headers["retry-after"] = _whole_seconds(problem.details.get("retry_after_s", 1))
    elif problem.status == 401:
        headers["www-authenticate"] = 'Bearer realm="toolswarm"'
    elif problem.status == 405:
        headers["allow"] = ", ".join(problem.details.get("allowed", ()))
    body = msgspec.json.encode(problem, enc_hook=str)  # a detail that is not JSON must not hide the error itself
    return Response(body, status_code=problem.status, headers=headers, media_type=PROBLEM_TYPE)


def _face(kind: type[BaseException]) -> _Face:
    for ancestor in kind.__mro__:
        face = _FACES.get(ancestor)
        if face is not None:
            return face
    raise TypeError(f"{kind.__name__} is not a ToolswarmError")


def _whole_seconds(retry_after_s: object) -> str:
    """RFC 9110 knows whole seconds only; rounded up, so that nobody comes back too early."""
    if not isinstance(retry_after_s, int | float) or not 0 < retry_after_s < 86_400:
        return "1"
    return str(-int(-retry_after_s // 1))
