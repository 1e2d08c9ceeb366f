"""Real commands in real workers, and what becomes of them when things are killed."""

import os
import signal
from pathlib import Path

from routing.front import Caller, Front
from tests.servers.stack import Stack
from tests.servers.waiting import until_async
from toolswarm.messages import SubmitBody
from toolswarm.states import State

ME = Caller()
STUBBORN = """
trap '' TERM
echo $$ > pid
(trap '' TERM; setsid sh -c 'echo $$ > deep; sleep 300') &
sleep 300
"""


def _alive(file: Path) -> bool:
    try:
        os.kill(int(file.read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def _command(timeout_s: float = 100.0) -> SubmitBody:
    arguments = {"argv": ["sh", "-c", STUBBORN], "timeout_s": timeout_s}
    return SubmitBody(operation="desktop.run_command", arguments=arguments)


def _both(stack: Stack) -> list[Path]:
    folder = stack.folder / "workspaces/default"
    return [folder / "pid", folder / "deep"]


async def test_a_command_whose_worker_is_killed_dies_with_all_it_started_and_its_outcome_is_unknown(
    stack: Stack, front: Front
) -> None:
    stack.start_beat()
    worker = stack.start_worker("desktop", "d1")
    submitted = await front.submit(_command(), ME)
    await until_async(lambda: all(file.exists() and file.read_text() for file in _both(stack)), "the command runs")

    os.kill(worker.pid, signal.SIGKILL)
    result = await front.result(submitted.id, ME, 30)

    assert (result.status, result.error and result.error.code) == (State.UNKNOWN, "outcome_unknown")
    await until_async(lambda: not any(_alive(file) for file in _both(stack)), "nothing of it is left")


async def test_a_cancelled_command_leaves_nothing_behind_although_it_ignores_sigterm(
    stack: Stack, front: Front
) -> None:
    stack.start_worker("desktop", "d1")
    submitted = await front.submit(_command(), ME)
    await until_async(lambda: all(file.exists() and file.read_text() for file in _both(stack)), "the command runs")

    await front.cancel(submitted.id, ME)

    await until_async(lambda: not any(_alive(file) for file in _both(stack)), "nothing of it is left", within_s=4)
    assert (await front.result(submitted.id, ME, 10)).status.terminal
