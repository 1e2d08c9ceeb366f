"""The life of one service: started, probed until it is ready, restarted with backoff when it dies, ended when asked.

`snapshot.py` has the states and the moves between them. A process that ends by itself is started again after 0.2 s,
then 0.4 s, and so on up to 10 s; one that stayed healthy for a while begins anew. After six quick deaths in a row the
service is given up, so that a broken one does not eat the machine, and its last words are kept.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from local.child import Child, Guard, spawn
from local.probes import Probe
from local.snapshot import TRANSITIONS, ServiceSnapshot, ServiceState
from toolswarm.errors import BrokerUnavailable, ConfigurationError

PORT_TAKEN = 98
"""How a service exits when its port was taken between our look and its start."""


class DrainStage(IntEnum):
    """Who ends when; nothing may end before those that still need it."""

    ACCEPTING = 0
    WORKING = 1
    WATCHING = 2
    CACHE = 3
    BROKER = 4


@dataclass(frozen=True, kw_only=True)
class Timing:
    """When patience ends."""

    backoff_first_s: float = 0.2
    backoff_most_s: float = 10.0
    healthy_after_s: float = 30.0
    """A process that was ready for this long did not die quickly."""
    quick_deaths: int = 6
    silent_after_s: float = 15.0
    """Five heartbeats of a worker (3 s apart at most) and a slow broker still fit in."""
    silent_checks: int = 3
    """Looks in a row that must find it silent: after the machine slept, one look says nothing."""
    start_limit_s: float = 60.0
    """A process that is not ready by then hangs."""
    look_starting_s: float = 0.1
    look_ready_s: float = 1.0
    quit_s: float = 3.0
    """After TERM went unheeded, how long QUIT may take before KILL."""


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """What a service is: data, no behaviour."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    probe: Probe
    liveness: Probe | None = None
    """Asked once ready; a service that fails it is killed and started again."""
    stage: DrainStage
    grace_s: float = 5.0
    """How long it may take to end after TERM."""
    essential: bool = True
    """Whether the system is not ready without it."""
    after_ready: bool = False
    """Started only when all others are ready, so that it delays none."""
    keep_open: tuple[int, ...] = ()
    url: str = ""
    on_port_taken: "Callable[[], ServiceSpec] | None" = None
    """Gives the same service on another port."""


