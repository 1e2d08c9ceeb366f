"""An example for a JSON Schema: what its author gave as one, else the smallest value that shows the shape."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.json_values import is_array, is_object

_MAX_DEPTH = 8
_BY_TYPE: dict[str, Any] = {"string": "string", "integer": 1, "number": 1.5, "boolean": True, "null": None}


def example_of(schema: Mapping[str, Any]) -> Any:
    """An example of the schema; `$ref` may point to its own `$defs`."""
    return _example(dict(schema), schema.get("$defs", {}), _MAX_DEPTH)


def _example(schema: Any, definitions: Mapping[str, Any], depth: int) -> Any:
    if depth == 0 or not is_object(schema):
        return None
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _example(definitions.get(reference.rpartition("/")[2]), definitions, depth - 1)
    given = _given(schema)
    if given:
        return given[0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if schema.get(choice):
            return _example(schema[choice][0], definitions, depth - 1)
    kind = schema.get("type")
    kind = kind[0] if is_array(kind) and kind else kind
    if kind == "object" or "properties" in schema:
        return _object(schema, definitions, depth)
    if kind == "array":
        item = _example(schema.get("items"), definitions, depth - 1)
        return [] if item is None else [item]
    if kind in ("integer", "number"):
        return schema.get("minimum", _BY_TYPE[kind])
    return _BY_TYPE.get(str(kind))


def _object(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """The required properties, and the others that have an example of their own."""
    required = schema.get("required", ())
    return {
        name: _example(inner, definitions, depth - 1)
        for name, inner in schema.get("properties", {}).items()
        if name in required or (is_object(inner) and inner.get("examples"))
    }


def _given(schema: Mapping[str, Any]) -> Sequence[Any]:
    for source in ("examples", "enum"):
        values = schema.get(source)
        if is_array(values) and values:
            return values
    for source in ("example", "const", "default"):
        if source in schema:
            return [schema[source]]
    return []
