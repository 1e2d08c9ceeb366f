"""The supervisor: starts the services together, keeps them running, and drains them in an order that loses no call.

Everything starts at once (each service waits for the broker by itself); what is not needed to take calls starts when
the rest is ready. The way down is the way of a call: the gateway takes no more, the workers finish what they run, then
go those who only watch, the cache, and the broker last. The supervisor has one thread, because children are bound to
the thread that started them.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable

from local.child import Guard
from local.service import DrainStage, Service
from local.services import Plan
from local.snapshot import Endpoint, Phase, ServiceState, Snapshot
from local.state_folder import StateFolder

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """Runs the services of one state folder, whose lock the caller holds."""

    def __init__(self, plan: Plan, folder: StateFolder, *, observe: Callable[[Snapshot], None]) -> None:
        self._plan = plan
        self._folder = folder
        self._observe = observe
        self._guard = Guard(claims=(folder.endpoint_file,))
        self._services = [
            Service(spec, guard=self._guard, logs=folder.logs, timing=plan.timing, changed=self._changed)
            for spec in plan.specs
        ]
        self._phase = Phase.STARTING
        self._began = time.monotonic()
        self._started_at = time.time()
        self._ready_s: float | None = None
        self._endpoint: Endpoint | None = None
        self._open_now = asyncio.Event()
        self._open_when_ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._now = asyncio.Event()
        self._report_due = False

    @property
    def phase(self) -> Phase:
        """Where the system is."""
        return self._phase

    def snapshot(self) -> Snapshot:
        """The system as it is now."""
        return Snapshot(
            pid=os.getpid(),
            guard_pid=self._guard.pid,
            phase=self._phase,
            started_at=self._started_at,
            ready_s=self._ready_s,
            demo=self._plan.demo,
            notes=self._plan.notes,
            services=tuple(service.snapshot() for service in self._services),
        )

    def stop(self) -> None:
        """Begin to drain; the second time: end everything now."""
        if self._stop.is_set():
            self.stop_now()
        self._stop.set()

    def stop_now(self) -> None:
        """End everything at once; running calls are cut off."""
        self._stop.set()
        self._now.set()

    async def run(self) -> None:
        """Run until `stop()`, or a signal, and until nothing is left."""
        self._take_signals()
        self._guard.start()
        try:
            async with asyncio.TaskGroup() as lives:
                for service in self._services:
                    gate = self._open_when_ready if service.spec.after_ready else self._open_now
                    lives.create_task(service.run(gate), name=service.spec.name)
                self._open_now.set()
                await self._stop.wait()
                self._phase = Phase.DRAINING
                self._changed()
                await self._drain()
        finally:
            for service in self._services:
                service.kill()
            self._guard.stop()
            self._phase = Phase.STOPPED
            self._report()
            self._folder.remove_endpoint()
            self._folder.remove_socket_folder()

    async def _drain(self) -> None:
        drain = asyncio.create_task(self._drain_by_stage())
        now = asyncio.create_task(self._now.wait())
        await asyncio.wait({drain, now}, return_when=asyncio.FIRST_COMPLETED)
        now.cancel()
        if not drain.done():
            for service in self._services:
                service.kill()
        await drain

    async def _drain_by_stage(self) -> None:
        for stage in DrainStage:
            grace_s = self._plan.drain_s if stage is DrainStage.WORKING else 0.0
            members = [service for service in self._services if service.spec.stage is stage]
            await asyncio.gather(*(member.stop(max(grace_s, member.spec.grace_s)) for member in members))

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGQUIT, self.stop_now)

    def _reap(self) -> None:
        for service in self._services:
            if service.child is not None:
                service.child.poll()
        if self._phase is not Phase.STOPPED and self._guard.start():
            self._changed()

    def _changed(self) -> None:
        """Something about a service is new: settle the phase and report, once per turn of the loop."""
        if not self._report_due:
            self._report_due = True
            asyncio.get_running_loop().call_soon(self._report)

    def _report(self) -> None:
        self._report_due = False
        self._settle_phase()
        snapshot = self.snapshot()
        self._folder.write_snapshot(snapshot)
        self._announce(snapshot)
        self._observe(snapshot)

    def _settle_phase(self) -> None:
        if self._phase in (Phase.DRAINING, Phase.STOPPED):
            return
        states = {service.state for service in self._services if service.spec.essential}
        if states <= {ServiceState.READY}:
            self._phase = Phase.READY
            if self._ready_s is None:
                self._ready_s = time.monotonic() - self._began
        elif ServiceState.CRASH_LOOP in states and states <= {ServiceState.READY, ServiceState.CRASH_LOOP}:
            self._phase = Phase.DEGRADED
        if self._phase is not Phase.STARTING:
            self._open_when_ready.set()

    def _announce(self, snapshot: Snapshot) -> None:
        """Tell clients where the gateway is, from the moment that it takes calls."""
        gateway = next((service for service in snapshot.services if service.name == "gateway"), None)
        if gateway is None or gateway.state is not ServiceState.READY or snapshot.phase is Phase.STOPPED:
            return
        endpoint = Endpoint(
            url=gateway.url, broker=self._plan.broker_url, flower=snapshot.url_of("flower"), pid=snapshot.pid
        )
        if endpoint != self._endpoint:
            self._folder.write_endpoint(endpoint)
            self._endpoint = endpoint
