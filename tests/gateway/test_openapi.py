"""The OpenAPI document, made from the catalogue."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from gateway.example import example_of
from gateway.json_values import is_array, is_object
from gateway.openapi import document, lift_definitions
from tests.gateway.fake_front import OPERATIONS, PARAMETERS, operation
from tests.gateway.serving import Served

METHODS = ("get", "post", "put", "delete")


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    made: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document(OPERATIONS)))
    return made


def _endpoints(made: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in made["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, item[method]


def _references(value: Any) -> Iterator[str]:
    if is_object(value):
        for key, inner in value.items():
            if key == "$ref" and isinstance(inner, str):
                yield inner
            else:
                yield from _references(inner)
    elif is_array(value):
        for inner in value:
            yield from _references(inner)


def test_every_reference_points_to_something(made: dict[str, Any]) -> None:
    references = set(_references(made))

    for reference in references:
        place: Any = made
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
    assert len(references) > 10


def test_every_schema_is_a_valid_json_schema(made: dict[str, Any]) -> None:
    schemas = list(made["components"]["schemas"].values())
    for _, endpoint in _endpoints(made):
        content = endpoint.get("requestBody", {}).get("content", {})
        schemas += [one["schema"] for one in content.values()]

    for schema in schemas:
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_every_example_fits_its_schema(made: dict[str, Any]) -> None:
    checked = 0
    for path, endpoint in _endpoints(made):
        for content in endpoint.get("requestBody", {}).get("content", {}).values():
            schema = {**content["schema"], "components": made["components"]}
            assert jsonschema_rs.is_valid(schema, content["example"]), path
            checked += 1
    assert checked == len(OPERATIONS) + 6


def test_each_operation_has_one_post_with_its_arguments_inline(made: dict[str, Any]) -> None:
    endpoint = made["paths"]["/tools/echo/say"]["post"]

    content = endpoint["requestBody"]["content"]["application/json"]
    assert endpoint["operationId"] == "echo_say"
    assert endpoint["summary"] == "say of echo"
    assert content["schema"]["properties"]["mark"] == {"$ref": "#/components/schemas/echo_say_Mark"}
    assert content["schema"]["required"] == ["text"]
    assert "$defs" not in content["schema"]
    assert content["example"] == {"text": "hello"}


def test_a_definition_that_contains_itself_becomes_a_component_that_does(made: dict[str, Any]) -> None:
    mark = made["components"]["schemas"]["echo_say_Mark"]

    assert mark["properties"]["inner"]["anyOf"][0] == {"$ref": "#/components/schemas/echo_say_Mark"}


def test_operation_ids_are_unique_even_when_names_run_together() -> None:
    made = document([operation("a", "b_c"), operation("a_b", "c")])

    identifiers = [endpoint["operationId"] for _, endpoint in _endpoints(made)]
    assert len(identifiers) == len(set(identifiers))
    assert {"a_b_c", "a_b_c_2"} <= set(identifiers)


def test_a_reference_in_data_or_in_a_property_of_that_name_is_left_alone() -> None:
    schema = {
        "properties": {"$ref": {"type": "string"}, "tree": {"$ref": "#"}, "deep": {"$ref": "#/$defs/A/properties/x"}},
        "default": {"$ref": "#/$defs/A"},
        "$defs": {"A": {"properties": {"x": {"type": "integer"}}}},
    }

    lifted, components = lift_definitions(schema, "op")

    assert lifted["properties"]["$ref"] == {"type": "string"}
    assert lifted["default"] == {"$ref": "#/$defs/A"}
    assert lifted["properties"]["tree"] == {"$ref": "#/components/schemas/op_arguments"}
    assert lifted["properties"]["deep"] == {"$ref": "#/components/schemas/op_A/properties/x"}
    assert set(components) == {"op_A", "op_arguments"}


EXAMPLES: list[tuple[dict[str, Any], Any]] = [
    (PARAMETERS, {"text": "hello"}),
    ({"type": "integer", "minimum": 7}, 7),
    ({"type": ["string", "null"]}, "string"),
    ({"enum": ["a", "b"]}, "a"),
    ({"const": 5}, 5),
    ({"type": "array", "items": {"type": "boolean"}}, [True]),
    ({"anyOf": [{"type": "number"}, {"type": "null"}]}, 1.5),
    ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "object"}}}, {}),
    ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/A"}}}}, [[[[]]]]),
    ({}, None),
]


@pytest.mark.parametrize(("schema", "example"), EXAMPLES)
def test_an_example_shows_the_shape(schema: dict[str, Any], example: Any) -> None:
    made = example_of(schema)

    assert made == example


@pytest.mark.asyncio(loop_scope="module")
async def test_the_document_tells_of_every_path_that_is_served(gateway: Served) -> None:
    answer = await gateway.http.get("/openapi.json")

    made = answer.json()
    assert made["openapi"] == "3.1.0"
    for path in made["paths"]:
        method = next(method for method in METHODS if method in made["paths"][path])
        served = await gateway.http.request("PATCH", path.replace("{", "").replace("}", ""))
        assert served.status_code == 405, path
        assert method.upper() in served.headers["allow"]
