"""A tool for tests of the cache: things that lie in files, read with memory and changed with a word about it."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.operation import Run, Tool, operation
from tests.servers.trial_tool import mark
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect, Remember


def things() -> Path:
    """The folder of the things."""
    return Path(os.environ["TRIAL_MARKS"]).parent / "things"


def thing(label: str) -> Path:
    """Where a thing lies."""
    return things() / label.lower()


@operation(effect=Effect.READ, tags=("thing:{label}",), remember=Remember(ttl_s=60, negative_ttl_s=60))
async def look(resources: None, run: Run, *, label: str, seconds: float = 0.0) -> str:
    """Look at a thing, and take a while to tell."""
    mark(f"look {label}")
    found = thing(label)
    if not found.exists():
        raise OperationFailed(f"there is no {label}", code="not_found")
    text = found.read_text()
    await asyncio.sleep(seconds)
    return text


@operation(effect=Effect.READ, tags=("thing:{label}",), remember=Remember(ttl_s=0.3, stale_s=60))
async def look_lazily(resources: None, run: Run, *, label: str) -> str:
    """Look at a thing; an old answer will do while it is looked at again."""
    mark(f"lazily {label}")
    return thing(label).read_text()


@operation(effect=Effect.READ, tags=("thing:{label}",), remember=Remember(ttl_s=0.3, stale_if_error_s=60))
async def look_bravely(resources: None, run: Run, *, label: str) -> str:
    """Look at a thing; an old answer will do when that fails."""
    mark(f"bravely {label}")
    if not thing(label).exists():
        raise OperationFailed("it is not to be reached", code="upstream_unreachable", retryable=True)
    return thing(label).read_text()


@operation(effect=Effect.READ, remember=Remember(ttl_s=0.5, longest_ttl_s=60))
async def look_patiently(resources: None, run: Run, *, label: str) -> str:
    """Look at a thing less often when it does not change."""
    mark(f"patiently {label}")
    return thing(label).read_text()


@operation(effect=Effect.IDEMPOTENT, changes=("thing:{label}",))
def change(resources: None, run: Run, *, label: str, text: str) -> str:
    """Change a thing."""
    things().mkdir(exist_ok=True)
    part = thing(label).with_suffix(f".{os.getpid()}.part")
    part.write_text(text)
    part.replace(thing(label))
    return text


@operation(effect=Effect.ONCE, changes=("thing:{label}",), time_limit_s=30)
async def change_and_hang(resources: None, run: Run, *, label: str, text: str) -> str:
    """Change a thing, and never say so."""
    thing(label).write_text(text)
    mark(f"hang {label}")
    await asyncio.sleep(30)
    return text


@operation(effect=Effect.READ, remember=Remember(ttl_s=60))
async def who_am_i(resources: None, run: Run, *, salt: str = "") -> str:
    """Tell the caller's own secret."""
    return f"secret of {run.call.tenant}"


@operation(effect=Effect.READ, remember=Remember(ttl_s=60))
async def much(resources: None, run: Run, *, size_bytes: int) -> str:
    """Answer more than a result holds."""
    mark("much")
    return "a" * size_bytes


def _spelled(resources: None, run: Run, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"label": str(arguments.get("label", "")).lower()}


TOOL = Tool(
    name="memo",
    open=lambda configuration: None,
    tag_values=_spelled,
    operations=(look, look_lazily, look_bravely, look_patiently, change, change_and_hang, who_am_i, much),
)
