"""What the OpenAPI document says of /v1, health and readiness: data, next to nothing else."""

from typing import Any

_PROBLEM: dict[str, Any] = {"default": {"$ref": "#/components/responses/Problem"}}
_PREFER: dict[str, Any] = {
    "name": "Prefer",
    "in": "header",
    "description": "`wait=N`: wait up to N seconds for the result (RFC 7240). `cancel-on-disconnect`: when the "
    "connection is closed meanwhile, the call is cancelled.",
    "schema": {"type": "string"},
    "example": "wait=10",
}
_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Two requests with the same key and content are one call.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_ID: dict[str, Any] = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
_WAIT: dict[str, Any] = {
    "name": "wait",
    "in": "query",
    "description": "Wait up to so many seconds for the result.",
    "schema": {"type": "number", "minimum": 0},
}
_NAME: dict[str, Any] = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "A tool, or an operation in full, alone, or by an alias.",
    "schema": {"type": "string"},
}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: dict[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _object(name: str, of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "array", "items": of}}, "required": [name]}


def _body(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


_CALL: dict[str, Any] = {"operation": "read_file", "arguments": {"path": "README.md"}}
_REFUSED: dict[str, Any] = {"type": "object", "properties": {"problem": _ref("Problem")}, "required": ["problem"]}
_OPERATIONS = _answer("The operations.", _object("operations", _ref("Operation")))

V1_PATHS: dict[str, Any] = {
    "/v1/calls": {
        "post": {
            "operationId": "submit_call",
            "summary": "Submit a call",
            "tags": ["calls"],
            "parameters": [_PREFER, _KEY],
            "requestBody": _body(_ref("SubmitBody"), _CALL),
            "responses": {
                "200": _answer("The call has ended, well or not.", _ref("ToolResult")),
                "202": _answer("Accepted; `Location` is where the result will be.", _ref("ToolResult")),
                **_PROBLEM,
            },
        }
    },
    "/v1/calls:batch": {
        "post": {
            "operationId": "submit_calls",
            "summary": "Submit many calls, each for itself",
            "tags": ["calls"],
            "parameters": [_PREFER],
            "requestBody": _body(_object("calls", _ref("SubmitBody")), {"calls": [_CALL]}),
            "responses": {
                "200": _answer(
                    "A result or a problem for each call, in their order.",
                    _object("results", {"anyOf": [_ref("ToolResult"), _REFUSED]}),
                ),
                **_PROBLEM,
            },
        }
    },
    "/v1/calls/{id}": {
        "parameters": [_ID],
        "get": {
            "operationId": "get_call",
            "summary": "The result of a call, or its state so far",
            "tags": ["calls"],
            "parameters": [_WAIT],
            "responses": {"200": _answer("The result or state.", _ref("ToolResult")), **_PROBLEM},
        },
        "delete": {
            "operationId": "cancel_call",
            "summary": "Ask that a call stop",
            "tags": ["calls"],
            "responses": {
                "200": _answer("The call has ended.", _ref("ToolResult")),
                "202": _answer("The call was asked to stop.", _ref("ToolResult")),
                **_PROBLEM,
            },
        },
    },
    "/v1/calls/{id}/value": {
        "parameters": [_ID],
        "get": {
            "operationId": "read_value",
            "summary": "The value of a call that succeeded, whole, also when the result has only its beginning",
            "tags": ["calls"],
            "responses": {"200": _answer("The value.", {}), **_PROBLEM},
        },
    },
    "/v1/calls/{id}/events": {
        "parameters": [_ID],
        "get": {
            "operationId": "follow_call",
            "summary": "The states of a call as server-sent events; the last `state` event has the result",
            "tags": ["calls"],
            "responses": {"200": _answer("Events.", {"type": "string"}, "text/event-stream"), **_PROBLEM},
        },
    },
    "/v1/tools": {
        "get": {
            "operationId": "list_operations",
            "summary": "The catalogue",
            "tags": ["tools"],
            "responses": {"200": _OPERATIONS, "304": {"description": "Not changed."}, **_PROBLEM},
        }
    },
    "/v1/tools/{name}": {
        "parameters": [_NAME],
        "get": {
            "operationId": "find_operations",
            "summary": "The operations that go by a name",
            "tags": ["tools"],
            "responses": {"200": _OPERATIONS, **_PROBLEM},
        },
    },
    "/v1/route": {
        "post": {
            "operationId": "route_call",
            "summary": "Where a call would go, and why",
            "tags": ["calls"],
            "requestBody": _body(_ref("SubmitBody"), _CALL),
            "responses": {"200": _answer("The decision.", _ref("Route")), **_PROBLEM},
        }
    },
    "/v1/dead:{action}": {
        "parameters": [
            {
                "name": "action",
                "in": "path",
                "required": True,
                "description": "`resolve` says what became of an unknown outcome.",
                "schema": {"type": "string", "enum": ["list", "retry", "resolve", "drop"]},
            }
        ],
        "post": {
            "operationId": "dead_letters",
            "summary": "Look at dead letters, run them again, resolve or drop them",
            "tags": ["swarm"],
            "requestBody": _body(_ref("DeadRequest"), {"code": "upstream_failed"}),
            "responses": {"200": _answer("The letters that were meant.", _ref("DeadPage")), **_PROBLEM},
        },
    },
    "/v1/fallbacks": {
        "get": {
            "operationId": "get_fallbacks",
            "summary": "What is tried next when a tool cannot be had",
            "tags": ["swarm"],
            "responses": {"200": _answer("The chains.", _ref("FallbackChains")), **_PROBLEM},
        }
    },
    "/v1/fallbacks/{name}": {
        "parameters": [_NAME],
        "put": {
            "operationId": "set_fallback_chain",
            "summary": "Set the chain of a tool or an operation, with the operator's key",
            "tags": ["swarm"],
            "requestBody": _body(_ref("FallbackChain"), {"chain": ["desktop"]}),
            "responses": {"200": _answer("The chains.", _ref("FallbackChains")), **_PROBLEM},
        },
        "delete": {
            "operationId": "unset_fallback_chain",
            "summary": "Give the chain back to the configuration, with the operator's key",
            "tags": ["swarm"],
            "responses": {"200": _answer("The chains.", _ref("FallbackChains")), **_PROBLEM},
        },
    },
    "/v1/cache:{action}": {
        "parameters": [
            {
                "name": "action",
                "in": "path",
                "required": True,
                "description": "`get` takes a call, `invalidate` takes tags.",
                "schema": {"type": "string", "enum": ["stats", "get", "invalidate", "warm"]},
            }
        ],
        "post": {
            "operationId": "result_cache",
            "summary": "Look at the result cache, invalidate tags, or refresh what is popular",
            "tags": ["swarm"],
            "requestBody": _body(_ref("CacheRequest"), {"tags": ["repo:acme/web"]}),
            "responses": {"200": _answer("What was found or done.", _ref("CachePage")), **_PROBLEM},
        },
    },
    "/v1/status": {
        "get": {
            "operationId": "get_status",
            "summary": "Workers, backlogs and counts",
            "tags": ["swarm"],
            "responses": {"200": _answer("The swarm at this instant.", _ref("SwarmStatus")), **_PROBLEM},
        }
    },
    "/healthz": {
        "get": {
            "operationId": "get_health",
            "summary": "The process is alive",
            "tags": ["swarm"],
            "security": [],
            "responses": {"200": {"description": "Alive."}},
        }
    },
    "/readyz": {
        "get": {
            "operationId": "get_readiness",
            "summary": "Calls can be accepted",
            "tags": ["swarm"],
            "security": [],
            "responses": {"200": {"description": "Ready."}, **_PROBLEM},
        }
    },
}
