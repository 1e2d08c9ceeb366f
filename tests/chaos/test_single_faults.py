"""One fault at a time, under a small load of calls of every effect; the seed is fixed, the victims are processes."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from statistics import median

import pytest

from tests.chaos.history import Verdict
from tests.chaos.swarm import BEATS, FAKETIME_LIBRARY, WORKERS
from tests.chaos.trial import Setup, trial
from tests.servers.stack import Stack
from tests.servers.waiting import until_async


async def strike(stack: Stack, setup: Setup, fault: str, *, times: int = 1) -> Verdict:
    """Under load, do the fault, and see that calls succeed afterwards."""
    async with trial(stack, setup) as running:
        await running.load.succeed(15)
        for _ in range(times):
            await running.faults.do(getattr(running.faults, fault))
            await running.load.succeed(15)
    print(running.verdict)
    print(running.verdict.describe_recoveries())
    return running.verdict


def longest_recovery_s(verdict: Verdict) -> float:
    return max(one.all_ended_s or 0.0 for one in verdict.recoveries)


async def test_a_killed_worker_loses_no_call_and_all_it_held_end_within_six_seconds(stack: Stack) -> None:
    verdict = await strike(stack, Setup(), "kill_worker")

    assert (verdict.broken, verdict.failed_safe) == ([], [])
    assert longest_recovery_s(verdict) < 6


async def test_a_worker_frozen_for_longer_than_its_lease_repeats_no_effect_when_it_thaws(stack: Stack) -> None:
    verdict = await strike(stack, Setup(), "freeze_worker")

    assert (verdict.broken, verdict.failed_safe) == ([], [])


async def test_replacing_all_workers_under_load_fails_no_call(stack: Stack) -> None:
    verdict = await strike(stack, Setup(), "replace_workers")

    assert (verdict.broken, verdict.failed_safe) == ([], [])
    assert set(verdict.states) == {"succeeded"}


async def test_the_loss_of_the_leading_beat_delays_nothing_that_runs(stack: Stack) -> None:
    verdict = await strike(stack, Setup(beats=BEATS), "kill_beat", times=2)

    assert (verdict.broken, set(verdict.states)) == ([], {"succeeded"})


async def test_a_killed_broker_comes_back_with_every_accepted_call(stack: Stack) -> None:
    verdict = await strike(stack, Setup(), "kill_broker")

    assert (verdict.broken, verdict.failed_safe) == ([], [])


async def test_after_an_outage_of_the_broker_calls_are_begun_as_quickly_as_before(stack: Stack) -> None:
    async with trial(stack, Setup(slots=2)) as running:
        await running.load.succeed(15)
        await running.faults.do(running.faults.kill_broker)
        await running.load.succeed(60)

    calls = sorted(running.history.calls.values(), key=lambda call: call.accepted_at)
    first_attempts = [call.result.meta for call in calls if call.result and call.operation != "flaky"]
    assert running.verdict.broken == []
    assert median(meta.queued_s or 0.0 for meta in first_attempts[-20:]) < 0.4


async def test_a_broker_that_does_not_answer_for_a_while_loses_nothing(stack: Stack) -> None:
    verdict = await strike(stack, Setup(), "pause_broker")

    assert (verdict.broken, verdict.failed_safe) == ([], [])


async def test_cut_connections_are_made_anew_and_lose_nothing(stack: Stack) -> None:
    verdict = await strike(stack, Setup(), "cut_connections", times=2)

    assert (verdict.broken, verdict.failed_safe) == ([], [])


async def test_a_full_broker_ends_no_worker_and_loses_nothing(stack: Stack) -> None:
    verdict = await strike(stack, Setup(), "fill_memory")

    assert (verdict.broken, verdict.failed_safe) == ([], [])


async def test_answers_that_are_lost_on_the_way_lose_no_call(stack: Stack) -> None:
    verdict = await strike(stack, Setup(relayed=WORKERS[:1]), "lose_answers")

    assert (verdict.broken, verdict.failed_safe) == ([], [])


async def test_a_slow_way_to_the_broker_costs_no_lease(stack: Stack) -> None:
    verdict = await strike(stack, Setup(relayed=WORKERS[:1]), "delay_link")

    assert (verdict.broken, set(verdict.states)) == ([], {"succeeded"})


async def test_a_half_open_connection_loses_no_call(stack: Stack) -> None:
    verdict = await strike(stack, Setup(relayed=WORKERS[:1]), "half_open_link")

    assert (verdict.broken, verdict.failed_safe) == ([], [])


async def test_a_second_delivery_of_a_task_runs_nothing(stack: Stack) -> None:
    verdict = await strike(stack, Setup(), "deliver_twice", times=3)

    assert (verdict.broken, set(verdict.states)) == ([], {"succeeded"})
    assert verdict.repeated_idempotent == 0


async def test_a_forged_task_runs_nothing(stack: Stack) -> None:
    verdict = await strike(stack, Setup(), "forge", times=3)

    assert (verdict.broken, set(verdict.states)) == ([], {"succeeded"})


async def test_a_killed_gateway_is_asked_again_with_the_same_key_and_each_call_is_one_call(stack: Stack) -> None:
    """Effects that belong to no call that a caller knows of would be counted."""
    verdict = await strike(stack, Setup(over_http=3), "kill_gateway", times=2)

    assert (verdict.broken, set(verdict.states)) == ([], {"succeeded"})


async def test_a_worker_whose_clock_is_two_hours_ahead_takes_part_and_repeats_nothing(stack: Stack) -> None:
    needs_faketime()
    setup = Setup(ahead=WORKERS[:1])

    async with trial(stack, setup) as running:
        await running.load.succeed(40)

    workers = {call.result.meta.worker for call in running.history.calls.values() if call.result is not None}
    assert (running.verdict.broken, set(running.verdict.states)) == ([], {"succeeded"})
    assert workers == {"c1", "c2"}
    assert running.verdict.repeated_idempotent == 0


async def test_without_the_cache_calls_go_on(stack: Stack) -> None:
    nobody_listens_here = {"TOOLSWARM_STORE__CACHE_URL": f"unix://{stack.folder}/no-cache.sock?db=0"}

    async with trial(stack, Setup(over_http=1, settings=nobody_listens_here)) as running:
        await running.load.succeed(40)

    assert (running.verdict.broken, set(running.verdict.states)) == ([], {"succeeded"})


async def test_results_outlive_a_broker_that_is_away_although_the_spool_takes_nothing(stack: Stack) -> None:
    (stack.folder / "spool").write_text("a file where the folder should be: nothing can be written there")

    async with trial(stack, Setup(callers=0)) as running:
        running.load.call_meanwhile("once", seconds=2.0)
        await until_async(is_marked(stack), "its effect has happened, and it goes on for a second")
        await running.faults.do(running.faults.kill_broker_for_longer)

    assert (running.verdict.broken, running.verdict.states) == ([], {"succeeded": 1})
    assert "cannot be spooled" in "".join(stack.log(name) for name in WORKERS[:2])


async def test_results_outlive_a_broker_that_is_away_although_the_disk_of_the_spool_is_full(stack: Stack) -> None:
    with full_disk(stack.folder / "spool"):
        async with trial(stack, Setup(callers=0)) as running:
            running.load.call_meanwhile("once", seconds=2.0)
            await until_async(is_marked(stack), "its effect has happened, and it goes on for a second")
            await running.faults.do(running.faults.kill_broker_for_longer)

    assert (running.verdict.broken, running.verdict.states) == ([], {"succeeded": 1})
    assert "cannot be spooled" in "".join(stack.log(name) for name in WORKERS[:2])


async def test_a_poison_call_ends_and_takes_no_innocent_call_with_it(stack: Stack) -> None:
    quicker = {"TOOLSWARM_STORE__LEASE_S": "1.0"}

    async with trial(stack, Setup(settings=quicker)) as running:
        await running.load.succeed(15)
        poison = await running.load.call("poison")
        await running.load.succeed(15)

    result = running.history.calls[poison].result
    assert result is not None
    assert result.error is not None
    assert (running.verdict.broken, running.verdict.failed_safe) == ([], [])
    assert (result.status, result.error.code) == ("failed", "poison")


async def test_a_hung_call_is_ended_by_its_time_limit_and_its_slot_is_free(stack: Stack) -> None:
    async with trial(stack, Setup(workers=WORKERS[:1], slots=1, callers=2)) as running:
        await running.load.succeed(5)
        hung = await running.load.call("hang")
        await running.load.succeed(5)
        hung_once = await running.load.call("hang_once")
        await running.load.succeed(5)

    calls = running.history.calls
    results = [calls[call_id].result for call_id in (hung, hung_once)]
    assert running.verdict.broken == []
    assert [result and result.status for result in results] == ["failed", "unknown"]
    assert [result and result.error and result.error.code for result in results] == ["time_limit", "outcome_unknown"]


def is_marked(stack: Stack) -> Callable[[], Awaitable[bool]]:
    """Whether there was an effect."""

    async def marked() -> bool:
        return stack.has_marked(1)

    return marked


@contextlib.contextmanager
def full_disk(folder: Path) -> Generator[None]:
    """A file system of 64 KiB at that place, with nothing left of it; skips the test where none may be mounted."""
    folder.mkdir()
    mounting = ("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder))
    if shutil.which("mount") is None or subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        yield
    finally:
        subprocess.run(("umount", "--lazy", str(folder)), check=True)


def needs_faketime() -> None:
    if FAKETIME_LIBRARY is None:
        if os.environ.get("TOOLSWARM_REQUIRE_ALL") == "1":
            pytest.fail("needs faketime (Debian: faketime), and TOOLSWARM_REQUIRE_ALL is set")
        pytest.skip("needs faketime (Debian: faketime)")
