"""What a caller asks for beside the call: `Prefer: wait=N, cancel-on-disconnect` (RFC 7240), `?wait=N`, the headers
`Idempotency-Key` and `traceparent`."""

import re
from collections.abc import Iterator

import msgspec
from starlette.requests import Request

from toolswarm.errors import InvalidRequest
from toolswarm.messages import SubmitBody

MAX_IDEMPOTENCY_KEY_CHARACTERS = 255
CANCEL_ON_DISCONNECT = "cancel-on-disconnect"

_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


def preferred_wait_s(request: Request, max_wait_s: float) -> float | None:
    """How long the caller prefers to wait, capped; None when the request does not say.

    Raises:
        InvalidRequest: `wait` is not a number of seconds.
    """
    for name, value in _preferences(request):
        if name == "wait":
            return min(_seconds(value, "Prefer"), max_wait_s)
    return None


def prefers_cancel(request: Request) -> bool:
    """Whether the call is to be cancelled when the caller closes the connection instead of waiting.

    Raises:
        InvalidRequest: the preference has a value; it takes none.
    """
    for name, value in _preferences(request):
        if name == CANCEL_ON_DISCONNECT:
            if value:
                raise InvalidRequest(f"Prefer: {CANCEL_ON_DISCONNECT} takes no value", field="Prefer")
            return True
    return False


def queried_wait_s(request: Request, max_wait_s: float) -> float:
    """The `wait` of the query, capped; 0 when there is none.

    Raises:
        InvalidRequest: it is not a number of seconds.
    """
    value = request.query_params.get("wait")
    return 0.0 if value is None else min(_seconds(value, "wait"), max_wait_s)


def with_headers(body: SubmitBody, request: Request) -> SubmitBody:
    """The body with what the headers say about the call.

    Raises:
        InvalidRequest: the idempotency key of the header is malformed, or is not the one in the body.
    """
    key = _idempotency_key(request)
    if key is not None and body.idempotency_key != key:
        if body.idempotency_key is not None:
            raise InvalidRequest(
                "the header Idempotency-Key and idempotency_key in the body differ: send one of them",
                field="idempotency_key",
            )
        body = msgspec.structs.replace(body, idempotency_key=key)
    trace = request.headers.get("traceparent")
    # W3C Trace Context: a malformed header is as good as none. What the body says was said on purpose.
    if trace is not None and body.traceparent is None and _TRACEPARENT.fullmatch(trace):
        body = msgspec.structs.replace(body, traceparent=trace)
    return body


def _preferences(request: Request) -> Iterator[tuple[str, str]]:
    """Names in lower case and values, in order; the first of equal ones counts, unknown ones are ignored (RFC 7240)."""
    for header in request.headers.getlist("prefer"):
        for preference in header.split(","):
            name, _, value = preference.partition(";")[0].partition("=")
            yield name.strip().lower(), value.strip().strip('"')


def _idempotency_key(request: Request) -> str | None:
    value = request.headers.get("idempotency-key")
    if value is None:
        return None
    if len(value) >= 2 and value[0] == value[-1] == '"':  # the IETF draft's structured string
        value = value[1:-1]
    if not _PRINTABLE.fullmatch(value) or len(value) > MAX_IDEMPOTENCY_KEY_CHARACTERS:
        raise InvalidRequest(
            f"Idempotency-Key takes 1 to {MAX_IDEMPOTENCY_KEY_CHARACTERS} printable ASCII characters without spaces",
            field="Idempotency-Key",
        )
    return value


def _seconds(value: str, field: str) -> float:
    if not _SECONDS.fullmatch(value):
        raise InvalidRequest(f"{field}: wait takes a number of seconds, e.g. wait=10", field=field)
    return float(value)
