"""The result of a call as a resource, `toolswarm://calls/ID`, and its value, whole, `toolswarm://calls/ID/value`."""

import re
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from gateway.bounds import BoundedFront
from gateway.mcp.calling import caller_of
from gateway.mcp.listing import MODERN
from gateway.mcp.values import CALL_URI
from gateway.mcp.whole import part
from toolswarm.errors import CallNotFound, ToolswarmError
from toolswarm.messages import encode

MOST_BYTES = 4_194_304
"""What one read gives; the rest is at `?offset=`."""
_NOT_FOUND_BEFORE = -32002
_CALL = re.compile(re.escape(CALL_URI) + r"(?P<id>[0-9a-f-]{36})(?P<value>/value)?(\?offset=(?P<offset>\d{1,15}))?")

Context = ServerRequestContext[Any, Any]


class Resources:
    """The handlers of `resources/…`."""

    def __init__(self, front: BoundedFront) -> None:
        self._front = front

    async def list_all(self, context: Context, params: Any) -> types.ListResourcesResult:
        """There is none that everybody knows: results are named by the calls that left them."""
        return types.ListResourcesResult(resources=[])

    async def templates(self, context: Context, params: Any) -> types.ListResourceTemplatesResult:
        """How the results of calls are named."""
        result = types.ResourceTemplate(
            name="call_result",
            title="Result of a call",
            uri_template=CALL_URI + "{id}{?offset}",
            description="The result of a call of yours as JSON: how it ended, and how it was run.",
            mime_type="application/json",
        )
        value = types.ResourceTemplate(
            name="call_value",
            title="Value of a call",
            uri_template=CALL_URI + "{id}/value{?offset}",
            description="The whole value of a call of yours as JSON, for as long as it is kept.",
            mime_type="application/json",
        )
        return types.ListResourceTemplatesResult(resource_templates=[result, value])

    async def read(self, context: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        """The result, or the value, of a call of the caller's own.

        Raises:
            MCPError: there is no such call, or not of this caller.
        """
        named = _CALL.fullmatch(params.uri)
        try:
            if named is None:
                raise CallNotFound("not the name of a call")
            caller, offset = caller_of(context), int(named["offset"] or 0)
            result = await self._front.state(named["id"], caller, 0)
            if named["value"]:
                size_bytes = result.meta.whole.size_bytes if result.meta.whole else len(encode(result.value))
                found = await part(self._front.value(named["id"], caller), offset, MOST_BYTES)
            else:
                body = encode(result)
                size_bytes, found = len(body), body[offset : offset + MOST_BYTES]
        except CallNotFound as error:
            code = types.INVALID_PARAMS if context.protocol_version >= MODERN else _NOT_FOUND_BEFORE
            raise MCPError(code=code, message="Resource not found", data={"uri": params.uri}) from error
        except ToolswarmError as error:
            raise MCPError(code=types.INTERNAL_ERROR, message=error.message, data={"code": error.code}) from error
        text = found.decode(errors="ignore")
        next_offset = offset + len(text.encode())
        meta: dict[str, Any] = {"toolswarm/sizeBytes": size_bytes}
        if next_offset < size_bytes:
            meta["toolswarm/next"] = f"{params.uri.partition('?')[0]}?offset={next_offset}"
        content = types.TextResourceContents(uri=params.uri, mime_type="application/json", text=text, _meta=meta)
        return types.ReadResourceResult(contents=[content])
