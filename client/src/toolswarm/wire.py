"""The HTTP contract of the gateway as data: paths, headers, bodies; shared by the blocking and the async transport."""

from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import quote

import msgspec

from toolswarm.cache_messages import CacheRequest
from toolswarm.errors import ToolswarmError
from toolswarm.messages import DeadRequest, FallbackChain, Operation, SubmitBody, ToolResult, encode
from toolswarm.problems import Problem, error_from_answer, error_from_problem
from toolswarm.transport import Outcome

CONNECT_TIMEOUT_S = 5.0
ANSWER_MARGIN_S = 10.0
"""How much longer than the wait an answer may take before the link counts as dead."""
VALUE_WAIT_S = 20.0
EVENT_SILENCE_S = 45.0
"""The gateway sends a comment every 15 s; three missing ones mean that the link is dead."""

CALLS = "/v1/calls"
BATCH = "/v1/calls:batch"
ROUTE = "/v1/route"
TOOLS = "/v1/tools"
STATUS = "/v1/status"
DEAD = "/v1/dead"
FALLBACKS = "/v1/fallbacks"
CACHE = "/v1/cache"

Decoded = TypeVar("Decoded")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request, before the transport adds address and key."""

    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    wait_s: float = 0.0


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of GET /v1/tools."""

    operations: list[Operation]


class _BatchItem(msgspec.Struct, frozen=True, kw_only=True):
    problem: Problem | None = None


class _BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    results: list[msgspec.Raw]


def submit_request(body: SubmitBody, wait_s: float) -> Request:
    """POST /v1/calls."""
    headers = _prefer(wait_s)
    if body.idempotency_key is not None:
        headers["Idempotency-Key"] = body.idempotency_key
    return Request(method="POST", path=CALLS, body=encode(body), headers=headers, wait_s=wait_s)


def batch_request(bodies: Sequence[SubmitBody], wait_s: float) -> Request:
    """POST /v1/calls:batch."""
    body = encode({"calls": list(bodies)})
    return Request(method="POST", path=BATCH, body=body, headers=_prefer(wait_s), wait_s=wait_s)


def result_request(call_id: str, wait_s: float) -> Request:
    """GET /v1/calls/{id}."""
    return Request(method="GET", path=f"{_call(call_id)}?wait={wait_s:.3f}", wait_s=wait_s)


def value_request(call_id: str) -> Request:
    """GET /v1/calls/{id}/value."""
    return Request(method="GET", path=f"{_call(call_id)}/value", wait_s=VALUE_WAIT_S)


def value_bytes(status: int, body: bytes, headers: Mapping[str, str]) -> bytes:
    """The value in an answer.

    Raises:
        ToolswarmError: of the class that the problem in the answer names.
    """
    if status >= 300:
        raise error_from_answer(status, body, headers)
    return body


def cancel_request(call_id: str) -> Request:
    """DELETE /v1/calls/{id}."""
    return Request(method="DELETE", path=_call(call_id))


def events_request(call_id: str) -> Request:
    """GET /v1/calls/{id}/events."""
    return Request(method="GET", path=f"{_call(call_id)}/events", headers={"Accept": "text/event-stream"})


def route_request(body: SubmitBody) -> Request:
    """POST /v1/route."""
    return Request(method="POST", path=ROUTE, body=encode(body))


def tools_request(name: str | None) -> Request:
    """GET /v1/tools or /v1/tools/{name}."""
    return Request(method="GET", path=TOOLS if name is None else f"{TOOLS}/{quote(name, safe='')}")


def dead_request(action: str, request: DeadRequest) -> Request:
    """POST /v1/dead:{action}."""
    return Request(method="POST", path=f"{DEAD}:{quote(action, safe='')}", body=encode(request), wait_s=60.0)


def cache_request(action: str, request: CacheRequest) -> Request:
    """POST /v1/cache:{action}."""
    return Request(method="POST", path=f"{CACHE}:{quote(action, safe='')}", body=encode(request), wait_s=10.0)


def fallbacks_request(name: str | None, chain: Sequence[str] | None) -> Request:
    """GET /v1/fallbacks without a name; with one PUT, or DELETE when there is no chain."""
    if name is None:
        return Request(method="GET", path=FALLBACKS)
    path = f"{FALLBACKS}/{quote(name, safe='')}"
    if chain is None:
        return Request(method="DELETE", path=path)
    return Request(method="PUT", path=path, body=encode(FallbackChain(chain=tuple(chain))))


def all_headers(request: Request, api_key: str) -> dict[str, str]:
    """The request's headers with those that every request has."""
    headers = {"Accept": "application/json"} | request.headers
    if request.body is not None:
        headers["Content-Type"] = "application/json"
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    return headers


def decode_answer(status: int, body: bytes, headers: Mapping[str, str], kind: type[Decoded]) -> Decoded:
    """The message in an answer.

    Raises:
        ToolswarmError: of the class that the problem in the answer names.
    """
    if status >= 300:  # a redirect is no answer of a gateway, and would carry the key elsewhere
        raise error_from_answer(status, body, headers)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise ToolswarmError(
            "the server's answer is not one of a Toolswarm gateway; is the URL right?", http_status=status
        ) from error


def decode_batch(status: int, body: bytes, headers: Mapping[str, str], count: int) -> list[Outcome]:
    """The outcomes of a batch of `count` calls, in their order."""
    answer = decode_answer(status, body, headers, _BatchAnswer)
    if len(answer.results) != count:
        raise ToolswarmError(f"the gateway answered {len(answer.results)} calls of a batch of {count}")
    return [_outcome(raw) for raw in answer.results]


def _outcome(raw: msgspec.Raw) -> Outcome:
    try:
        problem = msgspec.json.decode(raw, type=_BatchItem).problem
        return msgspec.json.decode(raw, type=ToolResult) if problem is None else error_from_problem(problem)
    except msgspec.DecodeError as error:
        raise ToolswarmError("the gateway's answer to a batch is not well-formed") from error


def _call(call_id: str) -> str:
    return f"{CALLS}/{quote(call_id, safe='')}"


def _prefer(wait_s: float) -> dict[str, str]:
    return {"Prefer": f"wait={int(wait_s)}"} if wait_s >= 1 else {}


class EventLines:
    """Takes the bytes of a `text/event-stream` and gives back the data of each whole event."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that end within this chunk."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        events: list[bytes] = []
        for line in lines:
            text = line.rstrip(b"\r")
            if text.startswith(b"data:"):
                self._data.append(text[5:].removeprefix(b" "))
            elif not text and self._data:
                events.append(b"\n".join(self._data))
                self._data = []
        return events
