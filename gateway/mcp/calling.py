"""`tools/call`: submit, wait, tell progress, ask what the operation asks, and say what became of it."""

import asyncio
import difflib
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
import msgspec
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from gateway.bounds import BoundedFront
from gateway.mcp import asking
from gateway.mcp.asking import capabilities_of, question_of
from gateway.mcp.listing import MODERN, Listing
from gateway.mcp.logs import Logs
from gateway.mcp.progress import Lines, Progress, follow
from gateway.mcp.requests import Asked, asked_of, body_of
from gateway.mcp.values import refused, result_of, still_running
from gateway.mcp.waiting import Waiting
from gateway.mcp.whole import with_whole_value
from routing.front import Caller
from store.configuration import Mcp
from store.mcp_records import left_digest
from toolswarm.errors import ToolswarmError
from toolswarm.messages import Effect, Operation, SubmitBody, ToolResult

TASKS = "io.modelcontextprotocol/tasks"
CALLER = "toolswarm.caller"
"""Where the endpoint leaves in the scope who calls."""
_LAST_WORDS_S = 0.5
"""How long the result waits for what was said last, which is on its way."""
_MOST_ROUNDS = 16
"""How often one call may ask; an operation that never has enough is not humoured."""

Context = ServerRequestContext[Any, Any]
Look = Callable[[], Awaitable[Listing]]
"""Gives the catalogue as MCP shows it now."""
Hold = Callable[[ToolResult, Asked, Operation | None, SubmitBody, Caller], Awaitable[dict[str, Any]]]
"""Makes a task of a call that runs."""


def caller_of(context: Context) -> Caller:
    """Who sent this request."""
    caller = context.request.scope[CALLER] if context.request is not None else None
    assert isinstance(caller, Caller), "the endpoint authenticates every request before it comes here"
    return caller


def holds_tasks(context: Context) -> bool:
    """Whether the client can hold a task."""
    return context.protocol_version >= MODERN and TASKS in capabilities_of(context).get("extensions", {})


class Calling:
    """The handler of `tools/call`."""

    def __init__(
        self, front: BoundedFront, waiting: Waiting, listing: Look, settings: Mcp, *, hold: Hold, logs: Logs
    ) -> None:
        self._front = front
        self._waiting = waiting
        self._listing = listing
        self._settings = settings
        self._hold = hold
        self._logs = logs
        self._lines = Lines(front)

    async def __call__(self, context: Context, params: types.CallToolRequestParams) -> dict[str, Any]:
        """Run one request.

        Raises:
            MCPError: there is no such tool, or the client cannot do what it needs.
        """
        caller = caller_of(context)
        try:
            listing = await self._listing()
            asked = asked_of(context.params or {}, params.name)
            operation, asked = await self._find(listing, asked, caller)
            if operation.full_name in self._settings.task_only and not holds_tasks(context):
                raise asking.missing_capability({"extensions": {TASKS: {}}})
            answer, question = await self._round(context, listing, operation, asked, caller)
            for _ in range(_MOST_ROUNDS):
                responses = None if question is None else await asking.ask(context, question)
                if question is None or responses is None:
                    break
                asked = msgspec.structs.replace(asked, responses=responses, state=question.state)
                answer, question = await self._round(context, listing, operation, asked, caller)
        except ToolswarmError as error:
            return refused(error)
        return answer

    async def _round(
        self, context: Context, listing: Listing, operation: Operation, asked: Asked, caller: Caller
    ) -> tuple[dict[str, Any], asking.Question | None]:
        """The answer to one call; with what it asks when the client may be asked while it waits."""
        body = body_of(asked, operation)
        log = self._logs.log(context, operation.full_name)
        followed = log is not None or "progressToken" in asked.meta
        progress = Progress(context.session.report_progress, log) if followed else None
        result = await self._result(context, operation, body, caller, progress)
        if not result.status.terminal:
            if holds_tasks(context):
                return await self._hold(result, asked, operation, body, caller), None
            return still_running(result), None
        question = question_of(result)
        if question is not None and context.protocol_version >= MODERN:
            return asking.input_required(question, capabilities_of(context)), None
        result = await with_whole_value(self._front, result, caller)
        shape = listing.shape(result.meta.operation or operation.full_name)
        return result_of(result, shape, self._settings.answer_bytes), question

    async def _find(self, listing: Listing, asked: Asked, caller: Caller) -> tuple[Operation, Asked]:
        """The operation, and the request for it; a name that MCP does not list goes through routing, as everywhere."""
        operation = listing.find(asked.name)
        if operation is not None:
            return operation, msgspec.structs.replace(asked, name=operation.full_name)
        if listing.is_routed(asked.name):
            route = await self._front.route(body_of(asked, None), caller)
            operation = listing.named(route.operation)
        if operation is None:
            near = difflib.get_close_matches(asked.name, listing.by_name, n=3, cutoff=0.5)
            advice = f"; did you mean {' or '.join(near)}?" if near else ""
            raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown tool: {asked.name[:100]}{advice}")
        return operation, asked

    async def _result(
        self, context: Context, operation: Operation, body: SubmitBody, caller: Caller, progress: Progress | None
    ) -> ToolResult:
        """The result, or the state of a call that the client does not wait for any longer."""
        digest = None
        if operation.effect in (Effect.ONCE, Effect.VERIFIABLE) and body.idempotency_key is None:
            digest = left_digest(caller.tenant, caller.principal, operation.full_name, body.arguments)
        known = await self._waiting.submit(body, caller, digest=digest)
        if known.status.terminal:
            return known
        within_s = None
        if holds_tasks(context):
            within_s = 0.0 if operation.full_name in self._settings.task_only else self._settings.task_after_s
        try:
            if progress is not None and within_s is None:
                result = await self._followed(progress, known, caller)
            else:
                result = await self._waiting.ended(known, caller, within_s)
        except asyncio.CancelledError:
            self._waiting.left(known, body, caller, digest=digest)
            raise
        if not result.status.terminal and within_s is None:  # the gateway drains: the client has to find it again
            await self._waiting.leave(known, body, caller, digest=digest)
        return result

    async def _followed(self, progress: Progress, known: ToolResult, caller: Caller) -> ToolResult:
        following = asyncio.create_task(follow(self._front, known, caller, progress, self._lines), name="progress")
        try:
            result = await self._waiting.ended(known, caller, None)
            if result.status.terminal and not following.done():
                await asyncio.wait({following}, timeout=_LAST_WORDS_S)
            return result
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
