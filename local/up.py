"""Starting a system: in this terminal, or in the background with this terminal only watching."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from local.keys import Keys, provide_keys
from local.redis_server import refuse_unfit_broker, refuse_unfit_cache
from local.screen import Screen, make_screen
from local.services import Plan, Planner, ours_to_start
from local.snapshot import Phase, ServiceState, Snapshot
from local.state_folder import AlreadyLocked, StateFolder
from local.supervisor import Supervisor
from store.configuration import Configuration
from toolswarm.errors import ConfigurationError

_FOLLOW_LIMIT_S = 120.0
_OLD_BROKER_S = 5.0
_TICK_S = 0.1

Action = Callable[[Snapshot], Awaitable[bool]]
"""What to do once the system is ready; True ends the system."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a command works with."""

    configuration: Configuration
    environ: Mapping[str, str]
    folder: StateFolder


def up(setup: Setup, *, demo: bool = False, when_ready: Action | None = None) -> int:
    """Start a system in this terminal and stay until it has drained.

    Raises:
        ConfigurationError: it cannot be started as it is configured.
    """
    screen = make_screen(setup.environ)
    setup.folder.create()
    try:
        lock = setup.folder.lock()
    except AlreadyLocked as held:
        return tell_running(setup, held)
    try:
        return asyncio.run(_run(setup, screen, demo=demo, when_ready=when_ready))
    finally:
        screen.close()
        os.close(lock)


def up_detached(setup: Setup, *, demo: bool = False) -> int:
    """Start a system in the background; return when it is ready, or with 1 and the reason when it is not."""
    setup.folder.create()
    try:
        lock = setup.folder.lock()
    except AlreadyLocked as held:
        return tell_running(setup, held)
    # The keys are made here, under the lock, because a new API key is shown on this terminal and in no log.
    try:
        keys = provide_keys(setup.configuration, setup.folder)
        setup.folder.rotate_logs()
    finally:
        os.close(lock)
    log_file = setup.folder.logs / "supervisor.log"
    argv = [sys.executable, "-m", "local", "supervise", *(["--demo"] if demo else [])]
    with log_file.open("ab") as log:
        log_start = log.tell()
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    screen = make_screen(setup.environ)
    try:
        snapshot = watch(setup.folder, screen, pid=process.pid, ended=lambda: process.poll() is not None)
    except KeyboardInterrupt:
        screen.say("Toolswarm goes on starting in the background; `make down` stops it")
        raise
    finally:
        screen.close()
    process.returncode = 0  # it is meant to outlive us: no complaint that it still runs
    if snapshot is None:
        screen.say("Toolswarm could not be started:")
        screen.say(log_file.read_bytes()[log_start:].decode(errors="replace").strip())
        return 1
    screen.say(_ready_text(setup, snapshot, keys, foreground=False))
    return 0 if snapshot.phase is Phase.READY else 1


def watch(
    folder: StateFolder, screen: Screen, *, pid: int, ended: Callable[[], bool], limit_s: float = _FOLLOW_LIMIT_S
) -> Snapshot | None:
    """Show how the supervisor `pid` starts; its snapshot when it is ready or gave something up, None when it ended."""
    limit = time.monotonic() + limit_s
    snapshot = None
    while time.monotonic() < limit:
        if ended():
            return None
        snapshot = folder.read_snapshot()
        if snapshot is not None and snapshot.pid == pid:
            screen.update(snapshot)
            if snapshot.phase in (Phase.READY, Phase.DEGRADED):
                return snapshot
        screen.tick()
        time.sleep(_TICK_S)
    return snapshot if snapshot is not None and snapshot.pid == pid else None


def tell_running(setup: Setup, held: AlreadyLocked) -> int:
    """Say where the system that runs already can be reached."""
    pid = held.details.get("pid")
    snapshot = setup.folder.read_snapshot()
    url = snapshot.url_of("gateway") if snapshot is not None and snapshot.pid == pid else ""
    print(f"Toolswarm already runs{f' at {url}' if url else ''} (pid {pid}); `make down` stops it")
    return 0


def wait_until_ready(setup: Setup) -> int:
    """Return when the system that runs already is ready; 1 when it is not or has ended."""
    pid = setup.folder.running_pid()
    screen = make_screen(setup.environ)
    try:
        snapshot = watch(setup.folder, screen, pid=pid or 0, ended=lambda: setup.folder.running_pid() != pid)
    finally:
        screen.close()
    if snapshot is None:
        print("Toolswarm ended before it was ready; `python -m local logs` shows why")
        return 1
    print(f"Toolswarm runs at {snapshot.url_of('gateway')} (pid {pid}), {snapshot.phase}")
    return 0 if snapshot.phase is Phase.READY else 1


