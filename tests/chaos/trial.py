"""One trial: a swarm under load, faults, and in the end the verdict on everything that callers were told."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.callers import Calls, FrontCalls, HttpCalls, Load
from tests.chaos.faults import Faults
from tests.chaos.history import History, Verdict
from tests.chaos.swarm import BEATS, TWO_HOURS_AHEAD, WORKERS, Swarm, over
from tests.servers.relay import Relay, relay
from tests.servers.stack import API_KEY, Stack
from tests.servers.waiting import until_async
from toolswarm import AsyncClient

TOOL = {"TOOLSWARM_TOOLS__MODULES": '["tests.servers.chaos_tool"]'}


@dataclass(kw_only=True)
class Setup:
    """What a trial is made of."""

    callers: int = 8
    over_http: int = 0
    """So many of the ways that callers take lead over a gateway; the others over a front in this process."""
    workers: tuple[str, ...] = WORKERS[:2]
    beats: tuple[str, ...] = BEATS[:1]
    slots: int = 8
    relayed: tuple[str, ...] = ()
    """Workers whose way to the broker leads over a relay."""
    ahead: tuple[str, ...] = ()
    """Workers whose clock is two hours ahead."""
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    seed: int = 20260731


class Trial:
    """A swarm, its callers and its faults."""

    def __init__(
        self, swarm: Swarm, ways: Sequence[Calls], *, setup: Setup, way_in: Relay | None, journal: Path
    ) -> None:
        self.swarm = swarm
        self.journal = journal
        self.history = History(self.journal)
        self.faults = Faults(swarm, self.history, seed=setup.seed, relay=way_in)
        self.load = Load(ways, self.history, callers=setup.callers)
        self.verdict = Verdict()

    @contextlib.asynccontextmanager
    async def supervised(self) -> AsyncGenerator[None]:
        """What has ended is started again, as long as this lasts."""

        async def supervise() -> None:
            while True:
                self.swarm.supervise()
                await asyncio.sleep(0.1)

        supervisor = asyncio.create_task(supervise())
        try:
            yield
        finally:
            supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await supervisor

    async def end(self, *, within_s: float = 60.0) -> Verdict:
        """No more calls; wait until every caller was told an end, and judge."""
        await self.load.stop()
        try:
            await until_async(self.load.all_told, "every caller was told an end", within_s)
        except AssertionError:
            print("faults:", [(fault.name, round(fault.at, 1)) for fault in self.history.faults])
            print(self.swarm.describe(self.history.without_end()[:5]))
            print(self.swarm.logs())
            raise
        return self.judge()

    def judge(self) -> Verdict:
        """From what the actors have written."""
        self.history.close()
        self.verdict = History.read(self.journal).check(self.swarm.stack.marks)
        return self.verdict


def begin_journal(stack: Stack) -> Path:
    """Where this trial is written down: the folder `CHAOS_JOURNALS`, for who looks afterwards, or one that vanishes.

    The effects are written beside it from now on.
    """
    folder = Path(os.environ.get("CHAOS_JOURNALS") or stack.folder)
    folder.mkdir(parents=True, exist_ok=True)
    stack.marks = folder / f"{stack.folder.name}.effects"
    return folder / f"{stack.folder.name}.journal"


@contextlib.asynccontextmanager
async def trial(stack: Stack, setup: Setup) -> AsyncGenerator[Trial]:
    """A trial of ours: after the block every end was told, and `verdict` is there."""
    journal = begin_journal(stack)
    stack.settings |= TOOL | {"TOOLSWARM_WORKERS__CHAOS__CONCURRENCY": str(setup.slots)} | dict(setup.settings)
    async with contextlib.AsyncExitStack() as held:
        way_in = held.enter_context(relay(stack.valkey.port)) if setup.relayed else None
        swarm = Swarm(
            stack,
            workers=setup.workers,
            beats=setup.beats,
            settings=_own(setup, way_in),
            gateway=setup.over_http > 0,
        )
        swarm.start()
        front = await stack.front()
        held.push_async_callback(front.close)
        clients = [AsyncClient(swarm.gateway_url, API_KEY) for _ in range(setup.over_http)]
        for client in clients:
            held.push_async_callback(client.close)
        ways: list[Calls] = [FrontCalls(front), *(HttpCalls(client) for client in clients)]
        running = Trial(swarm, ways, setup=setup, way_in=way_in, journal=journal)
        held.callback(running.history.close)
        async with running.supervised():
            held.push_async_callback(running.load.give_up)
            running.load.start()
            yield running
            await running.end()


def _own(setup: Setup, way_in: Relay | None) -> dict[str, dict[str, str]]:
    own: dict[str, dict[str, str]] = {}
    for name in setup.relayed:
        assert way_in is not None
        own[name] = over(way_in)
    for name in setup.ahead:
        own[name] = {**own.get(name, {}), **TWO_HOURS_AHEAD}
    return own
