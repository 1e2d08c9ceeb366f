"""The same echo as plain MCP servers: `python -m benchmarks.mcp_peers sdk|fastmcp|mcpo PORT`.

They have no queue, no keys and no workers. It imports nothing of ours: the others live in venvs of their own.
"""

import asyncio
import importlib
import logging
import sys
from typing import Any

import uvicorn

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}


def sdk() -> Any:
    """The SDK's low-level server, answering as ours does: JSON when it is quick, a stream when it is not."""
    import mcp_types as types
    from mcp.server import Server

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[types.Tool(name="bench_echo", input_schema=SCHEMA)])

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        text = (params.arguments or {})["text"]
        return types.CallToolResult(content=[types.TextContent(text=text)], structured_content={"result": text})

    server: Any = Server(
        "echo", on_list_tools=list_tools, on_call_tool=call_tool, get_tool_input_schema=lambda name: SCHEMA
    )
    return server.streamable_http_app(stateless_http=True)


def fastmcp() -> Any:
    """FastMCP in its quickest way: no sessions, plain JSON."""
    library: Any = importlib.import_module("fastmcp")
    server = library.FastMCP("echo")
    server.tool(name="bench_echo")(_echo)
    return server.http_app(path="/mcp", stateless_http=True, json_response=True)


async def _echo(text: str) -> str:
    """Give the text back."""
    return text


def stdio() -> None:
    """The high-level server of SDK 1 over stdio, as mcpo starts it."""
    library: Any = importlib.import_module("mcp.server.fastmcp")
    server = library.FastMCP("echo", log_level="WARNING")
    server.tool(name="bench_echo")(_echo)
    server.run()


def mcpo(port: int) -> None:
    """mcpo in front of it."""
    library: Any = importlib.import_module("mcpo.main")
    command = [sys.executable, "-m", "benchmarks.mcp_peers", "stdio"]
    asyncio.run(library.run("127.0.0.1", port, server_type="stdio", server_command=command))


def main() -> None:
    """Serve until told to stop."""
    if sys.argv[1] == "stdio":
        stdio()
        return
    port = int(sys.argv[2])
    logging.disable(logging.INFO)
    if sys.argv[1] == "mcpo":
        mcpo(port)
        return
    app = {"sdk": sdk, "fastmcp": fastmcp}[sys.argv[1]]()
    uvicorn.run(app, host="127.0.0.1", port=port, http="httptools", log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
