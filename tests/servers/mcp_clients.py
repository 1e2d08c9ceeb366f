"""Ways to speak MCP to a gateway: the official client, and requests written by hand."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.servers.stack import API_KEY

MODERN = "2026-07-28"
TASKS = "io.modelcontextprotocol/tasks"
_META = "io.modelcontextprotocol/"


@asynccontextmanager
async def connected(url: str, mode: str = "auto", **settings: Any) -> AsyncGenerator[Client]:
    """The official client; `legacy` makes it shake hands as clients of 2025-11-25 do."""
    headers = {"authorization": f"Bearer {API_KEY}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode, **settings) as client,
    ):
        yield client


def request(method: str, params: dict[str, Any], *, key: str = API_KEY, **capabilities: Any) -> dict[str, Any]:
    """Headers and content of one request of 2026-07-28, for httpx."""
    meta = {
        _META + "protocolVersion": MODERN,
        _META + "clientInfo": {"name": "by hand", "version": "1"},
        _META + "clientCapabilities": capabilities,
        **params.get("_meta", {}),
    }
    headers = {
        "authorization": f"Bearer {key}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": MODERN,
        "mcp-method": method,
    }
    name = params.get("name", params.get("taskId", params.get("uri")))
    if name is not None:
        headers["mcp-name"] = str(name)
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    return {"headers": headers, "content": json.dumps(body)}


async def ask(url: str, method: str, params: dict[str, Any], **capabilities: Any) -> dict[str, Any]:
    """The answer to one request of 2026-07-28."""
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        answer = await http.post(f"{url}/mcp", **request(method, params, **capabilities))
    if answer.headers["content-type"].startswith("text/event-stream"):
        last = [line for line in answer.text.splitlines() if line.startswith("data: ")][-1]
        return dict(json.loads(last.removeprefix("data: ")))
    return dict(answer.json())
