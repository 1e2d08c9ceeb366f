"""Waiting for a call that a client asked for, and what becomes of it when the client leaves.

A client cancels by closing its stream; a stream that broke looks the same. So a call whose client has left is
cancelled, unless it has an idempotency key: then it goes on, and whoever sends the key again gets its result. Of a call
that must not run twice (`once`, `verifiable`) it is noted for a minute that it was left: the same request of the same
principal then finds it, and is told what became of it instead of doing it again.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from gateway.bounds import BoundedFront
from gateway.drain import Drain
from routing.front import Caller
from store.mcp_records import McpRecords
from toolswarm.errors import CallNotFound, ToolswarmError
from toolswarm.messages import SubmitBody, ToolResult
from toolswarm.states import State

_PAUSE_S = 0.5
"""After an answer that came too early: the broker is silent, and is asked again no sooner."""
_CLOSE_TIMEOUT_S = 0.5

_log = logging.getLogger("gateway")


class Waiting:
    """Submits and waits for the MCP requests of this process."""

    def __init__(self, front: BoundedFront, records: McpRecords, drain: Drain, *, slice_s: float) -> None:
        self._front = front
        self._records = records
        self._drain = drain
        self._slice_s = slice_s
        self._leaving: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Finish what is owed to clients who have left."""
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=_CLOSE_TIMEOUT_S)

    async def submit(self, body: SubmitBody, caller: Caller, *, digest: str | None) -> ToolResult:
        """Accept the call, or find the one that was left, when `digest` names such requests.

        When the client leaves meanwhile, the call is looked after all the same.
        """
        submitting = asyncio.create_task(self._submit(body, caller, digest), name="mcp-submit")
        try:
            return await asyncio.shield(submitting)
        except asyncio.CancelledError:
            self._later(self._left_early(submitting, body, caller, digest))
            raise

    async def ended(self, known: ToolResult, caller: Caller, within_s: float | None) -> ToolResult:
        """The result, or what is known when the time is over or the gateway drains."""
        loop = asyncio.get_running_loop()
        ends_at = float("inf") if within_s is None else loop.time() + within_s
        while not known.status.terminal and not self._drain.begun:
            asked_at = loop.time()
            left_s = ends_at - asked_at
            if left_s <= 0:
                break
            known = await self._front.settled(known, caller, min(self._slice_s, left_s))
            if not known.status.terminal and loop.time() - asked_at < min(_PAUSE_S, left_s):
                await asyncio.sleep(_PAUSE_S)
        return known

    def left(self, known: ToolResult, body: SubmitBody, caller: Caller, *, digest: str | None) -> None:
        """Nobody waits for this call any more."""
        self._later(self.leave(known, body, caller, digest=digest))

    async def leave(self, known: ToolResult, body: SubmitBody, caller: Caller, *, digest: str | None) -> None:
        """The same, and return when it is known."""
        if digest is not None:
            await self._records.note_left(digest, known.id)
        # While draining it is the gateway that leaves: the call goes on, and is found again.
        if body.idempotency_key is None and not known.status.terminal and not self._drain.begun:
            await self._front.cancel(known.id, caller)

    async def _submit(self, body: SubmitBody, caller: Caller, digest: str | None) -> ToolResult:
        found = None if digest is None else await self._records.take_left(digest)
        known = None if found is None else await self._found(found, caller)
        return await self._front.submit(body, caller) if known is None else known

    async def _found(self, call_id: str, caller: Caller) -> ToolResult | None:
        """What became of a call that was left; None when it is gone, or was cancelled before it did anything."""
        try:
            known = await self.ended(await self._front.state(call_id, caller, 0), caller, None)
        except CallNotFound:
            return None
        return None if known.status is State.CANCELLED else known

    async def _left_early(
        self, submitting: "asyncio.Task[ToolResult]", body: SubmitBody, caller: Caller, digest: str | None
    ) -> None:
        await self.leave(await submitting, body, caller, digest=digest)

    def _later(self, step: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._told(step), name="client-left")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _told(self, step: Coroutine[Any, Any, None]) -> None:
        try:
            await step
        except ToolswarmError as error:
            _log.warning("a call may go on although its client left: it could not be cancelled (%s)", error.code)
