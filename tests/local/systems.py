"""A fake system for a test: the real supervisor in a process of its own, over services that misbehave on order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from local.processes import is_alive, session_pids
from local.snapshot import Phase, ServiceSnapshot, ServiceState, Snapshot
from local.state_folder import StateFolder
from tests.local.fake_system import FakeSystem

ROOT = Path(__file__).resolve().parents[2]


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Look until the condition holds."""
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit, f"after {timeout_s:g} s: not {what}"
        time.sleep(0.02)


class RunningSystem:
    """The process that supervises, and what it says and does."""

    def __init__(self, folder: Path, system: FakeSystem) -> None:
        self.folder = folder
        self.state = StateFolder(folder / "state")
        (folder / "system.json").write_bytes(msgspec.json.encode(system))
        argv = [sys.executable, str(Path(__file__).with_name("fake_system.py")), str(folder)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self._output = (folder / "output").open("wb")
        self.process = subprocess.Popen(
            argv, cwd=ROOT, env=environment, stdout=self._output, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._seen: set[int] = set()

    def output(self) -> str:
        return (self.folder / "output").read_text()

    def journal(self) -> list[str]:
        """The events so far, as `EVENT NAME`."""
        file = self.folder / "journal"
        return [line.rpartition(" ")[0] for line in file.read_text().splitlines()] if file.exists() else []

    def snapshot(self) -> Snapshot | None:
        snapshot = self.state.read_snapshot()
        for service in snapshot.services if snapshot else ():
            if service.pid is not None:
                self._seen.add(service.pid)
        if snapshot is not None and snapshot.guard_pid is not None:
            self._seen.add(snapshot.guard_pid)
        return snapshot

    def service(self, name: str) -> ServiceSnapshot:
        snapshot = self.snapshot()
        assert snapshot is not None
        return next(service for service in snapshot.services if service.name == name)

    def pid_of(self, name: str) -> int:
        pid = self.service(name).pid
        assert pid is not None
        return pid

    def wait_for_phase(self, phase: Phase) -> None:
        def reached() -> bool:
            assert self.process.poll() is None or phase is Phase.STOPPED, self.output()
            snapshot = self.snapshot()
            return snapshot is not None and snapshot.phase is phase

        wait_until(reached, f"{phase}")

    def wait_for_state(self, name: str, state: ServiceState) -> None:
        wait_until(lambda: self.service(name).state is state, f"{name} {state}")

    def left_over(self) -> list[int]:
        """Processes of the system that are alive."""
        leaders = self._seen | {self.process.pid}
        members = {pid for leader in leaders for pid in session_pids(leader)}
        return sorted(pid for pid in members | self._seen if is_alive(pid))

    def end(self) -> int:
        """Stop it at once, if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
        try:
            return self.process.wait(timeout=20)
        finally:
            self._output.close()
            self.state.socket_folder({})  # a supervisor that was killed could not remove it
            self.state.remove_socket_folder()
