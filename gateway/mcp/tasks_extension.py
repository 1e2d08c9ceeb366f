"""The extension `io.modelcontextprotocol/tasks` on the ledger: a task is a call, and its id is the call's.

A handle is returned only for a call that the ledger holds. A task whose operation may ask is a chain of calls under the
id of the first: each round of answers is a call of its own, submitted under an idempotency key, so that two updates at
once, at two replicas, are one. Ids of others are unknown.
"""

import datetime
import time
from typing import Any, NoReturn
from uuid import UUID

import mcp_types as types
import msgspec
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value

from gateway.bounds import BoundedFront
from gateway.json_values import is_object
from gateway.mcp.asking import INPUT_REQUIRED, Question, askable, capabilities_of, missing_capability, question_of
from gateway.mcp.calling import TASKS, Look, caller_of, holds_tasks
from gateway.mcp.listing import MODERN
from gateway.mcp.requests import Asked, body_of, round_key
from gateway.mcp.values import meta_of, result_of
from gateway.mcp.whole import with_whole_value
from routing.front import Caller
from store.mcp_records import McpRecords, TaskRecord
from toolswarm.errors import CallNotFound, ToolswarmError
from toolswarm.ids import is_call_id
from toolswarm.messages import Operation, SubmitBody, ToolResult
from toolswarm.states import State

POLL_EVERY_MS = 1000
_CRASHED = "internal"
"""The code of a call whose operation did not answer but broke: what MCP calls a protocol error."""

Context = ServerRequestContext[Any, Any]


class TaskParams(types.RequestParams):
    """Of `tasks/get` and `tasks/cancel`."""

    task_id: str


class UpdateParams(TaskParams):
    """Of `tasks/update`."""

    input_responses: dict[str, Any]


