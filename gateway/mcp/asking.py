"""What an operation asks before it goes on (`input_required`): which of it the client can be asked, and how.

A client of 2026-07-28 gets the questions as the result of its call and sends the call again with the answers. One that
came before, and has a session, is asked while it waits. Nobody else can be asked.
"""

from collections.abc import Mapping
from typing import Any

import mcp_types as types
import msgspec
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata

from gateway.json_values import is_object
from toolswarm.messages import ToolResult
from toolswarm.states import State

Context = ServerRequestContext[Any, Any]

INPUT_REQUIRED = "input_required"
"""The code of a call that ended because its operation asks; also what MCP calls such a result."""
_Request = type[types.ElicitRequest] | type[types.CreateMessageRequest] | type[types.ListRootsRequest]
_KINDS: dict[str, tuple[_Request, type[types.Result]]] = {
    "elicitation/create": (types.ElicitRequest, types.ElicitResult),
    "sampling/createMessage": (types.CreateMessageRequest, types.CreateMessageResult),
    "roots/list": (types.ListRootsRequest, types.ListRootsResult),
}
_CAPABILITIES = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}


class Question(msgspec.Struct, frozen=True):
    """What one call asks."""

    requests: dict[str, dict[str, Any]]
    """Name -> `{"method": …, "params": {…}}`."""
    state: str | None


def question_of(result: ToolResult) -> Question | None:
    """What the call asks, when that is how it ended."""
    if result.status is not State.FAILED or result.error is None or result.error.code != INPUT_REQUIRED:
        return None
    asked, state = result.error.details.get("requests"), result.error.details.get("state")
    requests = {name: one for name, one in asked.items() if is_object(one)} if is_object(asked) else {}
    return Question(requests, state if isinstance(state, str) else None)


def capabilities_of(context: Context) -> dict[str, Any]:
    """What the client says that it can do: with this request, or when it began its session."""
    said = context.session.client_capabilities
    return {} if said is None else said.model_dump(by_alias=True, exclude_none=True)


def askable(question: Question, capabilities: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Those requests that the client can be asked.

    Raises:
        MCPError: there is none; its data names what the client would have to be able to do.
    """
    found = {name: one for name, one in question.requests.items() if _need(one) in capabilities}
    if not found:
        raise missing_capability({need: {} for need in sorted(set(map(_need, question.requests.values()))) if need})
    return found


def missing_capability(required: dict[str, Any]) -> MCPError:
    """The error for a client that cannot do what the call needs."""
    words = ", ".join(required.get("extensions", required))
    return MCPError(
        code=types.MISSING_REQUIRED_CLIENT_CAPABILITY,
        message=f"The client does not declare what this tool needs: {words}",
        data={"requiredCapabilities": required},
    )


def input_required(question: Question, capabilities: Mapping[str, Any]) -> dict[str, Any]:
    """The result that asks a client of 2026-07-28."""
    result: dict[str, Any] = {"resultType": INPUT_REQUIRED, "inputRequests": askable(question, capabilities)}
    return result if question.state is None else {**result, "requestState": question.state}


async def ask(context: Context, question: Question) -> dict[str, Any] | None:
    """The answers of a client with a session; None when it has none, or cannot be asked."""
    capabilities = capabilities_of(context)
    if not question.requests or not context.session.can_send_request:
        return None
    if any(_need(one) not in capabilities for one in question.requests.values()):
        return None
    on_this_stream = ServerMessageMetadata(related_request_id=context.request_id)
    responses: dict[str, Any] = {}
    for name, asked in question.requests.items():
        request, answer = _KINDS[str(asked["method"])]
        told = await context.session.send_request(request.model_validate(asked), answer, metadata=on_this_stream)
        responses[name] = told.model_dump(by_alias=True, mode="json", exclude_none=True)
    return responses


def _need(request: Mapping[str, Any]) -> str:
    return _CAPABILITIES.get(str(request.get("method")), "")
