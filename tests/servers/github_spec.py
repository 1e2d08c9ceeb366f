"""GitHub's own description of its API, as far as the fake speaks it: what a request and a response must look like."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

SLICE = Path(__file__).parents[1] / "data" / "github" / "openapi.json"


@cache
def _slice() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(SLICE.read_text(encoding="utf-8"))
    return loaded


@cache
def operations() -> tuple[str, ...]:
    """All that are described: `GET /repos/{owner}/{repo}` and so on."""
    return tuple(_slice()["operations"])


@cache
def example_text(kind: str) -> str:
    """GitHub's example of one kind of object (`issue`, `repository`, …) as JSON."""
    return json.dumps(_slice()["examples"][kind])


def response_faults(operation: str, status: int, body: object) -> list[str]:
    """In what a response differs from the description; empty when it is as GitHub would send it."""
    responses = _slice()["operations"][operation]["responses"]
    schema = responses.get(str(status))
    if schema is None:
        if str(status) not in responses:
            return [] if status in _ANYWHERE else [f"{operation} never answers {status}"]
        return [] if body is None or status >= 400 else [f"{operation} answers {status} without a body"]
    return _differences(operation, str(status), body)


def request_faults(operation: str, body: object) -> list[str]:
    """In what the body of a request differs from the description."""
    described = _slice()["operations"].get(operation, {})
    if "request" not in described:
        return []
    if body is None:
        return ["the body is missing"] if described["request_required"] else []
    return _differences(operation, "request", body)


_ANYWHERE = (301, 304, 307, 401, 403, 404, 405, 409, 422)
"""Statuses that GitHub answers where its description does not say so: a lost permission, a moved repository, …"""


def _differences(operation: str, which: str, body: object) -> list[str]:
    return [
        f"{operation} {which}: /{'/'.join(map(str, error.instance_path))}: {error.message[:300]}"
        for error in _validator(operation, which).iter_errors(body)
    ]


@cache
def _validator(operation: str, which: str) -> jsonschema_rs.Draft202012Validator:
    described = _slice()["operations"][operation]
    schema = described["request"] if which == "request" else described["responses"][which]
    return jsonschema_rs.Draft202012Validator({"schemas": _slice()["schemas"], **schema}, validate_formats=True)
