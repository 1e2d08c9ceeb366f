"""What results and errors look like over MCP."""

import json
from typing import Any

import jsonschema_rs
import mcp_types as types
import msgspec
import pytest

from gateway.mcp.cutting import shrink
from gateway.mcp.listing import Shape
from gateway.mcp.values import refused, result_of
from toolswarm.errors import BrokerUnavailable, InvalidArguments, Overloaded
from toolswarm.ids import new_call_id
from toolswarm.messages import ErrorInfo, ResultMeta, ToolResult
from toolswarm.states import State

LIMIT = 2000


def succeeded(value: Any) -> ToolResult:
    return ToolResult(id=new_call_id(), status=State.SUCCEEDED, value=value, meta=ResultMeta(operation="a.b"))


def ended(state: State, **error: Any) -> ToolResult:
    return ToolResult(id=new_call_id(), status=state, error=ErrorInfo(**error))


def text_of(answer: dict[str, Any]) -> str:
    return str(types.CallToolResult.model_validate(answer).content[0].model_dump()["text"])


def test_an_object_is_given_as_it_is_and_as_text() -> None:
    answer = result_of(succeeded({"text": "hello"}), Shape.OBJECT, LIMIT)

    assert answer["structuredContent"] == {"text": "hello"}
    assert json.loads(text_of(answer)) == {"text": "hello"}
    assert answer["isError"] is False


def test_a_text_is_not_quoted_for_the_model() -> None:
    answer = result_of(succeeded("hello"), Shape.WRAPPED, LIMIT)

    assert text_of(answer) == "hello"
    assert answer["structuredContent"] == {"result": "hello"}


def test_how_it_was_run_is_told_beside_it() -> None:
    result = succeeded(1)

    meta = result_of(result, Shape.WRAPPED, LIMIT)["_meta"]["toolswarm/call"]

    assert meta["id"] == result.id
    assert meta["operation"] == "a.b"


def test_content_blocks_are_handed_on() -> None:
    blocks = [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]

    answer = result_of(succeeded({"content": blocks, "structured": {"n": 1}}), Shape.CONTENT, LIMIT)

    assert answer["content"] == blocks
    assert answer["structuredContent"] == {"n": 1}


def test_a_picture_that_is_too_large_is_left_out_and_linked() -> None:
    blocks = [{"type": "text", "text": "see"}, {"type": "image", "data": "A" * 9000, "mimeType": "image/png"}]

    answer = result_of(succeeded({"content": blocks}), Shape.CONTENT, LIMIT)

    assert [block["type"] for block in answer["content"]] == ["text", "resource_link"]
    assert text_of(answer).startswith("see")


def test_a_long_answer_is_cut_says_so_and_still_fits_its_schema() -> None:
    value = {"text": "ü" * 9000, "lines": list(range(9000)), "size": 3}
    schema = {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "lines": {"type": "array", "items": {"type": "integer"}},
            "size": {"type": "integer"},
        },
        "required": ["text", "lines", "size"],
    }
    result = succeeded(value)

    answer = result_of(result, Shape.OBJECT, LIMIT)

    assert len(msgspec.json.encode(answer["structuredContent"])) <= LIMIT
    assert jsonschema_rs.is_valid(schema, answer["structuredContent"])
    assert f"toolswarm://calls/{result.id}/value" in text_of(answer)
    assert len(text_of(answer).encode()) < LIMIT + 300
    assert answer["content"][1]["type"] == "resource_link"


LONG: list[Any] = ["x" * 10_000, ["x" * 100] * 1000, {"a": {"b": ["y" * 5000]}}, [[]] * 9000]


@pytest.mark.parametrize("value", LONG)
def test_shrinking_ends_below_the_limit(value: Any) -> None:
    assert len(msgspec.json.encode(shrink(value, 1000))) <= 1000


def test_an_error_says_what_happened_and_that_repeating_is_no_use() -> None:
    failed = ended(State.FAILED, code="path_refused", message="not in a root", details={"path": "/etc"})

    answer = result_of(failed, Shape.OBJECT, LIMIT)

    assert answer["isError"] is True
    assert text_of(answer).splitlines()[:2] == ["path_refused: not in a root", "The same call would fail again."]
    assert "/etc" in text_of(answer)
    assert answer["_meta"]["toolswarm/error"]["code"] == "path_refused"
    assert "structuredContent" not in answer


def test_an_error_that_passes_says_when_to_try_again() -> None:
    failed = ended(State.FAILED, code="rate_limited", message="used up", retryable=True, details={"retry_after_s": 30})

    assert "try it again in 30 s" in text_of(result_of(failed, Shape.OBJECT, LIMIT))


def test_an_unknown_outcome_says_to_look_and_gives_the_evidence() -> None:
    lost = ended(State.UNKNOWN, code="worker_lost", message="it was lost", details={"effect_begun_at": 12.5})

    text = text_of(result_of(lost, Shape.OBJECT, LIMIT))

    assert text.startswith("outcome_unknown: ")
    assert "Look before you repeat it" in text
    assert lost.id in text
    assert "12.5" in text


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (InvalidArguments("path is missing", field="path"), "Nothing was run. Correct the call first."),
        (Overloaded("full", retry_after_s=2), "Nothing was run. Send it again in 2 s."),
        (BrokerUnavailable("silent", retry_after_s=1), "It may have been accepted all the same"),
    ],
)
def test_a_refusal_says_whether_something_was_run(error: Any, says: str) -> None:
    assert says in text_of(refused(error))
