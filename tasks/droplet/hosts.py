"""What the operations of `droplet` share: the inventory, and a pool of connections for each host that was used."""

import os
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Annotated, Any

from msgspec import Meta

from store.configuration import Configuration
from store.tool_settings import Droplet
from tasks.desktop.desk import Desk
from tasks.droplet.connect import connect
from tasks.droplet.dialling import Dial
from tasks.droplet.idle import IdleLoop
from tasks.droplet.inventory import HostEntry, Inventory
from tasks.droplet.keys import KeyRing
from tasks.droplet.order import clean_line
from tasks.droplet.patience import Patience, Within
from tasks.droplet.pool import HostPool
from tasks.droplet.session import Opened, Session, SftpSession
from tasks.operation import Run

HostName = Annotated[
    str | None,
    Meta(description="Name of a configured host (see list_hosts); none: the default one.", examples=["web-1"]),
]
_TIDY_EVERY_S = 600.0
_SHORTEST_KEPT_S = 3600.0
"""Longer than any run takes: what is removed must not be needed any more."""


class Hosts:
    """The configured hosts, connected to when first used; see tasks/droplet/pool.py for how it is used."""

    def __init__(self, settings: Droplet, desk: Desk | None = None) -> None:
        self.settings = settings
        self.desk = desk
        """The local side of uploads and downloads."""
        self.inventory = Inventory(settings)
        self._keys = KeyRing()
        self._start_over()

    @classmethod
    def open(cls, configuration: Configuration) -> "Hosts":
        """The hosts of one worker process; connects to none yet."""
        return cls(configuration.droplet, Desk.open(configuration))

    def find(self, name: str | None, attempt: Run) -> HostEntry:
        """The host of that name, or the default one.

        Raises:
            OperationFailed: `host_not_configured`, `host_not_allowed`.
        """
        return self.inventory.find(name, attempt.call.tenant)

    def target(self, arguments: Mapping[str, Any]) -> str | None:
        """The host that a call with these arguments depends on, for its circuit breaker; none when it is not one."""
        named = arguments.get("host") or str(arguments.get("job", "")).rpartition(":")[0]
        if not named and "on" not in arguments and "job" not in arguments:
            named = self.settings.default_host or (
                next(iter(self.inventory.hosts)) if len(self.inventory.hosts) == 1 else ""
            )
        return f"host {named}" if named in self.inventory.hosts else None

    def find_all(self, names: list[str], attempt: Run) -> list[HostEntry]:
        """The hosts that the names of hosts and groups stand for, each once.

        Raises:
            OperationFailed: `host_not_configured`, `host_not_allowed`: all of them must be there for the tenant.
        """
        return self.inventory.find_all(names, attempt.call.tenant)

    def roots(self, attempt: Run) -> tuple[str, ...]:
        """The remote folders that file operations of the call's tenant stay in; none: anywhere."""
        return self.inventory.roots(attempt.call.tenant)

    def session(
        self, host: HostEntry, attempt: Run, *, timeout_s: float | None = None
    ) -> AbstractContextManager[Session]:
        """A fresh channel for one command.

        Raises:
            OperationFailed: `host_busy`, `host_unreachable`, `host_key`, `authentication`, …: nothing was begun.
        """
        return self.pool(host).session(_patience(attempt, timeout_s))

    def sftp(
        self, host: HostEntry, attempt: Run, *, timeout_s: float | None = None
    ) -> AbstractContextManager[SftpSession]:
        """A channel that speaks SFTP, for one piece of work.

        Raises:
            OperationFailed: `host_busy`, `host_unreachable`, `host_key`, `authentication`, …: nothing was begun.
        """
        return self.pool(host).sftp(_patience(attempt, timeout_s))

    def pool(self, host: HostEntry) -> HostPool:
        """The connections to a host; those of a parent process are left alone."""
        if self._pid != os.getpid():
            # The parent's connections live on in the parent; one message of ours on them would break them.
            self._start_over()
        with self._lock:
            pool = self._pools.get(host.name)
            if pool is None:
                pool = self._pools[host.name] = HostPool(
                    host,
                    dial=self._dialler(host),
                    connect_timeout_s=self.settings.connect_timeout_s,
                    connections=self.settings.connections_per_host,
                    idle_s=self.settings.idle_s,
                )
            return pool

    def expire(self, now: float) -> bool:
        """Close connections that were idle for too long; whether any is left."""
        with self._lock:
            pools = list(self._pools.values())
        left = [pool.expire(now) for pool in pools]  # each of them, whatever the others say
        return any(left)

    def tidy(self, session: Session, folder: str, *, kept_s: float) -> None:
        """Now and then, remove what runs have left in a folder of the host longer ago than `kept_s`."""
        now = time.monotonic()
        with self._lock:
            key = (session.host.name, folder)
            if now < self._tidy_at.get(key, 0.0):
                return
            self._tidy_at[key] = now + _TIDY_EVERY_S
        session.tell(clean_line(folder, max(kept_s, _SHORTEST_KEPT_S)))

    def close(self) -> None:
        """Hang up; bears being called twice."""
        if self._pid != os.getpid():
            return
        self._idle.stop()
        with self._lock:
            pools = list(self._pools.values())
        for pool in pools:
            pool.close()

    def _start_over(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._pools: dict[str, HostPool] = {}
        self._tidy_at: dict[tuple[str, str], float] = {}
        self._idle = IdleLoop(self.expire, interval_s=max(0.1, self.settings.idle_s / 4))

    def _dialler(self, host: HostEntry) -> Dial:
        def open_one(timeout_s: float, patience: Patience) -> Opened:
            self._idle.start()
            with ExitStack() as way:
                through = None
                if host.jump is not None:
                    tunnel = self.pool(host.jump).tunnel(patience, (host.address, host.port))
                    through = way.enter_context(tunnel)
                transport = connect(host, timeout_s, keys=self._keys, through=through)
                way.callback(transport.close)
                return Opened(transport=transport, hang_up=way.pop_all().close)

        return open_one


def _patience(attempt: Run, timeout_s: float | None) -> Patience:
    return attempt if timeout_s is None else Within(attempt, timeout_s)
