"""What the gateway remembers of MCP."""

import asyncio

import pytest

from store.connection import Broker
from store.mcp_records import McpRecords, TaskRecord, left_digest
from toolswarm.messages import Context, Priority

RECORD = TaskRecord(
    tenant="t", operation="a.b", arguments={"x": 1}, context=Context(), priority=Priority.NORMAL, call_id="c-1"
)


@pytest.fixture
def records(broker: Broker) -> McpRecords:
    return McpRecords(broker, retention_s=60, call_deadline_s=60)


async def test_a_call_that_was_left_is_found_once(records: McpRecords) -> None:
    await records.note_left("d", "c-1")

    found = await asyncio.gather(records.take_left("d"), records.take_left("d"))

    assert sorted(found, key=str) == [None, "c-1"] or sorted(found, key=str) == ["c-1", None]
    assert await records.take_left("other") is None


def test_a_request_is_named_by_who_sends_it_and_by_all_that_it_says() -> None:
    named = left_digest("t", "p", "a.b", {"x": 1, "y": 2})

    assert named == left_digest("t", "p", "a.b", {"y": 2, "x": 1})
    assert len({named, left_digest("u", "p", "a.b", {"x": 1, "y": 2}), left_digest("t", "p", "a.b", {"x": 1})}) == 3


async def test_answers_gather_until_the_round_is_over(records: McpRecords) -> None:
    await records.put_task("task", RECORD)

    await records.answer("task", RECORD, {"0.a": {"n": 1}})
    both = await records.answer("task", RECORD, {"0.b": {"n": 2}})
    await records.advance("task", RECORD, "c-2")
    late = await records.answer("task", RECORD, {"0.a": {"n": 3}})
    now = await records.task("task")

    assert both is not None
    assert both.answered == {"0.a": {"n": 1}, "0.b": {"n": 2}}
    assert late is None
    assert now is not None
    assert (now.call_id, now.round, now.answered) == ("c-2", 1, {})
    assert now.arguments == {"x": 1}


async def test_a_round_is_advanced_by_one_however_many_say_so(records: McpRecords) -> None:
    await records.put_task("task", RECORD)

    await asyncio.gather(*(records.advance("task", RECORD, "c-2") for _ in range(3)))
    now = await records.task("task")

    assert now is not None
    assert now.round == 1


async def test_a_task_that_was_answered_is_not_cancelled_any_more(records: McpRecords) -> None:
    await records.put_task("task", RECORD)
    await records.advance("task", RECORD, "c-2")

    assert not await records.cancel("task", RECORD)


async def test_a_task_that_never_was_has_no_record(records: McpRecords) -> None:
    assert await records.task("task") is None
