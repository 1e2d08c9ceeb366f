"""A tool for the chaos tests: every effect is a line in a file, so that effects can be counted by call.

A line is written in one `write` to a file opened with O_APPEND: it is there whole, or not at all, also after a kill.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from tasks.operation import NOT_DONE, Run, Tool, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect


def _effects() -> Path:
    return Path(os.environ["TRIAL_MARKS"])


def _note(run: Run, what: str) -> None:
    line = json.dumps({"call": run.call.id, "what": what, "fence": run.fence, "worker": run.worker})
    descriptor = os.open(_effects(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def _happened(run: Run, what: str) -> bool:
    lines = _effects().read_text().splitlines() if _effects().exists() else []
    return any(run.call.id in line and json.loads(line)["what"] == what for line in lines)


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
    return run.call.id if _happened(run, "verifiable") else NOT_DONE


@operation(effect=Effect.VERIFIABLE, time_limit_s=20, probe=look)
async def verifiable(resources: None, run: Run, *, seconds: float) -> str:
    """Have an effect that can be looked for."""
    await asyncio.sleep(seconds / 2)
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
    if not _happened(run, "tried"):
        _note(run, "tried")
        raise OperationFailed("busy", code="upstream_failed", retryable=True, before_effect=True)
    await asyncio.sleep(seconds)
    return run.call.id


@operation(effect=Effect.IDEMPOTENT, time_limit_s=20)
async def poison(resources: None, run: Run, *, seconds: float) -> str:
    """Kill the worker."""
    os.kill(os.getpid(), 9)
    return run.call.id


TOOL = Tool(
    name="chaos",
    open=lambda configuration: None,
    operations=(read, idempotent, verifiable, once, flaky, poison),
)
