"""The messages that client, gateway and workers share: frozen structs, JSON on the wire, a version in each call.

Times are Unix seconds, durations are seconds, sizes are bytes.
"""

from enum import StrEnum
from typing import Any

import msgspec

from toolswarm.states import State

MESSAGE_VERSION = 1


class Priority(StrEnum):
    """Who goes first within one queue: a waiting person, ordinary work, or work nobody waits for."""

    INTERACTIVE = "interactive"
    NORMAL = "normal"
    BACKGROUND = "background"


class CacheMode(StrEnum):
    """What a call does with remembered results: `use` them, `refresh` them, or `skip` the cache."""

    USE = "use"
    REFRESH = "refresh"
    SKIP = "skip"


class Effect(StrEnum):
    """What an operation changes outside; decides retry, fallback, caching and redelivery.

    `read` changes nothing. `idempotent` may run again (under a new fence). `verifiable` can be asked whether it
    happened. `once` must never run twice, and is what anything unknown is taken for.
    """

    READ = "read"
    IDEMPOTENT = "idempotent"
    VERIFIABLE = "verifiable"
    ONCE = "once"

    @property
    def may_run_again(self) -> bool:
        """Whether a lost attempt that had begun its effect may be repeated without asking."""
        return self in (Effect.READ, Effect.IDEMPOTENT)


