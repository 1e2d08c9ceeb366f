"""The desktop's files through real workers: what is accepted is done once, whoever is killed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from routing.front import Caller, Front
from tests.servers.stack import Stack
from tests.servers.waiting import until
from toolswarm.messages import SubmitBody, ToolResult
from toolswarm.states import State

ME = Caller()
_EDITS = 30


async def _call(front: Front, operation: str, **arguments: Any) -> ToolResult:
    submitted = await front.submit(SubmitBody(operation=f"desktop.{operation}", arguments=arguments), ME)
    return await front.result(submitted.id, ME, 30)


@pytest.fixture
def root(stack: Stack) -> Path:
    return stack.folder / "workspaces" / "default"


async def test_thirty_edits_of_one_file_through_four_workers_are_all_there(
    stack: Stack, front: Front, root: Path
) -> None:
    for number in range(4):
        stack.start_worker("desktop", f"w{number}")
    await _call(front, "write_file", path="file", content="".join(f"line {number} old\n" for number in range(_EDITS)))

    ended = await asyncio.gather(
        *(
            _call(front, "edit_file", path="file", edits=[{"old": f"line {number} old", "new": f"line {number} new"}])
            for number in range(_EDITS)
        )
    )

    assert [result.status for result in ended] == [State.SUCCEEDED] * _EDITS
    assert (root / "file").read_text() == "".join(f"line {number} new\n" for number in range(_EDITS))
    assert len({result.meta.worker for result in ended}) > 1


async def test_appends_whose_workers_are_killed_are_made_exactly_once_each(
    stack: Stack, front: Front, root: Path
) -> None:
    stack.start_beat()
    doomed = stack.start_worker("desktop", "w1")
    bodies = [
        SubmitBody(operation="desktop.append_file", arguments={"path": "log", "content": f"{number}\n"})
        for number in range(40)
    ]
    submitted = await front.submit_many(bodies, ME)
    until(lambda: (root / "log").exists() and (root / "log").stat().st_size > 20, "some are made")
    stack.kill(doomed)
    stack.start_worker("desktop", "w2")

    results = await asyncio.gather(*(front.result(one.id, ME, 60) for one in submitted if isinstance(one, ToolResult)))

    lines = (root / "log").read_text().split()
    told = {str(number) for number, result in enumerate(results) if result.status is State.SUCCEEDED}
    open_ones = {str(number) for number, result in enumerate(results) if result.status is State.UNKNOWN}
    assert len(lines) == len(set(lines))
    assert told <= set(lines) <= told | open_ones
    assert {result.status for result in results} <= {State.SUCCEEDED, State.UNKNOWN}
