"""The gateway as the conformance suite wants it: it sends no key, and asks for prompts and resources of its own.

Everything that the gateway does offer is the real thing; its tools are run by a real worker.
"""

import asyncio
import json
import os
import re
import sys
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import PromptsListChanged
from mcp.shared.exceptions import MCPError
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import app as gateway_app
from gateway.drain import Drain
from gateway.mcp.server import McpFace
from gateway.server import Server, listen
from routing.front import Front
from store.configuration import Configuration, load
from store.connection import Broker
from store.mcp_records import McpRecords
from tests.conformance.fixture_tool import PNG

Context = ServerRequestContext[Any, Any]
User = types.PromptMessage

_TEMPLATE = re.compile(r"test://template/([^/]+)/data")


class FixtureFace(McpFace):
    """Has prompts and resources, too."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        read = self.server.get_request_handler("resources/read")
        assert read is not None

        async def read_resource(context: Context, params: types.ReadResourceRequestParams) -> Any:
            return _resource(params.uri) or await read.handler(context, params)

        handlers: dict[str, tuple[Any, Any]] = {
            "resources/read": (types.ReadResourceRequestParams, read_resource),
            "resources/list": (types.PaginatedRequestParams, _resources),
            "resources/subscribe": (types.SubscribeRequestParams, _nothing),
            "resources/unsubscribe": (types.UnsubscribeRequestParams, _nothing),
            "prompts/list": (types.PaginatedRequestParams, _prompts),
            "prompts/get": (types.GetPromptRequestParams, _prompt),
            "completion/complete": (types.CompleteRequestParams, _complete),
        }
        for method, (params, handler) in handlers.items():
            self.server.add_request_handler(method, params, handler)
        self.server.cache_hints["prompts/list"] = self.server.cache_hints["resources/list"]

    async def call_tool(self, context: Context, params: types.CallToolRequestParams) -> Any:
        if params.name == "test_trigger_prompt_change":
            await self.bus.publish(PromptsListChanged())
            return types.CallToolResult(content=[types.TextContent(text="changed")])
        if params.name == "test_reconnection" and context.close_sse_stream is not None:
            await context.close_sse_stream()
        return await super().call_tool(context, params)


class WithKey:
    """Adds the key that the suite cannot send."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._header = (b"authorization", f"Bearer {key}".encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], self._header]}
        await self._app(scope, receive, send)


def _text(text: str) -> types.PromptMessage:
    return User(role="user", content=types.TextContent(text=text))


def _resource(uri: str) -> types.ReadResourceResult | None:
    templated = _TEMPLATE.fullmatch(uri)
    content: types.TextResourceContents | types.BlobResourceContents
    if uri == "test://static-text":
        text = "This is the content of the static text resource."
        content = types.TextResourceContents(uri=uri, mime_type="text/plain", text=text)
    elif uri == "test://static-binary":
        content = types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)
    elif templated:
        data = {"id": templated[1], "templateTest": True, "data": f"Data for ID: {templated[1]}"}
        content = types.TextResourceContents(uri=uri, mime_type="application/json", text=json.dumps(data))
    else:
        return None
    return types.ReadResourceResult(contents=[content])


async def _resources(context: Context, params: Any) -> types.ListResourcesResult:
    named = types.Resource(uri="test://static-text", name="static", description="A text.", mime_type="text/plain")
    return types.ListResourcesResult(resources=[named])


async def _nothing(context: Context, params: Any) -> types.EmptyResult:
    return types.EmptyResult()


async def _complete(context: Context, params: Any) -> types.CompleteResult:
    return types.CompleteResult(completion=types.Completion(values=["paris", "park"], total=2, has_more=False))


async def _prompts(context: Context, params: Any) -> types.ListPromptsResult:
    names = ("test_simple_prompt", "test_prompt_with_arguments", "test_prompt_with_image")
    return types.ListPromptsResult(prompts=[types.Prompt(name=name, description=name) for name in names])


async def _prompt(context: Context, params: types.GetPromptRequestParams) -> Any:
    given = params.arguments or {}
    if params.name == "test_simple_prompt":
        messages = [_text("This is a simple prompt for testing.")]
    elif params.name == "test_prompt_with_arguments":
        messages = [_text(f"Prompt with arguments: arg1='{given.get('arg1')}', arg2='{given.get('arg2')}'")]
    elif params.name == "test_prompt_with_embedded_resource":
        uri = str(given.get("resourceUri"))
        text = "Embedded resource content for testing."
        inner = types.TextResourceContents(uri=uri, mime_type="text/plain", text=text)
        embedded = User(role="user", content=types.EmbeddedResource(resource=inner))
        messages = [embedded, _text("Please process the embedded resource above.")]
    elif params.name == "test_prompt_with_image":
        image = User(role="user", content=types.ImageContent(data=PNG, mime_type="image/png"))
        messages = [image, _text("Please analyze the image above.")]
    elif params.name == "test_input_required_result_prompt":
        if not (context.params or {}).get("inputResponses"):
            schema = {"type": "object", "properties": {"context": {"type": "string"}}, "required": ["context"]}
            asked = {"message": "What context should the prompt use?", "requestedSchema": schema}
            requests = {"user_context": {"method": "elicitation/create", "params": asked}}
            return {"resultType": "input_required", "inputRequests": requests}
        messages = [_text("In the given context.")]
    else:
        raise MCPError(code=types.INVALID_PARAMS, message="Unknown prompt")
    return types.GetPromptResult(messages=messages)


async def _serve(configuration: Configuration) -> None:
    settings, store = configuration.gateway, configuration.store
    setattr(gateway_app, "McpFace", FixtureFace)  # noqa: B010 - the gateway as it is, with more to offer
    drain, front = Drain(), await Front.open(configuration)
    records = McpRecords(Broker(store.broker_url), retention_s=store.retention_s, call_deadline_s=store.call_deadline_s)
    app = gateway_app.make_app(front, settings, drain, mcp=configuration.mcp, records=records)
    try:
        listener = listen(settings.host, settings.port)
        await Server(WithKey(app, settings.api_key.reveal()), drain).serve(sockets=[listener])
    finally:
        await records.close()
        await front.close()


if __name__ == "__main__":
    asyncio.run(_serve(load(os.environ)))
    sys.exit(0)
