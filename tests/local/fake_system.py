"""Runs the real supervisor over services that a test describes: `fake_system.py FOLDER` reads `FOLDER/system.json`."""

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from local.probes import HeartbeatProbe, Probe, RedisProbe
from local.redis_server import broker_argv, find_server
from local.screen import PlainScreen
from local.service import DrainStage, ServiceSpec, Timing
from local.services import Plan
from local.snapshot import Snapshot
from local.state_folder import StateFolder
from local.up import supervise

SERVICE = Path(__file__).with_name("fake_service.py")


class FakeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One service of the fake system."""

    name: str
    arguments: tuple[str, ...] = ()
    stage: DrainStage = DrainStage.WORKING
    heartbeat: bool = False
    essential: bool = True
    after_ready: bool = False
    grace_s: float = 5.0


class FakeSystem(msgspec.Struct, frozen=True, kw_only=True):
    """What `system.json` says."""

    services: tuple[FakeSpec, ...]
    broker: bool = False
    drain_s: float = 5.0
    timing: Timing = Timing()


class ReadyFileProbe:
    """A process of the service has made its file."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name

    async def check(self, within_s: float) -> str | None:
        return None if list(self._folder.glob(f"{self._name}.*.ready")) else "no file yet"


def plan_of(system: FakeSystem, folder: Path, state: StateFolder) -> Plan:
    socket = state.socket_folder({}) / "broker.sock"
    url = f"unix://{socket}?db=0"
    specs: list[ServiceSpec] = []
    if system.broker:
        specs.append(
            ServiceSpec(
                name="broker",
                argv=broker_argv(find_server("bundled"), socket, state.broker),
                environment=os.environ,
                probe=RedisProbe(url),
                stage=DrainStage.BROKER,
                keep_open=(state.lock_broker(),),
            )
        )
    for fake in system.services:
        probe: Probe = HeartbeatProbe(url, fake.name) if fake.heartbeat else ReadyFileProbe(folder, fake.name)
        broker = ("--broker", str(socket)) if fake.heartbeat else ()
        common = ("--folder", str(folder), "--name", fake.name)
        specs.append(
            ServiceSpec(
                name=fake.name,
                argv=(sys.executable, "-S", str(SERVICE), *common, *broker, *fake.arguments),
                environment=os.environ,
                probe=probe,
                liveness=probe if fake.heartbeat else None,
                stage=fake.stage,
                grace_s=fake.grace_s,
                essential=fake.essential,
                after_ready=fake.after_ready,
                url="http://127.0.0.1:1" if fake.name == "gateway" else "",
            )
        )
    return Plan(specs=tuple(specs), broker_url=url, drain_s=system.drain_s, timing=system.timing)


def main(folder: Path) -> int:
    state = StateFolder(folder / "state")
    state.create()
    state.lock()
    system = msgspec.json.decode((folder / "system.json").read_bytes(), type=FakeSystem)

    def greeting(snapshot: Snapshot) -> str:
        return f"the system is {snapshot.phase}"

    plan = plan_of(system, folder, state)
    return asyncio.run(supervise(plan, state, screen=PlainScreen(sys.stdout), greeting=greeting))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
