"""/mcp: who calls and from where is checked here, bodies are bounded here, then the SDK's transport has the request.

Two transports of the SDK stand behind it. The one without sessions serves both eras, so any replica serves any request;
the other one, when it is configured, gives clients of the older era the session in which tools can ask them something.
`tools/list` is answered here, with bytes that lie ready.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.inbound import (
    MCP_PROTOCOL_VERSION_HEADER,
    InboundModernRoute,
    classify_inbound_request,
    find_duplicated_routing_header,
)
from mcp_types import DEFAULT_NEGOTIATED_VERSION
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import body as bodies
from gateway.errors import MethodNotAllowed
from gateway.json_values import is_object
from gateway.mcp.calling import CALLER
from gateway.mcp.hosts import Hosts
from gateway.mcp.server import McpFace
from gateway.mcp.sessions import Sessions
from routing.front import Caller
from store.configuration import Gateway, Mcp

Headers = list[tuple[bytes, bytes]]

_SESSION_HEADER = "mcp-session-id"


class Endpoint:
    """The handlers of /mcp."""

    def __init__(self, face: McpFace, gateway: Gateway, settings: Mcp) -> None:
        self._face = face
        self._hosts = Hosts(gateway)
        self._max_body_bytes = gateway.max_body_bytes
        self._stateless = StreamableHTTPSessionManager(
            face.server, stateless=True, max_request_body_size=gateway.max_body_bytes
        )
        self._sessions = Sessions(face.server, max_body_bytes=gateway.max_body_bytes) if settings.sessions else None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """The transports run for the time of the block."""
        async with self._stateless.run():
            if self._sessions is None:
                yield
            else:
                async with self._sessions.run():
                    yield

    async def post(self, request: Request, caller: Caller) -> ASGIApp:
        """`POST /mcp`: one message."""
        request = _without_padding(request)
        self._check(request)
        content = await bodies.read(request, self._max_body_bytes)
        message = _decoded(content)
        if is_object(message.get("params")):
            bodies.refuse_depth(message["params"])
        if message.get("method") == "tools/list":
            listed = await self._listed(request, message)
            if listed is not None:
                return listed
        return _Handed(self._transport(request, message), caller, content, request.scope["headers"])

    async def session(self, request: Request, caller: Caller) -> ASGIApp:
        """`GET /mcp` and `DELETE /mcp`: the stream and the end of a session."""
        self._check(request)
        if self._sessions is None or _SESSION_HEADER not in request.headers:
            raise MethodNotAllowed("/mcp takes POST", allowed=["POST"])
        return _Handed(self._sessions, caller, None, request.scope["headers"])

    def _check(self, request: Request) -> None:
        self._hosts.check(request.headers.get("host"), request.headers.get("origin"))

    def _transport(self, request: Request, message: Mapping[str, Any]) -> StreamableHTTPSessionManager:
        if self._sessions is not None and (message.get("method") == "initialize" or _SESSION_HEADER in request.headers):
            return self._sessions
        return self._stateless

    async def _listed(self, request: Request, message: dict[str, Any]) -> Response | None:
        """The list at once; None for a request that the transport has to judge first."""
        request_id = message.get("id")
        params = message.get("params")
        accepts = request.headers.get("accept", "")
        plain = (
            (isinstance(request_id, str) or type(request_id) is int)
            and message.get("jsonrpc") == "2.0"
            and (params is None or (is_object(params) and "cursor" not in params))
            and "application/json" in accepts
            and "text/event-stream" in accepts
            and request.headers.get("content-type", "").lower().startswith("application/json")
            and _SESSION_HEADER not in request.headers
        )
        if not plain or not isinstance(request_id, str | int):
            return None
        version = request.headers.get(MCP_PROTOCOL_VERSION_HEADER, DEFAULT_NEGOTIATED_VERSION)
        if version not in HANDSHAKE_PROTOCOL_VERSIONS:
            if find_duplicated_routing_header(request.headers.items()) is not None:
                return None
            if not isinstance(classify_inbound_request(message, headers=request.headers), InboundModernRoute):
                return None
        listing = await self._face.listing()
        return Response(listing.body(version, request_id), media_type="application/json")


class _Handed:
    """The answer of a transport to a request whose body has been read."""

    def __init__(
        self, transport: StreamableHTTPSessionManager, caller: Caller, content: bytes | None, headers: Headers
    ) -> None:
        self._headers = headers
        self._transport = transport
        self._caller = caller
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[CALLER], scope["headers"] = self._caller, self._headers
        content, self._content = self._content, None
        if content is None:
            await self._serve(scope, receive, send)
            return
        told: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

        async def again() -> Message:
            return told.pop() if told else await receive()

        await self._serve(scope, again, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if isinstance(self._transport, Sessions):
            await self._transport.handle(scope, receive, send, self._caller)
        else:
            await self._transport.handle_request(scope, receive, send)


def _without_padding(request: Request) -> Request:
    """The request with what belongs to no header's value left out (RFC 9110, 5.5); httptools leaves the end of it."""
    headers: Headers = request.scope["headers"]
    if all(not value.endswith((b" ", b"\t")) for _, value in headers):
        return request
    return Request(
        {**request.scope, "headers": [(name, value.strip(b" \t")) for name, value in headers]}, request.receive
    )


def _decoded(content: bytes) -> dict[str, Any]:
    """The message; empty when it is none, which the transport then says in its own way."""
    try:
        message = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return message if is_object(message) else {}
