"""Commands on a remote host through ledger, broker and workers: a worker is killed, a call cancelled."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from routing.front import Caller, Front
from store.tool_settings import DropletHost
from tests.servers.sshd import Remote, openssh
from tests.servers.stack import Stack
from tests.servers.waiting import until_async
from toolswarm.messages import SubmitBody, ToolResult
from toolswarm.states import State

pytestmark = pytest.mark.needs_sshd
ME = Caller()


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with openssh(tmp_path_factory.mktemp("remote")) as served:
        yield served


def _start(stack: Stack, remote: Remote, name: str, kept: Path) -> subprocess.Popen[bytes]:
    fields = {name: getattr(remote.settings, name) for name in ("address", "port", "user", "key_file", "host_key")}
    assert DropletHost(**fields) == remote.settings
    return stack.start_worker(
        "droplet",
        name,
        TOOLSWARM_DROPLET__HOSTS=msgspec.json.encode({"box": fields}).decode(),
        TOOLSWARM_DROPLET__RUNS_FOLDER=str(kept),
    )


async def _submit(front: Front, **arguments: Any) -> str:
    submitted = await front.submit(SubmitBody(operation="droplet.run", arguments=arguments), ME)
    return submitted.id


async def _result(front: Front, call_id: str) -> ToolResult:
    return await front.result(call_id, ME, 40)


async def test_a_worker_killed_in_the_middle_costs_no_second_run(
    stack: Stack, front: Front, remote: Remote, tmp_path: Path
) -> None:
    witness, gate = tmp_path / "witness", tmp_path / "gate"
    stack.start_beat()
    first = _start(stack, remote, "first", tmp_path / "kept")
    script = f"echo run >>{witness}; while [ ! -e {gate} ]; do sleep 0.05; done; echo done; exit 3"
    call_id = await _submit(front, script=script)
    await until_async(witness.exists, "it is begun")

    stack.kill(first)
    _start(stack, remote, "second", tmp_path / "kept")
    gate.touch()
    result = await _result(front, call_id)

    assert result.status == State.SUCCEEDED, result.error
    assert (result.value["stdout"], result.value["exit_code"], result.value["repeated"]) == ("done\n", 3, True)
    assert (result.meta.worker, result.meta.executed_on) == ("second", "box")
    assert witness.read_text() == "run\n"


async def test_a_cancelled_call_leaves_nothing_running(
    stack: Stack, front: Front, remote: Remote, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    stack.start_beat()
    _start(stack, remote, "only", tmp_path / "kept")
    call_id = await _submit(front, script=f"echo $$ >{pid}.new; mv {pid}.new {pid}; exec sleep 60", timeout_s=60)
    await until_async(pid.exists, "it is begun")

    await front.cancel(call_id, ME)
    result = await _result(front, call_id)

    assert result.status in (State.CANCELLED, State.UNKNOWN)
    await until_async(lambda: not psutil.pid_exists(int(pid.read_text())) or _is_over(pid), "it is killed")


def _is_over(pid: Path) -> bool:
    try:
        return psutil.Process(int(pid.read_text())).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