async def _run(setup: Setup, screen: Screen, *, demo: bool, when_ready: Action | None) -> int:
    await _refuse_unfit(setup.configuration)
    setup.folder.rotate_logs()
    keys = provide_keys(setup.configuration, setup.folder)
    planner = Planner(setup.configuration, setup.folder, environ=setup.environ, keys=keys, demo=demo)
    plan = await _plan_after_the_last_one(planner)
    return await supervise(
        plan,
        setup.folder,
        screen=screen,
        greeting=lambda snapshot: _ready_text(setup, snapshot, keys, foreground=True),
        when_ready=when_ready,
    )


async def supervise(
    plan: Plan,
    folder: StateFolder,
    *,
    screen: Screen,
    greeting: Callable[[Snapshot], str],
    when_ready: Action | None = None,
) -> int:
    """Run a plan to its end; 1 when a service had to be given up."""
    settled = asyncio.Event()

    def observe(snapshot: Snapshot) -> None:
        screen.update(snapshot)
        if snapshot.phase is not Phase.STARTING:
            settled.set()

    supervisor = Supervisor(plan, folder, observe=observe)

    async def greet() -> None:
        await settled.wait()
        if supervisor.phase not in (Phase.READY, Phase.DEGRADED):
            return
        screen.say(greeting(supervisor.snapshot()))
        if when_ready is not None and await when_ready(supervisor.snapshot()):
            supervisor.stop()

    async def animate() -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            screen.tick()

    beside = [asyncio.create_task(greet()), asyncio.create_task(animate())]
    try:
        await supervisor.run()
    finally:
        for task in beside:
            task.cancel()
        screen.close()
    for task in beside:
        if task.done() and not task.cancelled():
            task.result()  # an error of ours is not to be lost
    given_up = any(service.state is ServiceState.CRASH_LOOP for service in supervisor.snapshot().services)
    return 1 if given_up else 0


async def _refuse_unfit(configuration: Configuration) -> None:
    own_broker, own_cache = ours_to_start(configuration)
    if not own_broker:
        await refuse_unfit_broker(configuration.store.broker_url)
    if not own_cache:
        await refuse_unfit_cache(configuration.store.cache_url)


async def _plan_after_the_last_one(planner: Planner) -> Plan:
    """The plan, once the broker of a supervisor that was killed has gone too."""
    limit = time.monotonic() + _OLD_BROKER_S
    while True:
        try:
            return planner.plan()
        except AlreadyLocked as held:
            if time.monotonic() > limit:
                pid = held.details["pid"]
                raise ConfigurationError(f"a broker of an earlier start still runs (pid {pid}); end it") from held
            await asyncio.sleep(_TICK_S)


def _ready_text(setup: Setup, snapshot: Snapshot, keys: Keys, *, foreground: bool) -> str:
    url, flower = snapshot.url_of("gateway"), snapshot.url_of("flower")
    lines = ["", *(f"  ! {note}" for note in snapshot.notes)]
    lost = [service for service in snapshot.services if service.state is ServiceState.CRASH_LOOP]
    if lost:
        lines.append("Toolswarm runs, but without " + ", ".join(service.name for service in lost))
    else:
        lines.append(f"Toolswarm is ready in {snapshot.ready_s or 0:.1f} s")
    lines += ["", f"  HTTP      {url}/v1/calls", f"  OpenAPI   {url}/openapi.json"]
    if flower:
        lines.append(f"  Flower    {flower}")
    lines += [f"  API key   {_key_text(setup, keys)}", ""]
    lines.append(f"  Try       {_command()} call write_file path=hello.txt content=hello")
    stop = "Ctrl-C drains and stops; a second one stops at once" if foreground else "`make down` drains and stops it"
    lines += [f"  Stop      {stop}", ""]
    return "\n".join(lines)


def _key_text(setup: Setup, keys: Keys) -> str:
    if keys.api_key_file is None:
        return "the one that you configured"
    shown = _near(keys.api_key_file)
    return f"{keys.new_api_key}  (shown this once; kept in {shown})" if keys.new_api_key else f"in {shown}"


def _command() -> str:
    installed = Path(sys.executable).with_name("toolswarm")
    return _near(installed) if installed.exists() else "toolswarm"


def _near(path: Path) -> str:
    """The path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
