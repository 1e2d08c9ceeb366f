import asyncio
from typing import Any

import pytest

from store.budgets import Budgets, Lesson, Limits, Refusal, Wish
from store.connection import Broker
from tests.servers.valkey import Valkey

GENEROUS = Limits(at_once=100, points_per_minute=10_000, writes_per_minute=1000, writes_per_hour=1000)


def _wish(bucket: str = "core", *, writes: int = 0, reserve: float = 0.0, credential: str = "c1") -> Wish:
    return Wish(credential=credential, bucket=bucket, points=5 if writes else 1, writes=writes, reserve=reserve)


def _lesson(limit: int, used: int, *, window: int = 1_000_000, reset_in_s: float = 600.0) -> Lesson:
    return Lesson(bucket="core", limit=limit, used=used, window=window, reset_in_s=reset_in_s)


async def _granted(budgets: Budgets, wish: Wish) -> str:
    granted = await budgets.take(wish)
    assert isinstance(granted, str), granted
    return granted


async def _refused(budgets: Budgets, wish: Wish) -> Refusal:
    refused = await budgets.take(wish)
    assert isinstance(refused, Refusal)
    return refused


async def _learn(budgets: Budgets, lesson: Lesson) -> None:
    await budgets.report(_wish(), await _granted(budgets, _wish()), lesson=lesson, outcome="ok")


@pytest.fixture
def budgets(broker: Broker) -> Budgets:
    return Budgets(broker, GENEROUS)


async def test_nothing_is_held_back_before_anything_is_known(budgets: Budgets) -> None:
    granted = {await _granted(budgets, _wish()) for _ in range(20)}

    assert len(granted) == 20


async def test_a_used_up_bucket_waits_for_its_reset_and_others_go_on(budgets: Budgets) -> None:
    await _learn(budgets, _lesson(5000, 5000))

    refused = await _refused(budgets, _wish())

    assert refused.reason == "used_up"
    assert refused.wait_s == pytest.approx(600, abs=2)
    await _granted(budgets, _wish("search"))
    await _granted(budgets, _wish(credential="c2"))


async def test_what_is_on_its_way_counts_until_its_answer_says_otherwise(budgets: Budgets) -> None:
    await _learn(budgets, _lesson(10, 8))
    first, _ = await _granted(budgets, _wish()), await _granted(budgets, _wish())

    refused = await _refused(budgets, _wish())
    await budgets.report(_wish(), first, lesson=_lesson(10, 8), outcome="ok")  # a 304: it cost nothing

    assert refused.reason == "in_flight"
    await _granted(budgets, _wish())


@pytest.mark.parametrize(("used", "reserve", "granted"), [(79, 0.2, True), (80, 0.2, False), (80, 0.1, True)])
async def test_lower_priorities_leave_a_reserve(budgets: Budgets, used: int, reserve: float, granted: bool) -> None:
    await _learn(budgets, _lesson(100, used))

    reply = await budgets.take(_wish(reserve=reserve))

    assert isinstance(reply, str) is granted
    await _granted(budgets, _wish())
    assert granted or (isinstance(reply, Refusal) and reply.reason == "reserved")


async def test_answers_that_overtake_each_other_do_not_give_quota_back(budgets: Budgets) -> None:
    for used in (50, 98, 60):
        await _learn(budgets, _lesson(100, used))
    await _learn(budgets, _lesson(100, 3, window=999_000))  # of the window before

    known = await budgets.known("c1", "core")

    assert known is not None
    assert known.used == 98


async def test_a_new_window_starts_anew_and_a_reset_that_wavers_does_not(budgets: Budgets) -> None:
    await _learn(budgets, _lesson(100, 90))
    await _learn(budgets, _lesson(100, 91, window=1_000_001))
    wavered = await budgets.known("c1", "core")

    await _learn(budgets, _lesson(100, 1, window=1_003_600))

    renewed = await budgets.known("c1", "core")
    assert wavered is not None
    assert renewed is not None
    assert (wavered.used, renewed.used) == (91, 1)


async def test_after_its_reset_a_bucket_is_full_again(budgets: Budgets) -> None:
    await _learn(budgets, _lesson(100, 100, reset_in_s=0.0))

    await _granted(budgets, _wish())


@pytest.mark.parametrize(("outcome", "others_wait"), [("bucket", False), ("credential", True)])
async def test_a_block_holds_for_the_bucket_or_for_the_whole_credential(
    budgets: Budgets, outcome: Any, others_wait: bool
) -> None:
    await budgets.report(_wish(), await _granted(budgets, _wish()), outcome=outcome, blocked_s=30)

    refused = await _refused(budgets, _wish())
    other = await budgets.take(_wish("search"))

    assert refused.wait_s == pytest.approx(30, abs=1)
    assert isinstance(other, Refusal) is others_wait


