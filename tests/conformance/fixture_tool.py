# ruff: noqa: PT028 - these are operations that are called like tests, and arguments have defaults
"""The tools that the MCP conformance suite calls by name, as operations that a real worker runs."""

import asyncio
import base64
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from store.catalogue import publish
from store.connection import Broker
from tasks.content import Answer, Content
from tasks.operation import Run, Tool, operation
from tests.conformance import fixture_questions
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect, Operation

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = base64.b64encode(b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data\0\0\0\0").decode()
SCHEMA_TOOL: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
"""As json-schema-2020-12 wants to see it again; no Python signature says this."""


def _embedded(uri: str, kind: str, text: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": text}}


_IMAGE = {"type": "image", "data": PNG, "mimeType": "image/png"}


@operation(effect=Effect.READ)
async def test_simple_text(broker: Broker, run: Run) -> str:
    """Give a text."""
    return "This is a simple text response for testing."


@operation(effect=Effect.READ)
async def test_image_content(broker: Broker, run: Run) -> Answer:
    """Give a picture."""
    return Content(content=(_IMAGE,))


@operation(effect=Effect.READ)
async def test_audio_content(broker: Broker, run: Run) -> Answer:
    """Give a sound."""
    return Content(content=({"type": "audio", "data": WAV, "mimeType": "audio/wav"},))


@operation(effect=Effect.READ)
async def test_embedded_resource(broker: Broker, run: Run) -> Answer:
    """Give a resource."""
    block = _embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")
    return Content(content=(block,))


@operation(effect=Effect.READ)
async def test_multiple_content_types(broker: Broker, run: Run) -> Answer:
    """Give a text, a picture and a resource."""
    block = _embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
    return Content(content=({"type": "text", "text": "Multiple content types test:"}, _IMAGE, block))


@operation(effect=Effect.READ)
async def test_error_handling(broker: Broker, run: Run) -> str:
    """Fail."""
    raise OperationFailed("This tool intentionally returns an error for testing", code="as_asked")


@operation(effect=Effect.READ)
async def test_tool_with_progress(broker: Broker, run: Run) -> str:
    """Say how far it is."""
    for done in (0, 50, 100):
        run.tell({"progress": done, "total": 100})
        await asyncio.sleep(0.05)
    return "done"


@operation(effect=Effect.READ)
async def test_tool_with_logging(broker: Broker, run: Run) -> str:
    """Say something for the log."""
    for done in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        run.tell({"log": done})
        await asyncio.sleep(0.05)
    return "done"


@operation(effect=Effect.READ)
async def test_reconnection(broker: Broker, run: Run) -> str:
    """Take long enough for a stream to end meanwhile."""
    await asyncio.sleep(0.2)
    return "reconnected"


@operation(effect=Effect.READ)
async def test_logging_tool(broker: Broker, run: Run) -> str:
    """Say something that nobody asked for."""
    run.tell({"log": "Tool execution started"})
    return "done"


@operation(effect=Effect.READ)
async def test_custom_headers(
    broker: Broker,
    run: Run,
    *,
    region: Annotated[str, Meta(extra_json_schema={"x-mcp-header": "Region"})],
    query: str = "",
) -> str:
    """Give back what has to stand in a header, too."""
    return f"{region} {query}"


@operation(effect=Effect.READ)
async def test_trigger_tool_change(broker: Broker, run: Run) -> str:
    """Change the list of tools."""
    added = Operation(
        tool="zz_changed", name=f"at_{run.call.id[:13]}", title="New", description="New.", parameters={"type": "object"}
    )
    await publish(broker, "zz_changed", [added])
    return "zz_changed"


@operation(effect=Effect.READ)
async def json_schema_2020_12_tool(broker: Broker, run: Run) -> str:
    """Be listed with a schema of its own."""
    return "listed"


@operation(effect=Effect.READ)
async def greet(broker: Broker, run: Run, *, name: str) -> str:
    """Answer at once."""
    return f"Hello, {name}!"


@operation(effect=Effect.READ, time_limit_s=90)
async def slow_compute(broker: Broker, run: Run, *, seconds: float, label: str = "") -> str:
    """Take a while."""
    await asyncio.sleep(seconds)
    return f"computed {label}"


@operation(effect=Effect.READ)
async def failing_job(broker: Broker, run: Run) -> str:
    """Fail after a while; clients that cannot hold a task are refused (mcp.task_only)."""
    await asyncio.sleep(1)
    raise OperationFailed("the job failed", code="as_asked")


@operation(effect=Effect.READ)
async def protocol_error_job(broker: Broker, run: Run) -> str:
    """Break instead of answering."""
    await asyncio.sleep(2)
    raise RuntimeError("broken")


class _ConformanceTool(Tool):
    """Lists one operation with a schema that no signature says."""

    def describe(self, edition: str = "") -> list[Operation]:
        return [
            msgspec.structs.replace(one, parameters=SCHEMA_TOOL) if one.name == json_schema_2020_12_tool.name else one
            for one in super().describe(edition)
        ]


TOOL = _ConformanceTool(
    name="conformance",
    open=lambda configuration: Broker(configuration.store.broker_url),
    operations=(
        *(test_simple_text, test_image_content, test_audio_content, test_embedded_resource),
        *(test_multiple_content_types, test_error_handling, test_tool_with_progress, test_tool_with_logging),
        *(test_logging_tool, test_reconnection),
        *(test_custom_headers, test_trigger_tool_change, json_schema_2020_12_tool),
        *(greet, slow_compute, failing_job, protocol_error_job),
        *fixture_questions.OPERATIONS,
    ),
)
