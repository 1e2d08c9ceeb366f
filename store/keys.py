"""Every Redis key of ours, with its type and its expiry. None lives for ever.

Beside these, the broker's Redis holds kombu's own: one list per queue and priority (`queue_list`), which vanishes when
it is empty, and kombu's binding sets `_kombu.binding.*`.
"""

import hashlib

from toolswarm.intake import INTAKE_QUEUE, bell_key, reply_key
from toolswarm.messages import Priority

__all__ = [
    "BEAT_LOCK",
    "CACHE_OWED",
    "CACHE_PREFIXES",
    "CATALOGUE",
    "CHAINS",
    "COUNTERS",
    "DEPTH",
    "DUE",
    "INTAKE_QUEUE",
    "PRIORITY_STEPS",
    "SHARES",
    "WORKERS",
    "alone_list",
    "answer_key",
    "app_token_key",
    "bell_key",
    "breaker_board",
    "breaker_key",
    "budget_bucket_key",
    "budget_key",
    "budget_running_key",
    "budget_spent_key",
    "cached_key",
    "call_key",
    "call_list",
    "dead_key",
    "flight_key",
    "generation_key",
    "idempotency_key",
    "intake_seen_key",
    "left_call_key",
    "own_queue",
    "piece_key",
    "popular_key",
    "queue_list",
    "reply_key",
    "task_key",
    "tool_queue",
    "unacked_index_key",
    "unacked_key",
    "wake_channel",
    "warm_claims_key",
    "warm_counts_key",
    "worker_key",
]

PREFIX = "ts:"
DUE = "ts:due"
"""zset, call id -> Redis time at which the sweep must look at it; expires 7 days after the last write."""
COUNTERS = "ts:counters"
"""hash, `tool|state` -> calls ended so; expires 30 days after the last write."""
CATALOGUE = "ts:catalogue"
"""hash, tool -> JSON list of Operation; expires 7 days after the last heartbeat of any worker."""
WORKERS = "ts:workers"
"""zset, worker name -> time of its last heartbeat; expires a day after the last one."""
CHAINS = "ts:chains"
"""hash, tool or operation -> JSON list of what is tried next; expires 30 days after the last sweep."""
DEPTH = "ts:depth"
"""hash, list -> tasks in the lines before it; expires 2 days after the last one joined a line."""
SHARES = "ts:shares"
"""hash, tenant -> its window and the most that it may have running; expires 2 days after its last call."""
# Built in prelude.lua, and nowhere else; each expires 2 days after the last write:
# `ts:line:LIST:TENANT` list, the tenant's tasks that wait for its turn, oldest at the right;
# `ts:lines:LIST` set of the tenants that have a line; `ts:window:LIST` hash, tenant -> its tasks in the list;
# `ts:held:QUEUE` hash, tenant -> its tasks that workers hold.
BEAT_LOCK = "ts:lock:beat"
"""string, the leading beat's nonce; expires with its lease."""

CACHE_OWED = "ts:cache:owed"
"""zset, digest of a tag that the cache Redis could not be told of, and perhaps a call -> when; expires 7 days later."""
CACHE_PREFIXES = ("ts:cached:", "ts:generation:")
"""What processes that remember answers themselves are told of."""

PRIORITY_STEPS: dict[Priority, int] = {
    Priority.INTERACTIVE: 0,
    Priority.NORMAL: 3,
    Priority.BACKGROUND: 6,
}
"""kombu's priority steps on Redis: 0 goes first."""
_PRIORITY_SEPARATOR = "\x06\x16"


def call_key(call_id: str) -> str:
    """hash, the record of one call; expires `retention_s` after the call ended (its deadline, while it has not)."""
    return f"ts:call:{call_id}"


def idempotency_key(tenant: str, principal: str, key: str) -> str:
    """string, the id of the call that used the key; expires with that call."""
    digest = hashlib.sha256("\x00".join((tenant, principal, key)).encode()).hexdigest()
    return f"ts:idem:{digest[:40]}"


def budget_key(credential: str) -> str:
    """hash, until when a credential (its fingerprint) is blocked; expires 2 hours after the last block."""
    return f"ts:budget:{credential}"


def budget_bucket_key(credential: str, bucket: str) -> str:
    """hash, limit, use and reset of one rate bucket; expires 2 hours after the last answer."""
    return f"ts:budget:{credential}:bucket:{bucket}"


def budget_running_key(credential: str) -> str:
    """zset, request -> when it counts as lost; expires an hour after the last request."""
    return f"ts:budget:{credential}:running"


def budget_spent_key(credential: str, what: str) -> str:
    """hash, slice of time -> what was spent in it (points, writes); expires after twice its span."""
    return f"ts:budget:{credential}:{what}"


