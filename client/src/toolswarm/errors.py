"""Every error a user of Toolswarm can meet, in one tree.

Each class has a stable `code`, says whether the same thing may work later (`retryable`), and carries its facts in
`details`. `gateway/errors.py` is the only table from these to HTTP.
"""

from typing import Any, ClassVar

from toolswarm.messages import ErrorInfo, ToolResult


class ToolswarmError(Exception):
    """Something in Toolswarm went wrong; the message says what to do."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, /, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def info(self) -> ErrorInfo:
        """The error as a message for the wire."""
        return ErrorInfo(code=self.code, message=self.message, retryable=self.retryable, details=self.details)


class ConfigurationError(ToolswarmError):
    """A setting is unknown, missing or has a wrong value; the message names it."""

    code = "configuration"


# -- the request was refused: nothing was accepted, nothing ran ------------------------------------------------


class RequestRefused(ToolswarmError):
    """The request was refused before anything was accepted."""

    code = "request_refused"


class InvalidRequest(RequestRefused):
    """The request is not a well-formed message."""

    code = "invalid_request"


class UnknownOperation(RequestRefused):
    """No tool offers this operation; `details["nearest"]` has the nearest names."""

    code = "unknown_operation"


class InvalidArguments(RequestRefused):
    """An argument is missing, extra or of a wrong type; `details["field"]` names it."""

    code = "invalid_arguments"


class PayloadTooLarge(RequestRefused):
    """The body is larger than the server takes; `details` has `size_bytes` and `limit_bytes`."""

    code = "payload_too_large"


class AuthenticationFailed(RequestRefused):
    """No API key was given, or it is not known."""

    code = "authentication_failed"


class PermissionDenied(RequestRefused):
    """The key is known but may not do this."""

    code = "permission_denied"


class CallNotFound(RequestRefused):
    """No call with this id belongs to the caller (or its record has expired)."""

    code = "call_not_found"


class NoValue(RequestRefused):
    """The call has no value: it has not ended, or not well."""

    code = "no_value"


class ValueGone(RequestRefused):
    """The value was too large for the result, and the whole is not kept any more; `details` has `size_bytes`."""

    code = "value_gone"


class IdempotencyConflict(RequestRefused):
    """The idempotency key was used before, for another request."""

    code = "idempotency_conflict"


class Unavailable(RequestRefused):
    """A part of the server is down or full; `details["retry_after_s"]` says when to come back."""

    code = "unavailable"
    retryable = True


class BrokerUnavailable(Unavailable):
    """The broker does not answer."""

    code = "broker_unavailable"


class Overloaded(Unavailable):
    """Too many calls wait already; nothing was accepted, and what was accepted before is not dropped."""

    code = "overloaded"


class GatewayUnreachable(ToolswarmError):
    """The client cannot reach the gateway."""

    code = "gateway_unreachable"
    retryable = True


class WaitTimedOut(ToolswarmError):
    """The caller stopped waiting; the call itself goes on, `details["id"]` names it."""

    code = "wait_timed_out"
    retryable = True


# -- an operation says why it did not succeed ------------------------------------------------------------------


class OperationFailed(ToolswarmError):
    """An operation could not do what it was asked; raised by tools, with a code of its own.

    `before_effect` says that nothing was changed, so that a fallback may be tried. `in_doubt` says that nobody can tell
    whether the effect happened: a call that must not run twice then ends as `unknown`, or is looked after by its probe.
    """

    code = "operation_failed"

    def __init__(
        self,
        message: str,
        /,
        *,
        code: str | None = None,
        retryable: bool = False,
        before_effect: bool = False,
        in_doubt: bool = False,
        **details: Any,
    ) -> None:
        super().__init__(message, **details)
        self.failure_code = code or self.code
        self.failure_retryable = retryable
        self.before_effect = before_effect
        self.in_doubt = in_doubt

    def info(self) -> ErrorInfo:
        """The error as a message for the wire."""
        return ErrorInfo(
            code=self.failure_code,
            message=self.message,
            retryable=self.failure_retryable,
            details=self.details,
        )


# -- a call that was accepted ended without success; raised by the client --------------------------------------


class CallEnded(ToolswarmError):
    """A call ended without success; `result` has all that is known."""

    code = "call_ended"

    def __init__(self, result: ToolResult) -> None:
        error = result.error or ErrorInfo(code=self.code, message=f"the call ended as {result.status}")
        super().__init__(error.message, **error.details)
        self.result = result
        self.error = error

    def __str__(self) -> str:
        return f"{self.error.code}: {self.error.message}"


class CallFailed(CallEnded):
    """The operation ran and failed."""

    code = "call_failed"


class CallCancelled(CallEnded):
    """The call was cancelled."""

    code = "call_cancelled"


class CallExpired(CallEnded):
    """The deadline passed before the operation could answer."""

    code = "call_expired"


class OutcomeUnknown(CallEnded):
    """The worker was lost after the point of no return: the effect may or may not have happened. Look first."""

    code = "outcome_unknown"
