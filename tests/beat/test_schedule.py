"""The loop of beat, against a real Valkey."""

import asyncio

import pytest

from beat.lock import Lock
from beat.schedule import Job, Schedule
from store.connection import Broker
from tests.servers.valkey import Valkey
from tests.servers.waiting import until_async
from toolswarm.errors import BrokerUnavailable


class Work:
    """A job that notes its runs, and may take as long as a test wants."""

    def __init__(self, name: str = "work", every_s: float = 10.0) -> None:
        self.runs = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.job = Job(name=name, every_s=every_s, run=self._run)
        self.error: Exception | None = None

    async def _run(self) -> None:
        self.runs += 1
        if self.error is not None:
            raise self.error
        await self.go_on.wait()


def schedule(broker: Broker, *works: Work, lease_s: float = 3.0) -> Schedule:
    return Schedule(Lock(broker, lease_s=lease_s), tuple(work.job for work in works))


async def test_a_job_runs_when_it_is_due(broker: Broker) -> None:
    work = Work()
    beat = schedule(broker, work)

    for now in (0.0, 5.0, 10.0, 12.0):
        await beat.run_once(now)
        await beat.settled()

    assert work.runs == 2


async def test_of_two_beats_one_acts(broker: Broker) -> None:
    mine, yours = Work(), Work()
    first, second = schedule(broker, mine), schedule(broker, yours)

    for now in (0.0, 10.0, 20.0):
        await first.run_once(now)
        await second.run_once(now)
        await first.settled()

    assert (mine.runs, yours.runs) == (3, 0)


async def test_when_the_leader_is_gone_the_other_acts_within_the_lease(broker: Broker) -> None:
    mine, yours = Work(), Work(every_s=0.01)
    gone, other = schedule(broker, mine, lease_s=0.3), schedule(broker, yours, lease_s=0.3)
    await gone.run_once(0.0)

    await other.start()

    async def acts() -> bool:
        return yours.runs > 0

    await until_async(acts, "the other acts", within_s=2.0)
    await other.stop()


async def test_a_slow_job_delays_no_other_and_is_not_started_twice(broker: Broker) -> None:
    slow, quick = Work("slow"), Work("quick")
    slow.go_on.clear()
    beat = schedule(broker, slow, quick)

    for now in (0.0, 10.0, 20.0):
        await beat.run_once(now)
        await asyncio.sleep(0)

    slow.go_on.set()
    await beat.settled()
    assert (slow.runs, quick.runs) == (1, 3)


async def test_a_job_that_fails_stops_no_other_and_runs_again(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    broken, sound = Work("broken"), Work("sound")
    broken.error = ValueError("broken")
    beat = schedule(broker, broken, sound)

    for now in (0.0, 10.0):
        await beat.run_once(now)
        await beat.settled()

    assert (broken.runs, sound.runs) == (2, 2)
    assert "broken failed" in caplog.text


async def test_after_an_outage_all_wait_for_one_lease(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    away, other = Work("away", every_s=0.0), Work("other", every_s=0.0)
    away.error = BrokerUnavailable("the broker does not answer")
    beat = schedule(broker, away, other)
    await beat.run_once(0.0)
    await beat.settled()

    await beat.run_once(1.0)
    await beat.settled()

    assert (away.runs, other.runs) == (1, 1)
    assert "beat waits" in caplog.text


async def test_a_stopped_beat_resigns_and_the_next_one_leads_at_once(broker: Broker, valkey: Valkey) -> None:
    work = Work(every_s=0.01)
    beat = schedule(broker, work, lease_s=60.0)
    await beat.start()
    await beat.start()

    async def acts() -> bool:
        return work.runs > 0

    await until_async(acts, "it acts")
    await beat.stop()
    await beat.stop()

    assert await Lock(broker, lease_s=60.0).run_once() is True
