"""A tool for tests of the cache: a read that is remembered for a second, and notes each of its runs."""

import asyncio
import time

from tasks.operation import Run, Tool, operation
from tests.servers.trial_tool import mark
from toolswarm.messages import Effect, Remember

TTL_S = 1.0


@operation(effect=Effect.READ, remember=Remember(ttl_s=TTL_S), tags=("label:{label}",))
async def look(resources: None, run: Run, *, label: str) -> str:
    """Give the label back, after a while."""
    mark(f"{run.call.cache} {label} {time.time():.3f}")
    await asyncio.sleep(0.05)
    return label


@operation(effect=Effect.READ, remember=Remember(ttl_s=60.0), tags=("label:{label}",), secret_arguments=("password",))
async def keep(resources: None, run: Run, *, label: str, password: str = "") -> str:
    """Give the label back; remembered for a minute."""
    mark(f"{run.call.cache} {label} {time.time():.3f}")
    run.executed_on("web-1")
    return label


@operation(effect=Effect.READ)
async def glance(resources: None, run: Run, *, label: str) -> str:
    """Give the label back; never remembered."""
    return label


TOOL = Tool(name="warmth", open=lambda configuration: None, operations=(look, keep, glance))