class Tasks:
    """Makes tasks, and serves `tasks/get`, `tasks/update` and `tasks/cancel`."""

    def __init__(self, front: BoundedFront, records: McpRecords, listing: Look, *, answer_bytes: int) -> None:
        self._front = front
        self._records = records
        self._listing = listing
        self._answer_bytes = answer_bytes

    def register(self, server: Server[Any]) -> None:
        """Offer the extension."""
        server.extensions[TASKS] = {}
        server.add_request_handler("tasks/get", TaskParams, self.get)
        server.add_request_handler("tasks/update", UpdateParams, self.update)
        server.add_request_handler("tasks/cancel", TaskParams, self.cancel)

    async def hold(
        self, known: ToolResult, asked: Asked, operation: Operation | None, body: SubmitBody, caller: Caller
    ) -> dict[str, Any]:
        """The handle of a call that runs."""
        if operation is not None and operation.answers_argument:
            record = TaskRecord(
                tenant=caller.tenant,
                operation=asked.name,
                arguments=asked.arguments,
                context=body.context,
                priority=body.priority,
                call_id=known.id,
            )
            await self._records.put_task(known.id, record)
        return {"resultType": "task", **self._envelope(known.id, known, "working")}

    async def get(self, context: Context, params: TaskParams) -> dict[str, Any]:
        """`tasks/get`: the state, with the result or what is asked."""
        caller, task_id = self._known_client(context, params)
        record, known = await self._look(task_id, caller)
        question = question_of(known)
        if record is not None and record.cancelled:
            return self._envelope(task_id, known, "cancelled")
        if record is not None and question is not None:
            pending = {name: one for name, one in _keyed(question, record).items() if name not in record.answered}
            requests = askable(Question(pending, None), capabilities_of(context))
            return self._envelope(task_id, known, INPUT_REQUIRED) | {"inputRequests": requests}
        if not known.status.terminal:
            return self._envelope(task_id, known, "working")
        if known.status is State.CANCELLED:
            return self._envelope(task_id, known, "cancelled")
        if known.error is not None and known.error.code == _CRASHED:
            error = {"code": types.INTERNAL_ERROR, "message": known.error.message}
            return self._envelope(task_id, known, "failed") | {"error": error}
        known = await with_whole_value(self._front, known, caller)
        shape = (await self._listing()).shape(known.meta.operation)
        return self._envelope(task_id, known, "completed") | {"result": result_of(known, shape, self._answer_bytes)}

    async def update(self, context: Context, params: UpdateParams) -> dict[str, Any]:
        """`tasks/update`: answers to what the task asks; it goes on once it has them all."""
        caller, task_id = self._known_client(context, params)
        record, known = await self._look(task_id, caller)
        question = question_of(known)
        if record is None or question is None or record.cancelled:
            return {}  # it does not ask (any more): what comes late is acknowledged, and changes nothing
        keyed = _keyed(question, record)
        responses = {name: one for name, one in params.input_responses.items() if name in keyed and is_object(one)}
        if responses:
            answered = await self._records.answer(task_id, record, responses)
            if answered is not None and keyed.keys() <= answered.answered.keys():
                await self._go_on(task_id, answered, question, caller)
        return {}

    async def cancel(self, context: Context, params: TaskParams) -> dict[str, Any]:
        """`tasks/cancel`: ask that it stop; what came of it, `tasks/get` says."""
        caller, task_id = self._known_client(context, params)
        record, known = await self._look(task_id, caller)
        if record is not None and question_of(known) is not None:
            await self._records.cancel(task_id, record)
        elif not known.status.terminal:
            await self._front.cancel(known.id, caller)
        return {}

    async def _go_on(self, task_id: str, record: TaskRecord, question: Question, caller: Caller) -> None:
        prefix = f"{record.round}."
        asked = Asked(
            name=record.operation,
            arguments=record.arguments,
            meta={},
            responses={name.removeprefix(prefix): answer for name, answer in record.answered.items()},
            state=question.state,
        )
        listing = await self._listing()
        body = body_of(asked, listing.named(record.operation))
        body = msgspec.structs.replace(
            body,
            context=record.context,
            priority=record.priority,
            idempotency_key=round_key(f"mcp-task {task_id}", record.round),
        )
        accepted = await self._front.submit(body, caller)
        await self._records.advance(task_id, record, accepted.id)

    async def _look(self, task_id: str, caller: Caller) -> tuple[TaskRecord | None, ToolResult]:
        """The record of a task that may ask, and the state of the call that runs for it now."""
        try:
            record = await self._records.task(task_id)
            if record is not None and record.tenant != caller.tenant:
                _unknown()
            return record, await self._front.state(record.call_id if record else task_id, caller, 0)
        except CallNotFound:
            _unknown()
        except ToolswarmError as error:
            raise MCPError(code=types.INTERNAL_ERROR, message=error.message, data={"code": error.code}) from error

    def _known_client(self, context: Context, params: TaskParams) -> tuple[Caller, str]:
        """Who asks, for which task.

        Raises:
            MCPError: the client does not declare the extension, or the header names another task.
        """
        if context.protocol_version < MODERN:
            raise MCPError(code=types.METHOD_NOT_FOUND, message="Method not found", data=context.method)
        if not holds_tasks(context):
            raise missing_capability({"extensions": {TASKS: {}}})
        header = context.request.headers.get(MCP_NAME_HEADER) if context.request is not None else None
        if decode_header_value(None if header is None else header.strip()) != params.task_id:
            raise MCPError(code=types.HEADER_MISMATCH, message="Mcp-Name has to be the taskId of the body")
        if not is_call_id(params.task_id):
            _unknown()
        return caller_of(context), params.task_id

    def _envelope(self, task_id: str, known: ToolResult, status: str) -> dict[str, Any]:
        created_at = _created_at(task_id)
        ended_at = (known.meta.accepted_at or created_at) + (known.meta.queued_s or 0) + (known.meta.ran_s or 0)
        return {
            "taskId": task_id,
            "status": status,
            "createdAt": _iso(created_at),
            "lastUpdatedAt": _iso(ended_at if known.status.terminal else time.time()),
            "ttlMs": self._records.task_ttl_s * 1000,
            "pollIntervalMs": POLL_EVERY_MS,
            "_meta": meta_of(known),
        }


def _keyed(question: Question, record: TaskRecord) -> dict[str, dict[str, Any]]:
    """The requests under names that no other round has."""
    return {f"{record.round}.{name}": request for name, request in question.requests.items()}


def _unknown() -> NoReturn:
    raise MCPError(code=types.INVALID_PARAMS, message="Unknown task")


def _created_at(task_id: str) -> float:
    """A call id begins with the milliseconds at which it was made."""
    return (UUID(task_id).int >> 80) / 1000


def _iso(at: float) -> str:
    moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
