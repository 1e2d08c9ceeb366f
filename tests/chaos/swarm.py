"""A swarm of real processes that somebody kills, and that a supervisor starts again."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.servers.relay import Relay
from tests.servers.stack import Stack
from tests.servers.valkey import free_port
from tests.servers.waiting import until, until_async

WORKERS = ("c1", "c2", "c3")
BEATS = ("beat-1", "beat-2")
GATEWAY = "gateway"
FAKETIME_LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
"""Debian's package faketime; None: it is not installed."""
TWO_HOURS_AHEAD = {
    "LD_PRELOAD": str(FAKETIME_LIBRARY),
    "FAKETIME": "+2h",
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    "DONT_FAKE_MONOTONIC": "1",
}
"""For the environment of a process whose clock is to be wrong."""


class Swarm:
    """Workers, beats and perhaps a gateway on one broker; what has ended is started again by `supervise`.

    The workers named in `settings` have settings of their own, e.g. a way to the broker that leads over a relay.
    """

    queue = "tool.chaos"
    held_key = "ts:unacked:tool.chaos"

    def __init__(
        self,
        stack: Stack,
        *,
        workers: Iterable[str] = WORKERS,
        beats: Iterable[str] = BEATS,
        settings: Mapping[str, Mapping[str, str]] | None = None,
        gateway: bool = False,
    ) -> None:
        self.stack = stack
        self.workers = tuple(workers)
        self.beats = tuple(beats)
        self.gateway_url = f"http://127.0.0.1:{free_port()}" if gateway else ""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.resting: set[str] = set()
        """What `supervise` leaves alone for now."""
        self._settings = dict(settings or {})

    @property
    def names(self) -> tuple[str, ...]:
        """All that is to run."""
        return (*self.workers, *self.beats, *((GATEWAY,) if self.gateway_url else ()))

    def start(self) -> None:
        """Start everything, and return when it can take calls."""
        for name in self.names:
            self.processes[name] = self.start_one(name)
        until(lambda: all(self.is_up(name) for name in self.names), "the swarm is up", within_s=60)

    def start_one(self, name: str) -> subprocess.Popen[bytes]:
        own = {"TOOLSWARM_WORKER_NAME": name, **self._settings.get(name, {})}
        if name in BEATS:
            return self.stack.start("beat", settings=own)
        if name == GATEWAY:
            return self.stack.start(
                "gateway", settings={**own, "TOOLSWARM_GATEWAY__PORT": self.gateway_url.rpartition(":")[2]}
            )
        return self.stack.start("workers", "chaos", settings=own)

    def is_up(self, name: str) -> bool:
        """Whether it works (its process may have been started just now)."""
        process = self.processes[name]
        assert process.poll() is None, f"{name} ended:\n{self.stack.log(name)[-3000:]}"
        if name in BEATS:
            return True
        if name == GATEWAY:
            try:
                return httpx.get(f"{self.gateway_url}/readyz").status_code == 200
            except httpx.TransportError:
                return False
        with self.stack.valkey.client() as connected:
            client: Any = connected
            started_at = client.hget(f"ts:worker:{name}", "started_at")
        return started_at is not None

    def supervise(self) -> None:
        """Start again what has ended, as a supervisor does."""
        for name, process in self.processes.items():
            if name not in self.resting and process.poll() is not None:
                self.processes[name] = self.start_one(name)

    async def replace(self, name: str) -> None:
        """Have it finish what it does, then start another in its place: one step of a deploy."""
        self.resting.add(name)
        process = self.processes[name]
        process.send_signal(signal.SIGTERM)

        async def ended() -> bool:
            return process.poll() is not None

        await until_async(ended, f"{name} has finished", within_s=30)
        self.processes[name] = self.start_one(name)
        self.resting.discard(name)

        async def up() -> bool:
            return self.is_up(name)

        await until_async(up, f"the new {name} is up", within_s=30)

    def kill(self, name: str) -> None:
        """kill -9 of the process and all its children, unless it has ended."""
        process = self.processes[name]
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    async def freeze(self, name: str, seconds: float) -> None:
        """It does nothing for so long, and then goes on as if nothing had been."""
        process = self.processes[name]
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGSTOP)
            await asyncio.sleep(seconds)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)

    def ring(self) -> None:
        """Tell workers that somebody else has put tasks into the queue."""
        with self.stack.valkey.client() as connected:
            client: Any = connected
            client.lpush(f"ts:bell:{self.queue}", "1")
            client.expire(f"ts:bell:{self.queue}", 60)

    def held(self) -> list[tuple[str, bytes]]:
        """The list and the message of each task that some worker holds now."""
        with self.stack.valkey.client() as connected:
            client: Any = connected
            held: list[bytes] = client.hvals(self.held_key)
        parts = [one.split(b"\n", 2) for one in held]
        return [(part[0].decode(), part[2]) for part in parts]

    def logs(self) -> str:
        return "\n".join(f"--- {name}\n{self.stack.log(name)[-1500:]}" for name in self.workers)

    def describe(self, call_ids: list[str]) -> str:
        """The records of calls, for whoever looks for what went wrong."""
        lines: list[str] = []
        with self.stack.valkey.client() as connected:
            client: Any = connected
            now = float(client.time()[0])
            for call_id in call_ids:
                record = client.hgetall(f"ts:call:{call_id}")
                short = {name: value[:60] for name, value in record.items() if name not in (b"call", b"message")}
                lines.append(f"{call_id} due {client.zscore('ts:due', call_id)} now {now} {short}")
            lists = {name: client.llen(name) for name in client.keys("tool.*") if client.type(name) == b"list"}
            lines.append(f"lists {lists}, held {client.hlen(self.held_key)}")
            lines.append(f"windows {client.hgetall('ts:window:tool.chaos' + chr(6) + chr(22) + '3')}")
            lines.append(f"locks {client.get('ts:lock:beat')}, workers {client.zrange('ts:workers', 0, -1)}")
        return "\n".join(lines)


def over(relay: Relay) -> dict[str, str]:
    """The setting of a process that reaches the broker over this relay."""
    return {"TOOLSWARM_STORE__BROKER_URL": f"redis://127.0.0.1:{relay.port}/0"}
