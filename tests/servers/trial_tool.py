"""A tool for tests: its operations note on a file what they do, so that a test can count effects."""

import asyncio
import os
import time
from pathlib import Path

from tasks.operation import Run, Tool, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect


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
def crash(resources: None, run: Run, *, secret: str) -> str:
    """Fail with an exception that holds an argument."""
    raise RuntimeError(secret)


TOOL = Tool(
    name="trial",
    open=lambda configuration: None,
    operations=(echo, slow_read, slow_once, stubborn, where, poison, fail, crash),
)
