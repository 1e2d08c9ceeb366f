"""A tool for tests: its operations note on a file what they do, so that a test can count effects."""

import asyncio
import os
import time
from pathlib import Path

from tasks.operation import NOT_DONE, Postponed, Run, Tool, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect


def marked() -> list[str]:
    """What was noted so far."""
    marks = Path(os.environ["TRIAL_MARKS"])
    return marks.read_text().splitlines() if marks.exists() else []


def mark(text: str) -> None:
    """One line, appended in one write."""
    descriptor = os.open(Path(os.environ["TRIAL_MARKS"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)


@operation(effect=Effect.READ)
async def echo(resources: None, run: Run, *, text: str) -> str:
    """Give the text back."""
    return text


@operation(effect=Effect.READ, time_limit_s=30)
async def slow_read(resources: None, run: Run, *, label: str, seconds: float) -> str:
    """Take a while, and change nothing."""
    mark(f"begin {label} {os.getpid()}")
    await asyncio.sleep(seconds)
    return label


@operation(effect=Effect.ONCE, time_limit_s=30)
async def slow_once(resources: None, run: Run, *, label: str, seconds: float) -> str:
    """Take a while, and have an effect that must not happen twice."""
    mark(f"effect {label} {os.getpid()}")
    await asyncio.sleep(seconds)
    return label


@operation(effect=Effect.READ, time_limit_s=1)
def stubborn(resources: None, run: Run, *, label: str) -> str:
    """Work in a thread until told to stop."""
    mark(f"begin {label} {os.getpid()}")
    while not run.stop_requested():
        time.sleep(0.01)
    return label


@operation(effect=Effect.READ)
def where(resources: None, run: Run) -> int:
    """The process that runs the call."""
    return os.getpid()


@operation(effect=Effect.IDEMPOTENT)
def poison(resources: None, run: Run, *, label: str) -> str:
    """Kill the worker."""
    mark(f"begin {label} {os.getpid()}")
    os.kill(os.getpid(), 9)
    return label


@operation(effect=Effect.READ)
def fail(resources: None, run: Run, *, code: str) -> str:
    """Fail in an orderly way."""
    raise OperationFailed("as asked", code=code, retryable=True, place="here")


@operation(effect=Effect.READ)
def flaky(resources: None, run: Run, *, label: str, failures: int) -> str:
    """Fail some times, then succeed."""
    mark(f"try {label}")
    if marked().count(f"try {label}") <= failures:
        raise OperationFailed("not yet", code="upstream_failed", retryable=True, before_effect=True)
    return label


@operation(effect=Effect.READ)
async def depend(resources: None, run: Run, *, target: str, works: bool) -> str:
    """Depend on something that works, or does not."""
    mark(f"depend {target}")
    if not works:
        raise OperationFailed("not reached", code="upstream_unreachable", retryable=True, retry_after_s=0)
    return target


def _unavailable(code: str) -> OperationFailed:
    return OperationFailed("not to be had", code=code, retryable=code != "not_found", before_effect=True)


@operation(effect=Effect.READ)
async def fetch(resources: None, run: Run, *, code: str) -> str:
    """Not be available."""
    mark(f"trial {code}")
    raise _unavailable(code)


@operation(effect=Effect.IDEMPOTENT)
async def store(resources: None, run: Run, *, code: str) -> str:
    """Not be available for a change either."""
    mark(f"trial {code}")
    raise _unavailable(code)


@operation(effect=Effect.READ)
def crash(resources: None, run: Run, *, secret: str) -> str:
    """Fail with an exception that holds an argument."""
    raise RuntimeError(secret)


def look(resources: None, run: Run, *, label: str, effect_first: bool) -> object:
    """Whether `verifiable` had its effect."""
    mark(f"look {label}")
    return f"found {label}" if f"effect {label}" in marked() else NOT_DONE


@operation(effect=Effect.VERIFIABLE, time_limit_s=30, probe=look)
async def verifiable(resources: None, run: Run, *, label: str, effect_first: bool) -> str:
    """Have an effect that can be looked for, before or after the first attempt hangs."""
    first = f"begin {label}" not in marked()
    if effect_first or not first:
        mark(f"effect {label}")
    mark(f"begin {label}")
    if first:
        await asyncio.sleep(30)
    return f"did {label}"


@operation(effect=Effect.VERIFIABLE, time_limit_s=30, probe=look)
def loses_sight(resources: None, run: Run, *, label: str, effect_first: bool) -> str:
    """Have an effect, and then lose sight of it."""
    mark(f"effect {label}")
    raise OperationFailed("the answer was lost", code="connection_lost", in_doubt=True)


@operation(effect=Effect.ONCE)
def breaks(resources: None, run: Run, *, label: str) -> str:
    """Have an effect, and then fall over."""
    mark(f"effect {label}")
    raise RuntimeError(label)


@operation(effect=Effect.VERIFIABLE, probe=look)
def breaks_but_can_tell(resources: None, run: Run, *, label: str, effect_first: bool) -> str:
    """Have an effect that can be looked for, and then fall over."""
    mark(f"effect {label}")
    raise RuntimeError(label)


@operation(effect=Effect.ONCE)
def answers_at_length(resources: None, run: Run, *, label: str, size_bytes: int) -> str:
    """Have an effect, and a long answer."""
    mark(f"effect {label}")
    return label * size_bytes


@operation(effect=Effect.ONCE)
def answers_in_tongues(resources: None, run: Run, *, label: str) -> object:
    """Have an effect, and an answer that is no JSON."""
    mark(f"effect {label}")
    return {"answer": object()}


@operation(effect=Effect.READ)
def reads_at_length(resources: None, run: Run, *, size_bytes: int) -> str:
    """Change nothing, and have a long answer."""
    return "x" * size_bytes


@operation(effect=Effect.READ)
def postponed(resources: None, run: Run, *, label: str, times: int, delay_s: float) -> list[str]:
    """Be postponed some times, then give back what was noted."""
    mark(f"try {label} {time.time()}")
    if sum(line.startswith(f"try {label} ") for line in marked()) <= times:
        raise Postponed("the budget is used up", delay_s=delay_s, code="rate_limited")
    return marked()


@operation(effect=Effect.READ)
async def chatty(resources: None, run: Run, *, lines: int) -> int:
    """Say something now and then."""
    for number in range(lines):
        run.tell({"line": number})
        await asyncio.sleep(0.05)
    return lines


SESSIONS: dict[str, int] = {}


@operation(effect=Effect.ONCE)
async def open_session(resources: None, run: Run) -> str:
    """Open a session that lives in this worker."""
    session_id = f"{run.worker}.{len(SESSIONS)}"
    SESSIONS[session_id] = 0
    return session_id


@operation(effect=Effect.ONCE, session_argument="session_id", from_context={"session_id": "session"})
async def count_in_session(resources: None, run: Run, *, session_id: str) -> int:
    """Count the uses of a session."""
    if session_id not in SESSIONS:
        raise OperationFailed("there is no such session", code="session_lost", before_effect=True)
    SESSIONS[session_id] += 1
    return SESSIONS[session_id]


TOOL = Tool(
    name="trial",
    open=lambda configuration: None,
    target=lambda resources, arguments: arguments.get("target"),
    operations=(
        *(echo, slow_read, slow_once, stubborn, where, poison, fail, flaky, crash),
        *(fetch, store, depend),
        *(breaks, breaks_but_can_tell, answers_at_length, answers_in_tongues, reads_at_length),
        *(verifiable, loses_sight, postponed, chatty, open_session, count_in_session),
    ),
)
