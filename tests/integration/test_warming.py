"""Warming end to end: real beats, a real worker, and a cache Redis of its own."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from routing.front import Caller, Front
from store import keys
from tests.servers.stack import Stack
from tests.servers.valkey import Valkey
from tests.servers.waiting import until, until_async
from toolswarm.messages import CacheMode, SubmitBody

ME = Caller("acme", "ann")
LABELS = ("a", "b")
LEASE_S = 1.0
EVERY_S = 0.2
NEVER_SOONER_S = 0.3
"""An answer is due a tick, its lateness and a run (0.5 s in all) before its second is over, and never sooner."""


@pytest.fixture(scope="module")
def cache_server() -> Iterator[Valkey]:
    server = Valkey()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def warm_stack(stack: Stack, cache_server: Valkey) -> Stack:
    with cache_server.client() as connected:
        client: Any = connected
        client.flushall()
    stack.settings |= {
        "TOOLSWARM_STORE__CACHE_URL": cache_server.url,
        "TOOLSWARM_STORE__LEASE_S": str(LEASE_S),
        "TOOLSWARM_TOOLS__MODULES": '["tests.servers.warm_tool"]',
        "TOOLSWARM_CACHE__SECRET_FILE": str(stack.folder / "cache.key"),
        "TOOLSWARM_CACHE__TIMEOUT_S": "3.0",
        "TOOLSWARM_CACHE__WARM_EVERY_S": str(EVERY_S),
        "TOOLSWARM_CACHE__WARM_PER_MINUTE": "600",
        "TOOLSWARM_CACHE__POPULAR_HALF_LIFE_S": "5",
    }
    stack.start_worker("warmth", "w1")
    return stack


@pytest.fixture
async def asking(warm_stack: Stack) -> AsyncIterator["Asking"]:
    front = await warm_stack.front()
    yield Asking(front, warm_stack)
    await front.close()


class Asking:
    """Somebody who asks for the same again and again."""

    def __init__(self, front: Front, stack: Stack) -> None:
        self.found: Counter[str] = Counter()
        self._front = front
        self._stack = stack

    async def ask_until(self, runs_of_each: int) -> None:
        """Ask until each label has been run so often."""

        async def has_run() -> bool:
            await asyncio.gather(*(self._ask(label) for label in LABELS))
            return all(len(times) >= runs_of_each for times in self.runs().values())

        await until_async(has_run, f"each label has run {runs_of_each} times")

    async def _ask(self, label: str) -> None:
        body = SubmitBody(operation="warmth.look", arguments={"label": label})
        result = await self._front.submit(body, ME)
        if not result.status.terminal:
            result = await self._front.result(result.id, ME, 10)
        assert result.value == label
        self.found[result.meta.cache] += 1

    def runs(self, *modes: CacheMode) -> dict[str, list[float]]:
        """When each label was run, for a caller or for nobody (`refresh`)."""
        runs: dict[str, list[float]] = {label: [] for label in LABELS}
        for line in self._stack.marked():
            mode, label, at = line.split()
            if not modes or CacheMode(mode) in modes:
                runs[label].append(float(at))
        return runs

    def shortest_gap_s(self) -> float:
        """Between two refreshes of one answer that nobody waited for."""
        refreshes = self.runs(CacheMode.REFRESH).values()
        return min(later - earlier for times in refreshes for earlier, later in itertools.pairwise(times))


def lead(stack: Stack) -> None:
    """Wait until some beat leads."""
    with stack.valkey.client() as client:
        until(lambda: client.exists(keys.BEAT_LOCK), "a beat leads")


async def test_of_two_beats_one_refreshes_each_answer_once_before_anybody_has_to_wait(
    warm_stack: Stack, asking: Asking, cache_server: Valkey
) -> None:
    warm_stack.start_beat()
    warm_stack.start_beat()
    lead(warm_stack)

    await asking.ask_until(runs_of_each=5)

    assert asking.shortest_gap_s() > NEVER_SOONER_S
    assert asking.found["hit"] > 0.9 * asking.found.total()
    with cache_server.client() as connected:
        client: Any = connected
        warmed = int(client.hget(keys.warm_counts_key("warmth"), "warmed"))
    assert warmed >= sum(map(len, asking.runs(CacheMode.REFRESH).values())) - len(LABELS)


async def test_when_the_leader_is_killed_the_other_goes_on(warm_stack: Stack, asking: Asking) -> None:
    leader = warm_stack.start_beat()
    lead(warm_stack)
    warm_stack.start_beat()
    await asking.ask_until(runs_of_each=3)

    warm_stack.kill(leader)
    killed_at = time.time()
    await asking.ask_until(runs_of_each=7)

    assert asking.shortest_gap_s() > NEVER_SOONER_S
    taken_over_at = min(at for times in asking.runs(CacheMode.REFRESH).values() for at in times if at > killed_at)
    assert taken_over_at - killed_at < LEASE_S + 2.0  # the lease, a tick, and until something is due


async def test_what_nobody_asks_for_any_more_is_left_alone(
    warm_stack: Stack, asking: Asking, cache_server: Valkey
) -> None:
    warm_stack.start_beat()
    lead(warm_stack)
    await asking.ask_until(runs_of_each=3)

    with cache_server.client() as connected:
        client: Any = connected

        def all_expired() -> bool:
            return not list(client.scan_iter("ts:cached:*"))

        until(all_expired, "nothing is remembered any more")
