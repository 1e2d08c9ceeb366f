"""What is done to a swarm: each fault for itself, by name, or one after the other as a seed decides.

Pauses here are what is tested (how long a thing stays away), not waits for something to happen.
"""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from tests.chaos.history import History
from tests.chaos.swarm import GATEWAY, Swarm
from tests.servers.relay import Relay

Action = Callable[[], Awaitable[None]]


class Server(Protocol):
    """A broker that can be killed, frozen and cut off."""

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def signal(self, number: signal.Signals) -> None: ...

    def cut_connections(self) -> None: ...


class Faults:
    """Faults done to one swarm and noted in one history; victims and lengths follow from the seed."""

    def __init__(self, swarm: Swarm, history: History, *, seed: int, relay: Relay | None = None) -> None:
        self.swarm = swarm
        self.random = random.Random(seed)
        self._history = history
        self._relay = relay
        self._valkey = swarm.stack.valkey
        self.broker: Server = self._valkey

    async def do(self, action: Action) -> None:
        """Do it, and note when it began and when it was over."""
        began = time.monotonic()
        await action()
        self._history.struck(getattr(action, "__name__", "fault"), began, time.monotonic())

    async def disturb(self, seconds: float, actions: Sequence[Action] = ()) -> None:
        """One fault after the other (of `actions`, or of all that the swarm has), until the time is over."""
        chosen_from = actions or self.mixed()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await self.do(self.random.choice(chosen_from))
            await asyncio.sleep(self.random.uniform(0.3, 1.2))

    def mixed(self) -> list[Action]:
        """What the mixed run draws from."""
        actions: list[Action] = [
            *(self.kill_worker, self.kill_worker, self.drain_worker, self.freeze_worker, self.kill_beat),
            *(self.kill_broker, self.pause_broker, self.cut_connections, self.fill_memory),
            *(self.deliver_twice, self.forge),
        ]
        if self._relay is not None:
            actions += [self.lose_answers, self.delay_link, self.half_open_link]
        if self.swarm.gateway_url:
            actions.append(self.kill_gateway)
        return actions

    # -- processes -------------------------------------------------------------------------------------------

    async def kill_worker(self) -> None:
        self.swarm.kill(self.a_worker())

    async def drain_worker(self) -> None:
        self.swarm.processes[self.a_worker()].send_signal(signal.SIGTERM)

    async def replace_workers(self) -> None:
        """A deploy: one worker after the other is drained and started anew."""
        for name in self.swarm.workers:
            await self.swarm.replace(name)

    async def freeze_worker(self) -> None:
        """Longer than a lease: its calls are given to others, and its late results must not be taken."""
        await self.swarm.freeze(self.a_worker(), 4.5)

    async def freeze_worker_longer(self) -> None:
        """Longer than the visibility timeout that plain Celery is compared with."""
        await self.swarm.freeze(self.a_worker(), 10.0)

    async def kill_beat(self) -> None:
        self.swarm.kill(self.random.choice(self.swarm.beats))

    async def kill_gateway(self) -> None:
        self.swarm.kill(GATEWAY)

    # -- the broker ------------------------------------------------------------------------------------------

    async def kill_broker(self) -> None:
        self.broker.kill()
        await asyncio.sleep(self.random.uniform(0, 1.5))
        self.broker.start()

    async def kill_broker_for_longer(self) -> None:
        """Longer than a worker tries to give a result before it writes it to disk."""
        self.broker.kill()
        await asyncio.sleep(3.0)
        self.broker.start()

    async def pause_broker(self) -> None:
        self.broker.signal(signal.SIGSTOP)
        await asyncio.sleep(self.random.uniform(0.5, 2.5))
        self.broker.signal(signal.SIGCONT)

    async def cut_connections(self) -> None:
        await asyncio.to_thread(self.broker.cut_connections)

    async def fill_memory(self) -> None:
        """The broker refuses every write that could grow it, for a while."""
        with self._valkey.client() as connected:
            client: Any = connected
            client.config_set("maxmemory", 1)
            await asyncio.sleep(self.random.uniform(0.3, 1.0))
            client.config_set("maxmemory", 0)

    # -- the way to it ---------------------------------------------------------------------------------------

    async def lose_answers(self) -> None:
        """Connections are reset in the middle of an answer: what was asked was done, and nobody heard of it."""
        for _ in range(5):
            self.relay.cut_after(down_bytes=self.random.randint(1, 200))
            await asyncio.sleep(0.1)

    async def delay_link(self) -> None:
        self.relay.delay_s = 0.1  # each way, so 0.2 s for a question and its answer
        await asyncio.sleep(3.0)
        self.relay.delay_s = 0.0

    async def half_open_link(self) -> None:
        """Nothing arrives any more, and nobody is told; later the connections are reset."""
        self.relay.black_hole()
        await asyncio.sleep(self.random.uniform(1.0, 5.0))
        self.relay.reset()
        self.relay.resume()

    # -- the messages ----------------------------------------------------------------------------------------

    async def deliver_twice(self) -> None:
        """Copies of tasks that are held: a duplicate delivery of each."""
        with self._valkey.client() as connected:
            client: Any = connected
            for _, message in self.swarm.held()[:10]:
                client.rpush(self.swarm.queue, message)
        self.swarm.ring()

    async def forge(self) -> None:
        """Tasks for calls that exist, with another operation's name."""
        with self._valkey.client() as connected:
            client: Any = connected
            for _, message in self.swarm.held()[:10]:
                client.rpush(self.swarm.queue, message.replace(b"chaos.read", b"chaos.once"))
        self.swarm.ring()

    @property
    def relay(self) -> Relay:
        """The way of one worker to the broker."""
        assert self._relay is not None, "this swarm has no relay"
        return self._relay

    def a_worker(self) -> str:
        return self.random.choice(self.swarm.workers)
