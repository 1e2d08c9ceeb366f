"""The catalogue as `tools/list` says it, made once for as long as the catalogue stays the same.

Clients ask for the list with every message of a chat: its answer lies ready as bytes, and only the request's id is put
before it.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, cast

import msgspec

from gateway.json_values import is_array, is_object
from gateway.mcp.naming import Style, names
from toolswarm.messages import Effect, Operation

MODERN = "2026-07-28"
"""The first revision without a handshake; those before compare as less."""
CONTENT_MARK = "x-mcp-content"
"""In the schema of a result: the value holds content blocks (see tasks/content.py)."""
_PARAM_HEADER = b'"x-mcp-header"'
_CLOSED_WORLDS = frozenset({"desktop"})
"""Tools whose operations stay within what the operator set up, unless they run a program."""


class Shape(Enum):
    """What the value of an operation becomes in a result."""

    OBJECT = "object"
    """It is `structuredContent` itself."""
    WRAPPED = "wrapped"
    """It is no object, or may be anything: `structuredContent` is `{"result": value}`."""
    CONTENT = "content"
    """It has content blocks (tasks/content.py)."""


class Listing:
    """One state of the catalogue, as MCP shows it to those who may see all of it."""

    def __init__(self, operations: Sequence[Operation], *, style: Style, ttl_s: float, server: dict[str, Any]) -> None:
        self.operations = operations
        self.by_name = names(operations, style)
        self._by_full_name = {operation.full_name: operation for operation in operations}
        self._shapes = {operation.full_name: shape_of(operation) for operation in operations}
        self._routed = {name for operation in operations for name in (operation.name, *operation.aliases)}
        tools = [tool(name, operation) for name, operation in self.by_name.items()]
        self._legacy: dict[str, Any] = {"tools": tools}
        self._modern: dict[str, Any] = {
            "tools": tools,
            "resultType": "complete",
            "ttlMs": int(ttl_s * 1000),
            "cacheScope": "private",
            "_meta": {"io.modelcontextprotocol/serverInfo": server},
        }
        self._modern_bytes = msgspec.json.encode(self._modern)
        self._legacy_bytes = msgspec.json.encode(self._legacy)
        schemas = {str(entry["name"]): entry["inputSchema"] for entry in tools}
        self._headered = {
            name: schema for name, schema in schemas.items() if _PARAM_HEADER in msgspec.json.encode(schema)
        }

    def result(self, version: str) -> dict[str, Any]:
        """The result, for a client that speaks this revision."""
        return self._modern if version >= MODERN else self._legacy

    def body(self, version: str, request_id: str | int) -> bytes:
        """The whole answer."""
        result = self._modern_bytes if version >= MODERN else self._legacy_bytes
        return b'{"jsonrpc":"2.0","id":' + msgspec.json.encode(request_id) + b',"result":' + result + b"}"

    def find(self, name: str) -> Operation | None:
        """The operation of this name, or of this full name."""
        return self.by_name.get(name) or self._by_full_name.get(name)

    def named(self, full_name: str | None) -> Operation | None:
        """The operation of this full name."""
        return self._by_full_name.get(full_name or "")

    def is_routed(self, name: str) -> bool:
        """Whether an operation goes by this name, so that routing can tell which one is meant."""
        return name in self._routed

    def shape(self, full_name: str | None) -> Shape:
        """What the value of this operation becomes; of one that has left the catalogue it may be anything."""
        return self._shapes.get(full_name or "", Shape.WRAPPED)

    def headered_schema(self, name: str) -> Mapping[str, Any] | None:
        """The schema of arguments of which some have to stand in headers, too; most tools have none."""
        return self._headered.get(name)


class Listings:
    """Keeps the listing of the catalogue that was seen last."""

    def __init__(self, *, style: Style, ttl_s: float, server: dict[str, Any]) -> None:
        self._style: Style = style
        self._ttl_s = ttl_s
        self._server = server
        self.last = self._made(())

    def of(self, operations: Sequence[Operation]) -> Listing:
        """The listing of these operations; a new one is made only when they differ from the last."""
        if operations is not self.last.operations and list(operations) != list(self.last.operations):
            self.last = self._made(operations)
        return self.last

    def _made(self, operations: Sequence[Operation]) -> Listing:
        return Listing(operations, style=self._style, ttl_s=self._ttl_s, server=self._server)


def tool(name: str, operation: Operation) -> dict[str, Any]:
    """The entry of one operation."""
    entry: dict[str, Any] = {
        "name": name,
        "title": operation.title,
        "description": operation.description or operation.title,
        "inputSchema": _portable(_input(operation)),
        "annotations": annotations(operation),
        "_meta": {"toolswarm/operation": operation.full_name, "toolswarm/effect": operation.effect.value},
    }
    schema = output_schema(operation)
    if schema is not None:
        entry["outputSchema"] = _portable(schema)
    return entry


def _portable(schema: Any) -> Any:
    """The schema without `items: false`, as tuples have it: some clients take no schema that is no object."""
    if is_array(schema):
        return [_portable(one) for one in schema]
    if not is_object(schema):
        return schema
    nothing: dict[str, Any] = {"not": {}}
    return {word: nothing if word == "items" and one is False else _portable(one) for word, one in schema.items()}


def annotations(operation: Operation) -> dict[str, Any]:
    """What a client may believe of the operation: what its declaration says, and no more."""
    reads = operation.effect is Effect.READ
    closed = operation.tool in _CLOSED_WORLDS and operation.effect is not Effect.ONCE
    hints: dict[str, Any] = {"title": operation.title, "readOnlyHint": reads, "openWorldHint": not closed}
    if not reads:
        hints["destructiveHint"] = operation.destructive
        hints["idempotentHint"] = operation.effect is Effect.IDEMPOTENT
    return hints


def output_schema(operation: Operation) -> dict[str, Any] | None:
    """The schema of `structuredContent`, always that of an object; None when the value is not said, or content."""
    shape = shape_of(operation)
    if not operation.result or shape is Shape.CONTENT:
        return None
    if shape is Shape.OBJECT:
        return _lifted(operation.result)
    definitions = operation.result.get("$defs")
    inner = {word: one for word, one in operation.result.items() if word != "$defs"}
    schema: dict[str, Any] = {"type": "object", "properties": {"result": inner}, "required": ["result"]}
    return schema | ({"$defs": definitions} if definitions else {})


def shape_of(operation: Operation) -> Shape:
    """What the value of this operation becomes."""
    if CONTENT_MARK in operation.result:
        return Shape.CONTENT
    return Shape.OBJECT if _lifted(operation.result).get("type") == "object" else Shape.WRAPPED


def _lifted(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with what its root points to in its place: clients look for `type` there."""
    reference = schema.get("$ref")
    definitions = cast("dict[str, Any]", schema.get("$defs", {}))
    root = definitions.get(str(reference).removeprefix("#/$defs/")) if reference else None
    if not is_object(root):
        return schema
    lifted = root | {word: one for word, one in schema.items() if word not in ("$ref", "$defs")}
    pointed_to = f'"{reference}"'.encode() in msgspec.json.encode(definitions)
    others = {name: one for name, one in definitions.items() if pointed_to or one is not root}
    return lifted | ({"$defs": others} if others else {})


def _input(operation: Operation) -> dict[str, Any]:
    """The arguments without the one for answers: MCP has a place of its own for these."""
    hidden = operation.answers_argument
    if not hidden:
        return operation.parameters
    properties = cast("dict[str, Any]", operation.parameters.get("properties", {}))
    return operation.parameters | {"properties": {name: one for name, one in properties.items() if name != hidden}}
