"""What the supervisor says of itself: the message in `services.json`, and the states of one service.

```
waiting -> starting -> ready
starting, ready -> backoff | crash_loop | stopping
backoff -> starting
waiting, backoff, crash_loop, stopping -> stopped
```

* `waiting`: its turn has not come.
* `starting`: the process runs, its probe has not succeeded.
* `ready`: its probe has succeeded.
* `backoff`: the process ended by itself; the next start comes soon.
* `crash_loop`: it died too often, too fast; it is left alone, and its last words are shown.
* `stopping`: it was asked to end.
* `stopped`: it has ended and stays so.
"""

from enum import StrEnum

import msgspec


class ServiceState(StrEnum):
    """Where a service is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKOFF = "backoff"
    CRASH_LOOP = "crash_loop"
    STOPPING = "stopping"
    STOPPED = "stopped"


TRANSITIONS: dict[ServiceState, frozenset[ServiceState]] = {
    ServiceState.WAITING: frozenset({ServiceState.STARTING, ServiceState.STOPPED}),
    ServiceState.STARTING: frozenset(
        {ServiceState.READY, ServiceState.BACKOFF, ServiceState.CRASH_LOOP, ServiceState.STOPPING}
    ),
    ServiceState.READY: frozenset({ServiceState.BACKOFF, ServiceState.CRASH_LOOP, ServiceState.STOPPING}),
    ServiceState.BACKOFF: frozenset({ServiceState.STARTING, ServiceState.STOPPED}),
    ServiceState.CRASH_LOOP: frozenset({ServiceState.STOPPED}),
    ServiceState.STOPPING: frozenset({ServiceState.STOPPED}),
    ServiceState.STOPPED: frozenset(),
}


class Phase(StrEnum):
    """Where the whole system is."""

    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    """Everything that could be started runs, but a service that belongs to the whole has been given up."""
    DRAINING = "draining"
    STOPPED = "stopped"


class ServiceSnapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One service at one instant."""

    name: str
    state: ServiceState
    pid: int | None = None
    started_at: float | None = None
    """Unix seconds; start of the present process."""
    restarts: int = 0
    ready_s: float | None = None
    """How long the present process took to become ready."""
    url: str = ""
    note: str = ""
    """What it waits for, or why it was restarted."""
    last_words: tuple[str, ...] = ()
    """The end of its log, when it was given up."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The system at one instant."""

    pid: int
    """Of the supervisor."""
    guard_pid: int | None = None
    phase: Phase
    started_at: float
    ready_s: float | None = None
    demo: bool = False
    """Whether the tools work on demo targets."""
    notes: tuple[str, ...] = ()
    """What the user should know: ports stepped over, a key made."""
    services: tuple[ServiceSnapshot, ...] = ()

    def url_of(self, name: str) -> str:
        """Where a service listens; empty when it has no address."""
        return next((service.url for service in self.services if service.name == name), "")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What `endpoint.json` tells clients on this machine."""

    url: str
    broker: str
    flower: str
    pid: int
