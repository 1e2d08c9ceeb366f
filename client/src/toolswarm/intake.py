"""The way in through the broker: a request goes to the queue `intake`, the answer comes back on a list of the caller's.

A request is JSON `{id, method, params, at, reply_to}`, authenticated by HMAC-SHA256 under the caller's API key (the key
itself never travels). A router pool answers with `{id, ok}` or `{id, error}` on `reply_key(reply_to)`.

| method | params | ok |
|---|---|---|
| `submit` | `call` (SubmitBody), `wait_s` | ToolResult (not terminal when `wait_s` was over first) |
| `result` | `id`, `wait_s` | ToolResult |
| `cancel` | `id` | ToolResult |
| `route` | `call` (SubmitBody) | Route |
| `tools` | – | list of Operation |
| `status` | – | SwarmStatus |
| `fallbacks` | `name`, `chain` (both none: only look) | FallbackChains |
| `dead` | `action`, `request` (DeadRequest) | DeadPage |
| `cache` | `action`, `request` (CacheRequest) | CachePage |
"""

import hashlib
import hmac
from typing import Any

import msgspec

from toolswarm.messages import ErrorInfo, canonical

INTAKE_QUEUE = "intake"
INTAKE_TASK = "toolswarm.intake"
REQUEST_TTL_S = 60.0
"""A request older than this is refused: it is a replay, or nobody waits for it any more."""
REPLY_TTL_S = 120
"""How long an answer lies on the caller's list."""


class IntakeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question to the router pool."""

    id: str
    """A fresh UUID; an id is answered once."""
    method: str
    params: dict[str, Any]
    at: float
    """Unix seconds."""
    reply_to: str
    """A fresh UUID of the calling process."""


class IntakeReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer: `ok`, or `error`."""

    id: str
    ok: Any = None
    error: ErrorInfo | None = None


def reply_key(reply_to: str) -> str:
    """List of IntakeReply, oldest first; expires REPLY_TTL_S after the last one."""
    return f"ts:reply:{reply_to}"


def bell_key(queue: str) -> str:
    """List whose one entry wakes a worker that waits for the queue: LPUSH 1, LTRIM 0 0, EXPIRE 60 after a task."""
    return f"ts:bell:{queue}"


def task_arguments(request: IntakeRequest, api_key: str) -> dict[str, str]:
    """The keyword arguments of the Celery task INTAKE_TASK that carries the request."""
    body = canonical(request)
    return {"request": body.decode(), "mac": _mac(body, api_key)}


def open_request(arguments: dict[str, str], api_key: str, now: float) -> IntakeRequest | None:
    """The request, or None when it was not made with this key or is too old.

    Raises:
        msgspec.ValidationError: the request is authentic and not well-formed.
    """
    body = arguments["request"].encode()
    if not hmac.compare_digest(_mac(body, api_key), arguments["mac"]):
        return None
    request = msgspec.json.decode(body, type=IntakeRequest)
    return request if abs(now - request.at) <= REQUEST_TTL_S else None


def _mac(body: bytes, api_key: str) -> str:
    return hmac.new(api_key.encode(), b"toolswarm-intake-v1\n" + body, hashlib.sha256).hexdigest()
