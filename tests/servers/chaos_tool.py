"""A tool for the chaos tests: every effect is a line in a file, so that effects can be counted by call.

A line is written in one `write` to a file opened with O_APPEND: it is there whole, or not at all, also after a kill.
What changes something asks for its lease right before: a worker that was frozen writes nothing when it thaws.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from tasks.operation import NOT_DONE, Run, Tool, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect


def effects_file() -> Path:
    """Where effects are noted."""
    return Path(os.environ["TRIAL_MARKS"])


def note(call_id: str, what: str, worker: str) -> None:
    """One effect of one call."""
    line = json.dumps({"call": call_id, "what": what, "worker": worker})
    descriptor = os.open(effects_file(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def happened(call_id: str, what: str) -> bool:
    """Whether that call had that effect."""
    lines = effects_file().read_text().splitlines() if effects_file().exists() else []
    return any(call_id in line and json.loads(line)["what"] == what for line in lines)


def _note(run: Run, what: str) -> None:
    if run.stop_requested():
        raise OperationFailed("stopped before the effect", code="stopped", retryable=True, before_effect=True)
    note(run.call.id, what, run.worker)


@operation(effect=Effect.READ, time_limit_s=20)
async def read(resources: None, run: Run, *, seconds: float) -> str:
    """Change nothing."""
    await asyncio.sleep(seconds)
    return run.call.id


@operation(effect=Effect.IDEMPOTENT, time_limit_s=20)
async def idempotent(resources: None, run: Run, *, seconds: float) -> str:
    """Have an effect that may happen again."""
    _note(run, "idempotent")
    await asyncio.sleep(seconds)
    return run.call.id


def look(resources: None, run: Run, *, seconds: float) -> Any:
    """Whether `verifiable` had its effect."""
    return run.call.id if happened(run.call.id, "verifiable") else NOT_DONE


@operation(effect=Effect.VERIFIABLE, time_limit_s=20, probe=look, marks_effect=True)
async def verifiable(resources: None, run: Run, *, seconds: float) -> str:
    """Have an effect that can be looked for."""
    await asyncio.sleep(seconds / 2)
    await run.begin_effect_async()
    _note(run, "verifiable")
    await asyncio.sleep(seconds / 2)
    return run.call.id


@operation(effect=Effect.ONCE, time_limit_s=20)
async def once(resources: None, run: Run, *, seconds: float) -> str:
    """Have an effect that must not happen twice."""
    await asyncio.sleep(seconds / 2)
    _note(run, "once")
    await asyncio.sleep(seconds / 2)
    return run.call.id


@operation(effect=Effect.READ, time_limit_s=20)
async def flaky(resources: None, run: Run, *, seconds: float) -> str:
    """Fail in the first attempt, as a busy upstream does."""
    if run.fence == 1:
        raise OperationFailed("busy", code="upstream_failed", retryable=True, before_effect=True)
    await asyncio.sleep(seconds)
    return run.call.id


@operation(effect=Effect.IDEMPOTENT, time_limit_s=20)
async def poison(resources: None, run: Run, *, seconds: float) -> str:
    """Kill the worker."""
    os.kill(os.getpid(), 9)
    return run.call.id


@operation(effect=Effect.READ, time_limit_s=1)
async def hang(resources: None, run: Run, *, seconds: float) -> str:
    """Never return."""
    await asyncio.Event().wait()
    return run.call.id


@operation(effect=Effect.ONCE, time_limit_s=1)
async def hang_once(resources: None, run: Run, *, seconds: float) -> str:
    """Have an effect that must not happen twice, and never return."""
    _note(run, "hang_once")
    await asyncio.Event().wait()
    return run.call.id


TOOL = Tool(
    name="chaos",
    open=lambda configuration: None,
    operations=(read, idempotent, verifiable, once, flaky, poison, hang, hang_once),
)
