"""The whole system as `make up` starts it, in a state folder of its own, for benchmarks that need it."""

import os
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.contenders.contract import ROOT
from benchmarks.measure import BenchmarkFailed, family
from local.snapshot import Snapshot
from local.state_folder import StateFolder

START_TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A running system."""

    state: Path
    started_in_s: float
    """From the command to its return; 0 for one that ran before."""

    def snapshot(self) -> Snapshot:
        """What the supervisor says of its services.

        Raises:
            BenchmarkFailed: nothing runs there.
        """
        folder = StateFolder(self.state)
        snapshot = folder.read_snapshot()
        if snapshot is None or folder.running_pid() != snapshot.pid:
            raise BenchmarkFailed(f"no system runs with the state folder {self.state}; `make up` starts one")
        return snapshot

    def services(self) -> dict[str, list[psutil.Process]]:
        """The processes of each service, and of the supervisor itself."""
        snapshot = self.snapshot()
        groups = {one.name: family(one.pid) for one in snapshot.services if one.pid}
        known = {process.pid for group in groups.values() for process in group}
        own = family(snapshot.pid) + (family(snapshot.guard_pid) if snapshot.guard_pid else [])
        groups["supervisor"] = list({process.pid: process for process in own if process.pid not in known}.values())
        return groups


@contextmanager
def started() -> Generator[Stack]:
    """Start a system, and stop it at the end; one that runs already is left alone (other folder, other ports)."""
    with TemporaryDirectory(prefix="toolswarm-bench-") as folder:
        state = Path(folder) / "state"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "client" / "src"))),
            "TOOLSWARM_LOCAL__STATE": str(state),
            "TOOLSWARM_DESKTOP__WORKSPACES": str(Path(folder) / "workspaces"),
        }
        try:
            begun = time.perf_counter()
            _local(environment, "up", "--detach")
            yield Stack(state=state, started_in_s=time.perf_counter() - begun)
        finally:
            _local(environment, "down")


def _local(environment: Mapping[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "local", *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if "API key" not in line]  # a new key is shown there
        reason = "\n".join([*said, done.stderr])[-2000:]
        raise BenchmarkFailed(f"`local {' '.join(arguments)}` ended with {done.returncode}:\n{reason}")
