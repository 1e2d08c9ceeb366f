"""A second tool for tests: what `trial` falls back to."""

from tasks.operation import Run, Tool, operation
from tests.servers.trial_tool import mark
from toolswarm.messages import Effect


@operation(effect=Effect.READ)
async def fetch(resources: None, run: Run, *, code: str) -> str:
    """Succeed where the first tool failed."""
    mark(f"spare {code}")
    return "from the spare tool"


@operation(effect=Effect.IDEMPOTENT)
async def store(resources: None, run: Run, *, code: str) -> str:
    """Succeed where the first tool failed, and change something."""
    mark(f"spare {code}")
    return "from the spare tool"


TOOL = Tool(name="spare", open=lambda configuration: None, operations=(fetch, store))