async def test_strikes_count_blocks_in_a_row_and_not_the_requests_that_were_under_way_together(
    budgets: Budgets,
) -> None:
    together = [await _granted(budgets, _wish()) for _ in range(5)]
    ends = [await budgets.report(_wish(), request, outcome="credential", blocked_s=0.05) for request in together]

    async def blocked_again() -> int:
        granted = await budgets.take(_wish())
        if isinstance(granted, Refusal):
            return 0
        return (await budgets.report(_wish(), granted, outcome="credential", blocked_s=0.05)).strikes

    async with asyncio.timeout(10):
        while (again := await blocked_again()) == 0:
            pass
        while isinstance(granted := await budgets.take(_wish()), Refusal):
            pass
    cleared = await budgets.report(_wish(), granted, outcome="ok")

    assert ([end.strikes for end in ends], again, cleared.strikes) == ([1] * 5, 2, 0)


async def test_a_block_of_unsaid_length_doubles_each_time_up_to_an_hour(budgets: Budgets, valkey: Valkey) -> None:
    blocked_s: list[float] = []
    with valkey.client() as connected:
        client: Any = connected
        for _ in range(9):
            granted = await _granted(budgets, _wish())
            standing = await budgets.report(_wish(), granted, outcome="credential", blocked_s=60, doubles=True)
            blocked_s.append(round(standing.blocked_s))
            client.hset("ts:budget:c1", "blocked_until", "0")  # time goes by

    assert blocked_s == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


async def test_a_shorter_block_does_not_end_a_longer_one(budgets: Budgets) -> None:
    first, second = await _granted(budgets, _wish()), await _granted(budgets, _wish())

    await budgets.report(_wish(), first, outcome="credential", blocked_s=60)
    await budgets.report(_wish(), second, outcome="credential", blocked_s=5)

    assert (await _refused(budgets, _wish())).wait_s > 50


async def test_no_more_requests_run_at_once_than_may_and_a_report_makes_room(broker: Broker) -> None:
    budgets = Budgets(broker, Limits(at_once=10, points_per_minute=1000, writes_per_minute=80, writes_per_hour=500))
    replies = [await budgets.take(_wish()) for _ in range(15)]
    granted = [reply for reply in replies if isinstance(reply, str)]

    background = await _refused(budgets, _wish(reserve=0.2))
    await budgets.report(_wish(), granted[0], outcome="ok")

    assert (len(granted), background.reason) == (10, "too_many_at_once")
    await _granted(budgets, _wish())


@pytest.mark.parametrize(
    ("limits", "reason", "longest_s"),
    [
        (
            Limits(at_once=100, points_per_minute=1000, writes_per_minute=8, writes_per_hour=500),
            "writes_per_minute",
            65,
        ),
        (Limits(at_once=100, points_per_minute=1000, writes_per_minute=80, writes_per_hour=8), "writes_per_hour", 3660),
        (Limits(at_once=100, points_per_minute=40, writes_per_minute=80, writes_per_hour=500), "points_per_minute", 65),
    ],
)
async def test_writes_keep_to_the_limits_that_no_answer_tells(
    broker: Broker, limits: Limits, reason: str, longest_s: float
) -> None:
    budgets = Budgets(broker, limits)

    replies = [await budgets.take(_wish(writes=1)) for _ in range(12)]

    refused = [reply for reply in replies if isinstance(reply, Refusal)]
    assert len(refused) == 4
    assert {refusal.reason for refusal in refused} == {reason}
    assert all(0 < refusal.wait_s <= longest_s for refusal in refused)


async def test_a_refused_request_uses_nothing_up(broker: Broker, valkey: Valkey) -> None:
    budgets = Budgets(broker, Limits(at_once=1, points_per_minute=1000, writes_per_minute=80, writes_per_hour=500))
    await _granted(budgets, _wish(writes=1))

    for _ in range(5):
        await _refused(budgets, _wish(writes=1))

    with valkey.client() as connected:
        client: Any = connected
        assert client.hvals("ts:budget:c1:writes_hour") == [b"1"]


async def test_many_workers_together_never_exceed_a_bucket(broker: Broker) -> None:
    budgets = Budgets(broker, GENEROUS)
    await _learn(budgets, _lesson(100, 70))

    replies = await asyncio.gather(*(budgets.take(_wish()) for _ in range(80)))

    assert sum(isinstance(reply, str) for reply in replies) == 30
