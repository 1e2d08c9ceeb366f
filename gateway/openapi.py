"""The OpenAPI 3.1 document: one POST per operation of the catalogue, and the endpoints of /v1.

Open WebUI and other callers resolve `$ref` only into `#/components`, so the `$defs` of an operation's schema become
components there, under the operation's own name; its arguments stay inline, where such callers look for them.
"""

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from gateway.endpoints import V1_PATHS
from gateway.errors import PROBLEM_TYPE, Problem
from gateway.example import example_of
from gateway.json_values import is_array, is_object
from toolswarm.cache_messages import CachePage, CacheRequest
from toolswarm.messages import (
    CallEvent,
    DeadPage,
    DeadRequest,
    FallbackChain,
    FallbackChains,
    Operation,
    Route,
    SubmitBody,
    SwarmStatus,
    ToolResult,
)

_SCHEMAS = "#/components/schemas/"
_MESSAGES = (
    *(SubmitBody, ToolResult, Operation, Route, SwarmStatus, CallEvent, DeadRequest, DeadPage, Problem),
    *(FallbackChain, FallbackChains, CacheRequest, CachePage),
)
# Below these words lie maps of name -> schema, and below those plain data, in which "$ref" would be no reference.
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_DATA = frozenset({"default", "const", "enum", "examples", "example", "required"})


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The document for this catalogue."""
    _, schemas = msgspec.json.schema_components(_MESSAGES, ref_template=_SCHEMAS + "{name}")
    paths: dict[str, Any] = dict(V1_PATHS)
    taken: set[str] = set()
    for operation in operations:
        identifier = _free(_word(f"{operation.tool}_{operation.name}"), taken)
        arguments, definitions = lift_definitions(operation.parameters, identifier)
        schemas |= definitions
        paths[f"/tools/{operation.tool}/{operation.name}"] = {"post": _endpoint(operation, identifier, arguments)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Toolswarm",
            "description": "The tool calls of AI agents, queued, run once and remembered.",
            "version": version("toolswarm"),
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "Problem": {
                    "description": "Why it did not succeed (RFC 9457).",
                    "content": {PROBLEM_TYPE: {"schema": {"$ref": _SCHEMAS + "Problem"}}},
                }
            },
        },
    }


def lift_definitions(schema: Mapping[str, Any], identifier: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema without its `$defs`, and those as components whose names begin with `identifier`."""
    names: dict[str, str] = {"#": _SCHEMAS + f"{identifier}_arguments"}
    taken = {f"{identifier}_arguments"}
    for place in ("$defs", "definitions"):
        for name in schema.get(place, {}):
            names[f"#/{place}/{name}"] = _SCHEMAS + _free(f"{identifier}_{_word(name)}", taken)
    body = {word: inner for word, inner in schema.items() if word not in ("$defs", "definitions", "$schema", "$id")}
    lifted: dict[str, Any] = _pointed(body, names)
    components: dict[str, Any] = {}
    for place in ("$defs", "definitions"):
        for name, inner in schema.get(place, {}).items():
            components[names[f"#/{place}/{name}"].removeprefix(_SCHEMAS)] = _pointed(inner, names)
    if names["#"] in _references([lifted, components]):  # a schema that contains itself needs a name for itself
        components[f"{identifier}_arguments"] = lifted
    return lifted, components


def _endpoint(operation: Operation, identifier: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": identifier,
        "summary": operation.title,
        "description": operation.description,
        "tags": [operation.tool],
        "x-effect": operation.effect,
        "requestBody": {
            "required": bool(operation.parameters.get("required")),
            "content": {"application/json": {"schema": arguments, "example": example_of(operation.parameters)}},
        },
        "responses": {
            "200": {"description": "The value.", "content": {"application/json": {"schema": {}}}},
            "202": {
                "description": "Still running: the state so far; `Location` is where the result will be.",
                "content": {"application/json": {"schema": {"$ref": _SCHEMAS + "ToolResult"}}},
            },
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }


def _pointed(schema: Any, names: Mapping[str, str]) -> Any:
    """The schema with its references pointing to where the definitions went."""
    if is_array(schema):
        return [_pointed(one, names) for one in schema]
    if not is_object(schema):
        return schema
    result: dict[str, Any] = {}
    for word, inner in schema.items():
        if word == "$ref" and isinstance(inner, str):
            result[word] = _new_place(inner, names)
        elif word in _DATA:
            result[word] = inner
        elif word in _MAPS and is_object(inner):
            result[word] = {name: _pointed(one, names) for name, one in inner.items()}
        else:
            result[word] = _pointed(inner, names)
    return result


def _new_place(reference: str, names: Mapping[str, str]) -> str:
    if reference in names:
        return names[reference]
    for old in sorted(names, key=len, reverse=True):  # a pointer into a definition, or into the arguments
        if reference.startswith(old + "/"):
            return names[old] + reference.removeprefix(old)
    return reference


def _references(schema: Any) -> set[str]:
    if is_array(schema):
        return set[str]().union(*(_references(one) for one in schema))
    if not is_object(schema):
        return set()
    found = set[str]().union(*(_references(one) for one in schema.values()))
    reference = schema.get("$ref")
    if isinstance(reference, str):
        found |= {reference, _SCHEMAS + reference.removeprefix(_SCHEMAS).partition("/")[0]}
    return found


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)


def _free(name: str, taken: set[str]) -> str:
    """The name, or the first of `name_2`, `name_3`, … that is not taken; it is taken then."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    taken.add(free)
    return free
