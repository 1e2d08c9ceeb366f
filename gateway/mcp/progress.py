"""Progress of a call, for a caller who sent a `progressToken`: how long its line is, its start, what it says.

The numbers grow with every notification, as MCP wants it. An operation that says `{"progress": 3, "total": 10}` sets
the scale; until then waiting and starting count in thousandths, so that they never run ahead of it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from gateway.bounds import BoundedFront
from gateway.mcp.cutting import cut_text
from gateway.mcp.logs import Log
from routing.front import Caller
from toolswarm.errors import Unavailable
from toolswarm.messages import CallEvent, SwarmStatus, ToolResult
from toolswarm.states import State

LOOK_EVERY_S = 2.0
"""How often whoever waits in line is told how long it is."""
_STEP = 0.001
_LONGEST_MESSAGE_BYTES = 2048
_STATE_WORDS = {State.RUNNING: "running", State.EFFECTING: "past the point of no return"}

Report = Callable[[float, float | None, str | None], Awaitable[None]]
"""Progress, total, message."""


class Progress:
    """Numbers and words of one call's progress; what is said for a log goes there when the client wants it."""

    def __init__(self, report: Report, log: Log | None = None) -> None:
        self._report = report
        self._log = log
        self._last = -_STEP

    async def waiting(self, ahead: int | None) -> None:
        """The call waits in line."""
        line = "" if ahead is None else f": {ahead} calls wait in this line"
        await self._say(None, None, f"waiting{line}")

    async def event(self, event: CallEvent) -> None:
        """Something has happened to the call."""
        if event.output is None:
            words = _STATE_WORDS.get(event.state)
            if words is not None:
                await self._say(None, None, words)
            return
        said = event.output
        if self._log is not None and "log" in said:
            await self._log.say(said)
            return
        message = said.get("message", said.get("text", said.get("log")))
        if not isinstance(message, str):
            rest = {name: value for name, value in said.items() if name not in ("progress", "total")}
            message = msgspec.json.encode(rest).decode() if rest else None
        await self._say(_number(said.get("progress")), _number(said.get("total")), message)

    async def _say(self, number: float | None, total: float | None, message: str | None) -> None:
        self._last = number if number is not None and number > self._last else round(self._last + _STEP, 3)
        await self._report(self._last, total, None if message is None else cut_text(message, _LONGEST_MESSAGE_BYTES))


class Lines:
    """How many calls wait for each tool, asked at most once a second, however many want to know."""

    def __init__(self, front: BoundedFront) -> None:
        self._front = front
        self._asked: asyncio.Task[SwarmStatus] | None = None
        self._asked_at = float("-inf")

    async def waiting(self, tool: str) -> int | None:
        """Calls that wait in the tool's line; None when it cannot be told now."""
        now = asyncio.get_running_loop().time()
        if self._asked is None or now - self._asked_at > 1.0:
            self._asked, self._asked_at = asyncio.create_task(self._front.status(), name="lines"), now
        try:
            return (await asyncio.shield(self._asked)).backlog.get(f"tool.{tool}")
        except Unavailable:
            return None


async def follow(front: BoundedFront, known: ToolResult, caller: Caller, progress: Progress, lines: Lines) -> None:
    """Tell what happens to an accepted call until it has ended; while it waits in line, how long the line is."""
    events = front.events(known.id, caller)
    coming = asyncio.create_task(_next(events))
    waits = True
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=LOOK_EVERY_S if waits else None)
            if not done:
                await progress.waiting(await lines.waiting(known.meta.tool or ""))
                continue
            event = coming.result()
            if event is None or event.state.terminal:
                return
            coming = asyncio.create_task(_next(events))
            waits = event.state is State.ACCEPTED
            await (progress.waiting(None) if waits else progress.event(event))
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)  # the iterator must have stopped before it is closed
        close = getattr(events, "aclose", None)  # generators have one, and hold a subscription
        if close is not None:
            await close()


async def _next(events: AsyncIterator[CallEvent]) -> CallEvent | None:
    return await anext(events, None)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
