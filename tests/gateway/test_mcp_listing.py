"""How the catalogue looks over MCP."""

import json
from typing import Any

import mcp_types as types
import pytest

from gateway.mcp.listing import MODERN, Listing, Listings, Shape, annotations, shape_of, tool
from gateway.mcp.naming import LONGEST, names
from tasks.content import Answer, Content
from tasks.operation import Answers, Run, operation
from toolswarm.messages import Effect, Operation

OBJECT: dict[str, Any] = {
    "$ref": "#/$defs/Found",
    "$defs": {"Found": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}},
}


def entry(tool: str, name: str, **more: Any) -> Operation:
    parameters: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
    return Operation(tool=tool, name=name, title=name, description="Does it.", parameters=parameters, **more)


def listing(*operations: Operation) -> Listing:
    return Listings(style="full", ttl_s=60, server={"name": "toolswarm", "version": "1"}).of(operations)


def test_a_full_name_is_one_that_every_model_takes() -> None:
    named = names([entry("desktop", "read_file"), entry("a.b", "c/d"), entry("far", "x" * 100)], "full")

    assert "desktop_read_file" in named
    assert all(len(name) <= LONGEST and name.replace("_", "a").replace("-", "a").isalnum() for name in named)


def test_a_short_name_is_used_where_only_one_tool_has_it() -> None:
    named = names([entry("desktop", "read_file"), entry("droplet", "read_file"), entry("github", "get_repo")], "short")

    assert list(named) == ["desktop_read_file", "droplet_read_file", "get_repo"]


def test_names_that_would_be_the_same_are_told_apart() -> None:
    named = names([entry("a", "b_c"), entry("a_b", "c")], "full")

    assert [one.full_name for one in named.values()] == ["a.b_c", "a_b.c"]
    assert len(named) == 2


@pytest.mark.parametrize(
    ("effect", "destructive", "expected"),
    [
        (Effect.READ, False, {"readOnlyHint": True}),
        (Effect.IDEMPOTENT, True, {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": True}),
        (Effect.VERIFIABLE, False, {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": False}),
        (Effect.ONCE, True, {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False}),
    ],
)
def test_annotations_say_what_the_effect_says(effect: Effect, destructive: bool, expected: dict[str, bool]) -> None:
    hints = annotations(entry("github", "do", effect=effect, destructive=destructive))

    assert hints == {"title": "do", "openWorldHint": True, **expected}


def test_only_files_of_the_desktop_are_a_closed_world() -> None:
    assert annotations(entry("desktop", "read_file", effect=Effect.READ))["openWorldHint"] is False
    assert annotations(entry("desktop", "run_command", effect=Effect.ONCE))["openWorldHint"] is True


def test_an_object_is_its_own_structured_content() -> None:
    found = entry("desktop", "read_file", result=OBJECT)

    assert shape_of(found) is Shape.OBJECT
    assert tool("x", found)["outputSchema"] == OBJECT["$defs"]["Found"]


def test_anything_else_is_wrapped() -> None:
    found = entry("desktop", "list", result={"type": "array", "items": {"$ref": "#/$defs/A"}, "$defs": {"A": {}}})

    schema = tool("x", found)["outputSchema"]

    assert shape_of(found) is Shape.WRAPPED
    assert schema["type"] == "object"
    assert schema["properties"]["result"] == {"type": "array", "items": {"$ref": "#/$defs/A"}}
    assert schema["$defs"] == {"A": {}}


def test_a_type_that_contains_itself_keeps_its_name() -> None:
    tree = {"type": "object", "properties": {"inner": {"$ref": "#/$defs/Tree"}}}
    found = entry("a", "b", result={"$ref": "#/$defs/Tree", "$defs": {"Tree": tree}})

    assert tool("x", found)["outputSchema"] == {**tree, "$defs": {"Tree": tree}}


def test_no_schema_is_a_bare_false() -> None:
    @operation(effect=Effect.READ)
    def load(resources: None, run: Run) -> tuple[float, float]:
        """Give two numbers."""
        return 0.1, 0.2

    schema = tool("x", load.describe("trial"))["outputSchema"]["properties"]["result"]

    assert load.describe("trial").result["items"] is False
    assert schema["items"] == {"not": {}}
    assert len(schema["prefixItems"]) == 2


def test_content_blocks_have_no_schema() -> None:
    @operation(effect=Effect.READ)
    def picture(resources: None, run: Run) -> Answer:
        """Give a picture."""
        return Content(content=())

    described = picture.describe("trial")

    assert shape_of(described) is Shape.CONTENT
    assert "outputSchema" not in tool("x", described)


def test_the_argument_for_answers_is_not_listed() -> None:
    @operation(effect=Effect.READ, answers_argument="answers")
    def asking(resources: None, run: Run, *, text: str, answers: Answers | None = None) -> str:
        """Ask."""
        return text

    described = asking.describe("trial")

    assert "answers" in described.parameters["properties"]
    assert list(tool("x", described)["inputSchema"]["properties"]) == ["text"]


def test_an_argument_for_answers_has_to_exist() -> None:
    def asking(resources: None, run: Run) -> str:
        return ""

    with pytest.raises(TypeError, match="no argument 'answers'"):
        operation(effect=Effect.READ, answers_argument="answers")(asking)


@pytest.mark.parametrize("version", [MODERN, "2025-11-25"])
def test_the_list_is_what_the_official_types_say_and_the_same_each_time(version: str) -> None:
    operations = [entry("b", "two", result=OBJECT), entry("a", "one", effect=Effect.READ)]
    first, second = listing(*operations), listing(*reversed(operations))

    answer = json.loads(first.body(version, "id-1"))

    assert answer["id"] == "id-1"
    assert answer["result"] == first.result(version)
    assert first.body(version, 7) == second.body(version, 7)
    assert [one.name for one in types.ListToolsResult.model_validate(answer["result"]).tools] == ["a_one", "b_two"]
    assert ("ttlMs" in answer["result"]) is (version == MODERN)


def test_a_listing_is_made_anew_only_when_the_catalogue_differs() -> None:
    listings = Listings(style="full", ttl_s=60, server={})
    first = listings.of([entry("a", "one")])

    assert listings.of([entry("a", "one")]) is first
    assert listings.of([entry("a", "two")]) is not first
