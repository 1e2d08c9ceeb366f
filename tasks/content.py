"""An answer that is not JSON: pictures, sound, files, links, as MCP hands them on."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

Block = Annotated[dict[str, Any], Meta(description="A content block of MCP: `text`, `image`, `audio`, `resource` …")]


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What an operation returns when its answer is not JSON."""

    content: tuple[Block, ...]
    structured: dict[str, Any] | None = None
    """The same as JSON, if there is such a thing."""


Answer = Annotated[Content, Meta(extra_json_schema={"x-mcp-content": True})]
"""The return annotation of such an operation: over MCP its blocks are the answer, over HTTP they are JSON."""