class Service:
    """One service under supervision."""

    def __init__(
        self, spec: ServiceSpec, *, guard: Guard, logs: Path, timing: Timing, changed: Callable[[], None]
    ) -> None:
        self.spec = spec
        self.state = ServiceState.WAITING
        self.child: Child | None = None
        self._guard = guard
        self.log_file = logs / f"{spec.name}.log"
        self._timing = timing
        self._changed = changed
        self._stop = asyncio.Event()
        self._done = asyncio.Event()
        self._started_at: float | None = None
        self._restarts = 0
        self._quick_deaths = 0
        self._ready_s: float | None = None
        self._ready_since: float | None = None
        self._note = ""
        self._last_words: tuple[str, ...] = ()

    def snapshot(self) -> ServiceSnapshot:
        """The service as it is now."""
        return ServiceSnapshot(
            name=self.spec.name,
            state=self.state,
            pid=self.child.pid if self.child else None,
            started_at=self._started_at,
            restarts=self._restarts,
            ready_s=self._ready_s,
            url=self.spec.url,
            note=self._note,
            last_words=self._last_words,
        )

    async def run(self, gate: asyncio.Event) -> None:
        """Keep the service running from the moment the gate opens until it is stopped or given up."""
        try:
            await self._first_of(gate)
            while not self._stop.is_set():
                await self._live_once()
                if self._stop.is_set():
                    break
                if self._quick_deaths >= self._timing.quick_deaths:
                    self._give_up()
                    await self._stop.wait()
                    break
                self._move(ServiceState.BACKOFF)
                await self._pause(self._backoff_s())
                self._restarts += 1
        finally:
            if self.state in (ServiceState.STARTING, ServiceState.READY):
                self._move(ServiceState.STOPPING)
            self._note = ""
            self._move(ServiceState.STOPPED)
            self._done.set()

    async def stop(self, grace_s: float) -> None:
        """Let it finish: TERM, after the grace QUIT, then KILL. Returns when nothing of it is left."""
        self._stop.set()
        child = self.child
        if child is not None and self.state in (ServiceState.STARTING, ServiceState.READY):
            self._move(ServiceState.STOPPING)
            for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGQUIT, self._timing.quit_s)):
                child.send(number)
                await asyncio.wait({child.exited}, timeout=patience_s)
                if child.exited.done():
                    break
            child.kill()
        await self._done.wait()

    def kill(self) -> None:
        """End it at once."""
        self._stop.set()
        if self.child is not None:
            self.child.kill()

    async def _live_once(self) -> None:
        """One process, from its start to its end."""
        self._move(ServiceState.STARTING)
        self._ready_s = self._ready_since = None
        began = time.monotonic()
        log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        try:
            with self.log_file.open("ab") as log:
                self.child = spawn(
                    self.spec.argv,
                    self.spec.environment,
                    log=log,
                    guard=self._guard,
                    keep_open=self.spec.keep_open,
                )
        except OSError as error:
            self._bury(f"cannot start {self.spec.argv[0]}: {error.strerror}", log_start)
            return
        self._started_at = time.time()
        self._changed()
        reason = await self._attend(self.child, began)
        await asyncio.wait({self.child.exited})
        code = self.child.exited.result()
        self.child = None
        self._started_at = None
        if self._stop.is_set():
            return
        self._bury(reason or _ending(code), log_start)
        if code == PORT_TAKEN and self.spec.on_port_taken is not None:
            try:
                self.spec = self.spec.on_port_taken()
            except ConfigurationError as error:
                self._note = error.message

    async def _attend(self, child: Child, began: float) -> str:
        """Probe the process until it ends; returns why we ended it, if we did."""
        silent_looks = 0
        while not child.exited.done():
            ready = self.state is ServiceState.READY
            pause_s = self._timing.look_ready_s if ready else self._timing.look_starting_s
            await asyncio.wait({child.exited}, timeout=pause_s)
            if child.exited.done() or self._stop.is_set():
                return ""
            if ready:
                silent_looks = silent_looks + 1 if (reason := await self._silence()) else 0
                if silent_looks >= self._timing.silent_checks:
                    child.kill()
                    return f"silent: {reason}"
            elif await self._became_ready(began):
                self._ready_since = time.monotonic()
                self._ready_s = self._ready_since - began
                self._note = ""
                self._move(ServiceState.READY)
            elif time.monotonic() - began > self._timing.start_limit_s:
                child.kill()
                return f"not ready after {self._timing.start_limit_s:g} s: {self._note}"
        return ""

    async def _became_ready(self, began: float) -> bool:
        """Whether the probe succeeds with a sign of life of this process, not of the one before it."""
        try:
            reason = await self.spec.probe.check(min(time.monotonic() - began, self._timing.silent_after_s))
        except BrokerUnavailable:
            reason = "waits for the broker"
        if self.state is not ServiceState.STARTING:
            return False  # it was stopped while we asked
        if reason is not None and self._restarts == 0 and reason != self._note:
            self._note = reason
            self._changed()
        return reason is None

    async def _silence(self) -> str | None:
        if self.spec.liveness is None:
            return None
        try:
            return await self.spec.liveness.check(self._timing.silent_after_s)
        except BrokerUnavailable:
            return None  # then it is the broker that is silent

    def _bury(self, reason: str, log_start: int) -> None:
        lived_s = 0.0 if self._ready_since is None else time.monotonic() - self._ready_since
        self._quick_deaths = 1 if lived_s >= self._timing.healthy_after_s else self._quick_deaths + 1
        self._note = reason
        self._last_words = _last_lines(self.log_file, log_start)

    def _give_up(self) -> None:
        self._note = f"given up after {self._quick_deaths} quick deaths; the last: {self._note}"
        self._move(ServiceState.CRASH_LOOP)

    def _backoff_s(self) -> float:
        return min(self._timing.backoff_most_s, self._timing.backoff_first_s * 2.0 ** (self._quick_deaths - 1))

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    async def _first_of(self, gate: asyncio.Event) -> None:
        """Wait until the gate opens or the service is stopped before it ever began."""
        waits = [asyncio.create_task(event.wait()) for event in (gate, self._stop)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _move(self, state: ServiceState) -> None:
        if state is self.state:
            return
        assert state in TRANSITIONS[self.state], f"{self.spec.name}: {self.state} -> {state}"
        self.state = state
        self._changed()


def _ending(code: int) -> str:
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _last_lines(file: Path, start: int, lines: int = 12) -> tuple[str, ...]:
    try:
        with file.open("rb") as log:
            log.seek(max(start, log.seek(0, 2) - 8192))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return ()
    return tuple(text.splitlines()[-lines:])
