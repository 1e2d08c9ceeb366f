"""The faults of the reliability report: what each does to a trial, and how its swarm is made."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.chaos.swarm import BEATS, WORKERS
from tests.chaos.trial import Setup, Trial

CALM_S = 3.0
AFTER_S = 9.0
"""Longer than the visibility timeout of the careful Celery: what it gives back is back by then."""
TIMES = 2
MIXED_S = 60.0
CALLERS = 12
SLOTS = 4

Act = Callable[[Trial], Awaitable[None]]


def by_name(name: str) -> Act:
    """A fault of tests/chaos/faults.py."""

    async def act(trial: Trial) -> None:
        await trial.faults.do(getattr(trial.faults, name))

    return act


def by_call(operation: str) -> Act:
    """A call that does harm."""

    async def act(trial: Trial) -> None:
        async def call() -> None:
            trial.load.call_meanwhile(operation)

        call.__name__ = operation
        await trial.faults.do(call)

    return act


async def nothing(trial: Trial) -> None:
    """The swarm is made so that the fault lasts all the time."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the report."""

    name: str
    title: str
    act: Act
    setup: Setup = field(default_factory=lambda: setup())
    celery: bool = True
    """Whether plain Celery has what the fault hits."""
    rabbitmq: bool = True
    """Whether the fault can be done to RabbitMQ, too."""

    async def run(self, trial: Trial, *, times: int = TIMES) -> None:
        """Calm, then the fault, so often."""
        await asyncio.sleep(CALM_S)
        for _ in range(times):
            await self.act(trial)
            await asyncio.sleep(AFTER_S)


def setup(*, relayed: bool = False, ahead: bool = False, over_http: int = 0) -> Setup:
    """Three workers of four slots each and twelve callers, everywhere."""
    return Setup(
        callers=CALLERS,
        over_http=over_http,
        workers=WORKERS,
        beats=BEATS,
        slots=SLOTS,
        relayed=WORKERS[:1] if relayed else (),
        ahead=WORKERS[:1] if ahead else (),
    )


async def mixed(trial: Trial) -> None:
    """Faults that both have, one after the other, as the seed decides."""
    faults = trial.faults
    await faults.disturb(
        MIXED_S,
        [
            *(faults.kill_worker, faults.kill_worker, faults.drain_worker, faults.freeze_worker, faults.kill_broker),
            *(faults.pause_broker, faults.cut_connections, faults.lose_answers, faults.half_open_link),
        ],
    )


class MixedRow(Row):
    """All faults that both have, once."""

    async def run(self, trial: Trial, *, times: int = 1) -> None:
        await asyncio.sleep(CALM_S)
        await self.act(trial)


ROWS = (
    Row(name="none", title="no fault", act=nothing),
    Row(name="kill_worker", title="worker killed (kill -9)", act=by_name("kill_worker")),
    Row(name="freeze", title="worker frozen for 10 s", act=by_name("freeze_worker_longer")),
    Row(name="deploy", title="all workers replaced, one after the other", act=by_name("replace_workers")),
    Row(name="kill_broker", title="broker killed, back within 1.5 s", act=by_name("kill_broker")),
    Row(name="pause_broker", title="broker does not answer for 0.5 to 2.5 s", act=by_name("pause_broker")),
    Row(name="fill_memory", title="broker full for 0.3 to 1 s", act=by_name("fill_memory"), rabbitmq=False),
    Row(name="cut", title="all connections cut", act=by_name("cut_connections")),
    Row(
        name="lose_answers",
        title="answers cut off on the way to one worker",
        act=by_name("lose_answers"),
        setup=setup(relayed=True),
    ),
    Row(
        name="half_open",
        title="connections of one worker half open for 1 to 5 s",
        act=by_name("half_open_link"),
        setup=setup(relayed=True),
    ),
    Row(
        name="delay",
        title="way of one worker 0.1 s longer, for 3 s",
        act=by_name("delay_link"),
        setup=setup(relayed=True),
    ),
    Row(name="clock", title="clock of one worker 2 h ahead", act=nothing, setup=setup(ahead=True)),
    Row(name="deliver_twice", title="tasks delivered twice", act=by_name("deliver_twice"), rabbitmq=False),
    Row(name="forge", title="tasks forged", act=by_name("forge"), rabbitmq=False),
    Row(name="poison", title="call that kills its worker", act=by_call("poison")),
    Row(name="hang", title="call that hangs (time limit 1 s)", act=by_call("hang")),
    Row(name="kill_beat", title="beat killed (kill -9)", act=by_name("kill_beat"), celery=False),
    Row(
        name="kill_gateway",
        title="gateway killed (kill -9), callers over HTTP",
        act=by_name("kill_gateway"),
        setup=setup(over_http=4),
        celery=False,
    ),
    MixedRow(name="mixed", title="mixed faults for 60 s", act=mixed, setup=setup(relayed=True)),
)
