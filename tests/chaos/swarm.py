"""A swarm of real processes that somebody kills, and that a supervisor starts again."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tests.servers.stack import Stack

WORKERS = ("c1", "c2", "c3")


class Swarm:
    """Three workers and two beats on one broker, and the faults."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self.stack = stack
        self.random = random.Random(seed)
        self.faults_done: list[tuple[float, str]] = []
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._began = time.monotonic()
        self._paused: set[str] = set()

    def start(self) -> None:
        for name in WORKERS:
            self._processes[name] = self.stack.start_worker("chaos", name)
        for name in ("beat-1", "beat-2"):
            self._processes[name] = self.stack.start_beat()

    def supervise(self) -> None:
        """Start again what has ended, as a supervisor does."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                self._processes[name] = (
                    self.stack.start_beat()
                    if name.startswith("beat")
                    else self.stack.start("workers", "chaos", settings={"TOOLSWARM_WORKER_NAME": name})
                )

    def logs(self) -> str:
        return "\n".join(f"--- {name}\n{self.stack.log(name)[-1500:]}" for name in WORKERS)

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
            lines.append(f"lists {lists}, held {client.hlen('ts:unacked:tool.chaos')}")
            lines.append(f"windows {client.hgetall('ts:window:tool.chaos' + chr(6) + chr(22) + '3')}")
            lines.append(f"locks {client.get('ts:lock:beat')}, workers {client.zrange('ts:workers', 0, -1)}")
        return "\n".join(lines)

    # -- faults ----------------------------------------------------------------------------------------------

    async def kill_worker(self) -> None:
        self._kill(self.random.choice(WORKERS), signal.SIGKILL)

    async def drain_worker(self) -> None:
        process = self._processes[self.random.choice(WORKERS)]
        process.send_signal(signal.SIGTERM)

    async def freeze_worker(self) -> None:
        """Longer than a lease: its calls are given to others, and its late results must not be taken."""
        name = self.random.choice(WORKERS)
        process = self._processes[name]
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGSTOP)
            await asyncio.sleep(4.5)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)

    async def kill_beat(self) -> None:
        self._kill(self.random.choice(("beat-1", "beat-2")), signal.SIGKILL)

    async def kill_broker(self) -> None:
        self.stack.valkey.kill()
        await asyncio.sleep(self.random.uniform(0, 1.5))
        self.stack.valkey.start()

    async def pause_broker(self) -> None:
        self.stack.valkey.signal(signal.SIGSTOP)
        await asyncio.sleep(self.random.uniform(0.5, 2.5))
        self.stack.valkey.signal(signal.SIGCONT)

    async def cut_connections(self) -> None:
        with self.stack.valkey.client() as connected:
            client: Any = connected
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    async def fill_memory(self) -> None:
        """The broker refuses every write that could grow it, for a while."""
        with self.stack.valkey.client() as connected:
            client: Any = connected
            client.config_set("maxmemory", 1)
            await asyncio.sleep(self.random.uniform(0.3, 1.0))
            client.config_set("maxmemory", 0)

    async def deliver_twice(self) -> None:
        """Copies of tasks that are held: a duplicate delivery of each."""
        with self.stack.valkey.client() as connected:
            client: Any = connected
            for held in list(client.hvals("ts:unacked:tool.chaos"))[:10]:
                client.rpush("tool.chaos", held.split(b"\n", 2)[2])

    async def forge(self) -> None:
        """A task for a call that exists, with another operation's name: its signature does not fit."""
        with self.stack.valkey.client() as connected:
            client: Any = connected
            for held in list(client.hvals("ts:unacked:tool.chaos"))[:3]:
                client.rpush("tool.chaos", held.split(b"\n", 2)[2].replace(b"chaos.read", b"chaos.once"))

    def faults(self) -> list[Callable[[], Awaitable[None]]]:
        return [
            self.kill_worker,
            self.kill_worker,
            self.drain_worker,
            self.freeze_worker,
            self.kill_beat,
            self.kill_broker,
            self.pause_broker,
            self.cut_connections,
            self.fill_memory,
            self.deliver_twice,
            self.forge,
        ]

    async def disturb(self, seconds: float) -> None:
        """One fault after the other, chosen by the seed, until the time is over."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            fault = self.random.choice(self.faults())
            self.faults_done.append((round(time.monotonic() - self._began, 1), fault.__name__))
            await fault()
            self.supervise()
            await asyncio.sleep(self.random.uniform(0.3, 1.2))
            self.supervise()

    def _kill(self, name: str, number: int) -> None:
        process = self._processes[name]
        if process.poll() is None:
            os.killpg(process.pid, number)
            process.wait()