def answer_key(digest: str) -> str:
    """string (cache Redis), a remembered answer with its validator; expires `github.remember_s` after its last use."""
    return f"ts:answer:{digest}"


def app_token_key(digest: str) -> str:
    """string (cache Redis), an encrypted token of a GitHub App installation; expires before the token does."""
    return f"ts:app_token:{digest}"


def cached_key(name: str) -> str:
    """string (cache Redis), a sealed answer; expires when it may be given in no case any more."""
    return f"{CACHE_PREFIXES[0]}{name}"


def flight_key(name: str) -> str:
    """string (cache Redis), the call that runs for all who ask the same; expires `cache.lease_s` after it was chosen.

    The name ends with the run of the server, so that none outlives it.

    Lines: the call's id, its rank; once its read has begun `begun`, then key and generation of each tag as it was.
    """
    return f"ts:flight:{name}"


def generation_key(tag_digest: str) -> str:
    """string (cache Redis), a tag's generation and who changes it; expires after the last answer under it does."""
    return f"{CACHE_PREFIXES[1]}{tag_digest}"


def popular_key(what: str, tool: str, half_life_s: float) -> str:
    """What is asked for often (cache Redis); each expires 20 half-lives after the last request of the tool's reads.

    `scores`: zset, member -> how much it saves; `states`: hash, member -> msgpack list; `calls`: hash, member -> sealed
    call. The half-life is part of the name: numbers that were counted under another one cannot be compared.
    """
    return f"ts:popular:{what}:{tool}:{half_life_s:g}"


def warm_claims_key(tool: str) -> str:
    """zset (cache Redis), refreshes of the last minute -> when they were granted; expires a minute after the last."""
    return f"ts:warm:{tool}"


def warm_counts_key(tool: str) -> str:
    """hash (cache Redis), what came of refreshes -> how many; expires 7 days after the last one."""
    return f"ts:warmed:{tool}"


def wake_channel(process: str) -> str:
    """pub/sub channel on which a process hears that calls it waits for have changed; no key."""
    return f"ts:wake:{process}"


def worker_key(name: str) -> str:
    """hash, the last heartbeat of one worker process; expires 30 s after it."""
    return f"ts:worker:{name}"


def intake_seen_key(request_id: str) -> str:
    """string, marks an intake request as answered; expires after twice the life of a request."""
    return f"ts:intake:{request_id}"


def left_call_key(digest: str) -> str:
    """string, the id of a call whose MCP client left before it was answered; expires a minute after that."""
    return f"ts:mcp:left:{digest}"


def task_key(task_id: str) -> str:
    """hash, what an MCP task asked and was answered; expires `retention_s` and a deadline after its last word."""
    return f"ts:mcp:task:{task_id}"


def tool_queue(tool: str) -> str:
    """Name of a tool's queue."""
    return f"tool.{tool}"


def breaker_key(tool: str, target_digest: str) -> str:
    """hash, the circuit breaker of one target; expires 10 min after its last failure."""
    return f"ts:breaker:{tool}:{target_digest}"


def breaker_board(tool: str) -> str:
    """zset, targets whose breakers are not closed or count failures -> the last one; expires 10 min after it."""
    return f"ts:breakers:{tool}"


def piece_key(call_id: str, number: int) -> str:
    """string in the cache's Redis, a piece of a value that is too large for the ledger; expires after `retention_s`."""
    return f"ts:piece:{call_id}:{number}"


def dead_key(tenant: str) -> str:
    """zset, id of a call that somebody should look at -> when it ended; entries and records are kept for 7 days."""
    return f"ts:dead:{tenant}"


def own_queue(tool: str, worker: str) -> str:
    """Name of one worker's own queue: calls of the sessions that live in it."""
    return f"tool.{tool}@{worker}"


def queue_list(queue: str, step: int) -> str:
    """list of kombu messages of one queue and priority step, oldest at the right; vanishes when empty."""
    return f"{queue}{_PRIORITY_SEPARATOR}{step}" if step else queue


def alone_list(queue: str) -> str:
    """list of tasks that run alone among their like: all but the last attempt of each lost its worker."""
    return f"{queue}{_PRIORITY_SEPARATOR}alone"


def call_list(queue: str, priority: Priority) -> str:
    """The list that a call waits in; a worker's own queue has but one."""
    return queue if "@" in queue else queue_list(queue, PRIORITY_STEPS[priority])


def unacked_key(queue: str) -> str:
    """hash, delivery tag -> list key and message of a task that a worker holds; vanishes when empty."""
    return f"ts:unacked:{queue}"


def unacked_index_key(queue: str) -> str:
    """zset, delivery tag -> Redis time of its last sign of life; vanishes when empty."""
    return f"ts:unacked_index:{queue}"