class Context(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the caller knows about the situation; routing uses it, and fills missing arguments from it."""

    repo: str | None = None
    """`owner/name` of the repository the caller works in."""
    host: str | None = None
    """Name of a configured remote host."""
    path: str | None = None
    """The path the caller is looking at, when the operation's own `path` does not say it."""
    session: str | None = None
    purpose: str | None = None


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One request to run one operation."""

    v: int = MESSAGE_VERSION
    id: str
    """UUID version 7; also the id of the Celery task."""
    operation: str
    """`tool.operation`, or the operation alone: then routing finds the tool."""
    arguments: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    context: Context = Context()
    tenant: str = "default"
    principal: str = "default"
    priority: Priority = Priority.NORMAL
    deadline: float | None = None
    """Unix seconds; at this instant the call is over, run or not. None: the server's default."""
    idempotency_key: str | None = None
    """Two calls of one principal with the same key and the same content are one call."""
    cache: CacheMode = CacheMode.USE
    traceparent: str | None = None
    """W3C Trace Context, handed on as it is."""


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a call did not succeed."""

    code: str
    """A stable word with underscores, e.g. `path_refused`."""
    message: str
    """One sentence for people, that says what to do."""
    retryable: bool = False
    """Whether the same call may succeed later."""
    details: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


class WholeValue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value that was too large for the result, which has only its beginning."""

    size_bytes: int
    """Of its JSON."""
    sha256: str
    """Of its JSON, in hexadecimal."""
    kept: bool = False
    """Whether `GET /v1/calls/{id}/value` gives it, as long as the result can be read; not promised."""


class ResultMeta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a call was run."""

    tool: str | None = None
    operation: str | None = None
    worker: str | None = None
    attempts: int = 0
    cache: str = "miss"
    """`hit` or `stale` (remembered: nothing ran, and the ledger has no record of the id), `coalesced` (the same call
    ran already, and the id is that call's), or `miss`."""
    age_s: float | None = None
    """How long ago a remembered result was read."""
    accepted_at: float | None = None
    queued_s: float | None = None
    """From `accepted` to the claim of the last attempt."""
    ran_s: float | None = None
    """From that claim to the end."""
    executed_on: str | None = None
    """Where the effect happened: a host name, `api.github.com`, …"""
    fallback_from: str | None = None
    whole: WholeValue | None = None
    """Present when `value` is only the beginning of what the operation answered."""


class ToolResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a call leaves: its state, and a value or an error."""

    id: str
    status: State
    value: Any = None
    """JSON; present when `status` is `succeeded`."""
    error: ErrorInfo | None = None
    meta: ResultMeta = ResultMeta()


class Remember(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How long answers of a read may be given again. All zero: it is run each time."""

    ttl_s: float = 0.0
    """For so long an answer is fresh."""
    longest_ttl_s: float = 0.0
    """An answer that comes back unchanged is fresh half as long again each time, up to this; 0: always `ttl_s`."""
    stale_s: float = 0.0
    """For so long after that it is still given, while one call refreshes it."""
    stale_if_error_s: float = 0.0
    """For so long after that it is given in place of a failure that may pass."""
    negative_ttl_s: float = 0.0
    """For so long the answer `not_found` is remembered."""


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One operation as the catalogue publishes it: all that a caller or a router has to know."""

    tool: str
    name: str
    """Without the tool: `read_file`."""
    title: str
    description: str
    parameters: dict[str, Any]
    """JSON Schema (2020-12) of the arguments, an object that forbids further properties."""
    result: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """JSON Schema of the value; empty: it may be anything."""
    effect: Effect = Effect.ONCE
    tags: tuple[str, ...] = ()
    """What a remembered answer depends on, with `{argument}` places: `repo:{repo}`."""
    changes: tuple[str, ...] = ()
    """The tags whose answers are out of date once it has run."""
    remember: Remember = Remember()
    version: str = ""
    """Changes with all that an answer's shape and content depend on beside the arguments."""
    time_limit_s: float = 60.0
    """The longest that one attempt may take."""
    aliases: tuple[str, ...] = ()
    """Other names that routing accepts when the tool is left out."""
    from_context: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    """Argument -> field of the context that fills it when the caller leaves it out."""
    secret_arguments: tuple[str, ...] = ()
    session_argument: str = ""
    """The argument whose value names a session: the call goes to the worker that the session lives in."""
    destructive: bool = False
    """Whether it may overwrite or remove what was there."""
    answers_argument: str = ""
    """The argument for answers to what the operation asks: it fails with `input_required`, and is called again."""

    @property
    def full_name(self) -> str:
        """`tool.operation`, also the name of the Celery task."""
        return f"{self.tool}.{self.name}"


class RouteReason(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rule that would have decided: its name, the operation it picks, and why in words."""

    rule: str
    operation: str
    why: str


class Route(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The decision for a call, with its explanation."""

    operation: str
    """`tool.operation`"""
    tool: str
    queue: str
    priority: Priority
    effect: Effect
    decided_by: RouteReason
    runner_up: RouteReason | None = None
    """The next rule that matched, if another one did."""
    fallbacks: tuple[str, ...] = ()
    """Operations to try, in order, when this one fails before its effect began."""
    filled: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """Arguments that came from the context."""


def encode(message: msgspec.Struct | dict[str, Any] | list[Any]) -> bytes:
    """JSON bytes of a message."""
    return msgspec.json.encode(message)


def canonical(value: object) -> bytes:
    """JSON bytes that are equal for equal values: keys sorted, no spaces; for hashes and signatures."""
    return msgspec.json.encode(value, order="deterministic")


class SubmitBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a caller sends to submit a call; tenant and principal come from the API key, never from here."""

    operation: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    context: Context = Context()
    priority: Priority = Priority.NORMAL
    deadline: float | None = None
    idempotency_key: str | None = None
    cache: CacheMode = CacheMode.USE
    traceparent: str | None = None


class CallEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call has changed its state or said something; the last one carries the result."""

    id: str
    state: State
    at: float
    """Unix seconds, on the ledger's clock."""
    result: ToolResult | None = None
    output: dict[str, Any] | None = None
    """What the operation said while it ran, e.g. `{"stream": "stdout", "text": "…"}`; the state did not change."""


class DeadRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which dead letters are meant, and for `resolve` what became of them. Nothing given means all."""

    ids: tuple[str, ...] = ()
    operation: str | None = None
    """In full: `github.create_issue`."""
    code: str | None = None
    """The error's code."""
    state: State | None = None
    """`failed` or `unknown`."""
    limit: int = 100
    outcome: State | None = None
    """For `resolve`: `succeeded` or `failed`, as somebody has found out."""
    note: str = ""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call that somebody should look at: its last attempt failed, or nobody knows whether it happened."""

    id: str
    operation: str
    state: State
    code: str
    message: str
    attempts: int
    accepted_at: float
    ended_at: float
    arguments: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """Without what the operation declares secret; long texts are cut."""
    details: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """The error's facts; for an unknown outcome the evidence."""
    retried_as: str | None = None
    """The id of the call that repeats it."""
    resolved: State | None = None


class DeadGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters that have the same operation, state and code."""

    operation: str
    state: State
    code: str
    count: int
    first_at: float
    last_at: float
    message: str
    """Of the last one."""


class DeadPage(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters, youngest first, and their groups, biggest first (of all that match, not only of those shown)."""

    groups: tuple[DeadGroup, ...] = ()
    letters: tuple[DeadLetter, ...] = ()
    total: int = 0


class FallbackChain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is tried next, in order: tools after a tool, operations after an operation."""

    chain: tuple[str, ...]


class FallbackChains(msgspec.Struct, frozen=True, kw_only=True):
    """Tool or operation -> what is tried next when it cannot be had."""

    fallbacks: dict[str, tuple[str, ...]]


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one worker process said of itself in its last heartbeat."""

    name: str
    tool: str
    kind: str
    """Kind of its pool: `asyncio`, `threads`, `prefork`, `solo`."""
    slots: int
    busy: int
    done: int
    """Calls finished since it started."""
    service_s: float
    """Mean time from claim to finish of the calls since the last heartbeat but some; 0 when there were none."""
    started_at: float
    seen_at: float
    polled_at: float
    """When it last asked the broker for tasks; an old one means connected but silent."""


class SwarmStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The swarm at one instant."""

    at: float
    workers: tuple[WorkerStatus, ...] = ()
    backlog: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    """Queue -> tasks that wait in it."""
    ended: dict[str, dict[str, int]] = msgspec.field(default_factory=dict[str, dict[str, int]])
    """Tool -> terminal state -> calls counted so far."""
