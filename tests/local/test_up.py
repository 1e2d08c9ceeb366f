"""The whole system for real: started, called, watched, stopped, and killed."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.processes import is_alive, session_pids
from local.state_folder import StateFolder
from tests.local.systems import ROOT, wait_until

_COMMAND_LIMIT_S = 90


class Machine:
    """A folder to start a system in, away from the ports of any other."""

    def __init__(self, folder: Path, gateway_port: int, flower_port: int) -> None:
        self.folder = folder
        self.state = StateFolder(folder / ".toolswarm")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOOLSWARM_", "MCP_"))}
        self.environment = kept | {
            "PYTHONPATH": str(ROOT),
            "TOOLSWARM_GATEWAY__PORT": str(gateway_port),
            "TOOLSWARM_LOCAL__FLOWER_PORT": str(flower_port),
            "TOOLSWARM_LOCAL__DRAIN_S": "10",
        }

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=_COMMAND_LIMIT_S,
            check=False,
        )

    def local(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "local", *words)

    def toolswarm(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(Path(sys.executable).with_name("toolswarm")), *words)

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.local("status", "--json").stdout)
        return status

    def leaders(self) -> set[int]:
        snapshot = self.state.read_snapshot()
        assert snapshot is not None
        pids = {snapshot.pid, snapshot.guard_pid, *(service.pid for service in snapshot.services)}
        return {pid for pid in pids if pid is not None}


@pytest.fixture
def busy() -> Iterator[socket.socket]:
    """A port that somebody else holds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def machine(tmp_path: Path, busy: socket.socket) -> Iterator[Machine]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        flower_port = int(free.getsockname()[1])
    one = Machine(tmp_path, int(busy.getsockname()[1]), flower_port)
    yield one
    one.local("down", "--now")
    one.state.socket_folder(one.environment)
    one.state.remove_socket_folder()


def test_a_system_is_started_called_and_stopped(machine: Machine, busy: socket.socket) -> None:
    up = machine.local("up", "--detach")
    assert up.returncode == 0, up.stdout + up.stderr
    key = machine.state.api_key_file.read_text().strip()
    assert up.stdout.count(key) == 1
    assert f"port {busy.getsockname()[1]} is held by" in up.stdout
    assert f"(pid {os.getpid()})" in up.stdout

    again = machine.local("up")
    assert again.returncode == 0
    assert "already runs at http://127.0.0.1:" in again.stdout

    written = machine.toolswarm("call", "write_file", "path=hello.txt", "content=hello")
    assert written.returncode == 0, written.stderr
    assert (machine.folder / ".toolswarm/workspaces/default/hello.txt").read_text() == "hello"

    wait_until(lambda: all(one["state"] == "ready" for one in machine.status()["services"]), "Flower is ready too")
    status = machine.status()
    assert (status["running"], status["phase"]) == (True, "ready")
    assert status["memory_bytes"] < 500_000_000
    assert "gateway" in machine.local("status").stdout
    assert "listening on" in machine.local("logs", "gateway").stdout
    assert "gateway" in machine.local("logs", "nobody").stderr

    leaders = machine.leaders()
    down = machine.local("down")
    assert down.returncode == 0
    assert "Toolswarm stopped after" in down.stdout
    assert [pid for leader in leaders for pid in session_pids(leader) if is_alive(pid)] == []
    assert not machine.state.endpoint_file.exists()
    assert machine.local("status").returncode == 3
    assert machine.local("down").stdout == "Toolswarm is not running\n"
    said = "".join(log.read_text() for log in machine.state.logs.iterdir())
    assert key not in said


def test_kill_9_of_the_supervisor_leaves_nothing_and_the_next_start_has_what_was_written(machine: Machine) -> None:
    assert machine.local("up", "--detach").returncode == 0
    leaders = machine.leaders()
    called = machine.toolswarm("submit", "write_file", "path=a.txt", "content=kept", "--json")
    call_id = json.loads(called.stdout)["id"]
    pid = machine.state.running_pid()
    assert pid is not None

    os.kill(pid, signal.SIGKILL)

    def left() -> list[int]:
        return [pid for leader in leaders for pid in session_pids(leader) if is_alive(pid)]

    wait_until(lambda: not left(), "all gone", timeout_s=5)
    again = machine.local("up", "--detach")
    assert again.returncode == 0, again.stdout
    assert "key" in again.stdout
    assert machine.state.api_key_file.read_text().strip() not in again.stdout
    result = machine.toolswarm("result", call_id, "--json")
    assert json.loads(result.stdout)["status"] == "succeeded"


def test_the_demo_runs_its_calls_and_stops(machine: Machine) -> None:
    demo = machine.local("demo", "--once")

    assert demo.returncode == 0, demo.stdout + demo.stderr
    for words in ("github.get_contents", "droplet.read_file", "failed: path_refused", "cancelled", "tests-are-local"):
        assert words in demo.stdout
    assert machine.state.running_pid() is None


def test_a_configuration_that_cannot_work_is_refused_before_anything_is_started(machine: Machine) -> None:
    machine.environment["TOOLSWARM_STORE__BROKER_URL"] = f"unix://{machine.folder}/nobody.sock?db=0"

    in_front, behind = machine.local("up"), machine.local("up", "--detach")

    assert in_front.returncode == behind.returncode == 1
    assert "error: store.broker_url: the broker does not answer" in in_front.stderr
    assert "store.broker_url: the broker does not answer" in behind.stdout
    assert machine.state.running_pid() is None
