"""Calls on sessions of processes, as an agent makes them."""

from pathlib import Path
from typing import Any

import pytest

from tasks.desktop.desk import Desk
from tasks.desktop.process_states import ProcessOutput, SessionStarted
from tests.servers.waiting import until_async
from tests.tasks.command_calls import call
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed


async def start(desk: Desk, *argv: str, run: FakeRun | None = None, **arguments: Any) -> str:
    """Start a process; its session."""
    started = await call(desk, "process_start", run, argv=list(argv), **arguments)
    assert isinstance(started, SessionStarted)
    return started.session_id


async def read(desk: Desk, session_id: str, **arguments: Any) -> ProcessOutput:
    """Read its output."""
    output = await call(desk, "process_read", session_id=session_id, **arguments)
    assert isinstance(output, ProcessOutput)
    return output


async def read_until(desk: Desk, session_id: str, text: str, **arguments: Any) -> str:
    """All output so far, as soon as the text is in it."""
    seen: list[str] = []

    async def has_come() -> bool:
        seen[:] = [(await read(desk, session_id, wait_s=1, **arguments)).output]
        return text in seen[0]

    await until_async(has_come, f"{text!r} is written")
    return seen[0]


async def write(desk: Desk, session_id: str, text: str = "", **arguments: Any) -> Any:
    """Write to its input."""
    return await call(desk, "process_write", session_id=session_id, text=text, **arguments)


async def failure(desk: Desk, name: str, run: FakeRun | None = None, **arguments: Any) -> OperationFailed:
    """The error that the call fails with."""
    with pytest.raises(OperationFailed) as caught:
        await call(desk, name, run, **arguments)
    return caught.value


async def has_ended(desk: Desk, session_id: str) -> bool:
    """Whether its process has ended."""
    return not (await read(desk, session_id, wait_s=1)).process.running


def pids(folder: Path) -> list[int]:
    """What the commands have written into the file `pids`."""
    file = folder / "pids"
    return [int(line) for line in file.read_text().split()] if file.exists() else []
