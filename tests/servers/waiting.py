"""Waiting for a condition, instead of for a time."""

import asyncio
import time
from collections.abc import Callable
from inspect import isawaitable


def until(condition: Callable[[], object], what: str, within_s: float = 20.0) -> None:
    """Return when the condition holds."""
    give_up_at = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_at, f"waited {within_s} s in vain until {what}"
        time.sleep(0.02)


async def until_async(condition: Callable[[], object], what: str, within_s: float = 20.0) -> None:
    """Return when the condition (it may have to be awaited) holds; the loop of the test goes on."""
    give_up_at = time.monotonic() + within_s
    while True:
        found = condition()
        if await found if isawaitable(found) else found:
            return
        assert time.monotonic() < give_up_at, f"waited {within_s} s in vain until {what}"
        await asyncio.sleep(0.02)
