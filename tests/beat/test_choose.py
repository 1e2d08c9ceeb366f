"""Which remembered reads are refreshed, and which are not."""

import pytest

from beat.choose import Circumstances, due, paused
from cache.popularity import Popular, PopularCall

NOW = 1000.0
QUIET = Circumstances(waiting=0, slots=4)
TICK_S = 2.0


def popular(name: str = "a", **changes: float) -> Popular:
    """Asked for every second, fresh for 10 s, and about to expire."""
    usual = {
        "rate_per_s": 1.0,
        "cost_s": 0.1,
        "ttl_s": 10.0,
        "fresh_until": NOW + 1.0,
        "asked_at": NOW - 1.0,
        "claimed_at": 0.0,
    }
    call = PopularCall(operation="trial.echo", tenant="t", principal="p", place="web-1")
    return Popular(name=name, call=call, **(usual | changes))


def chosen(*ones: Popular, circumstances: Circumstances = QUIET) -> list[str]:
    return [one.name for one in due(ones, circumstances, now=NOW, next_in_s=TICK_S)]


def test_what_expires_before_the_next_tick_is_due_in_the_order_given() -> None:
    late, early = popular("late", fresh_until=NOW + 1.9), popular("early", fresh_until=NOW + 0.1)

    assert chosen(late, early, popular("not yet", fresh_until=NOW + 5.0)) == ["late", "early"]


def test_what_takes_long_to_run_is_due_sooner() -> None:
    assert chosen(popular(fresh_until=NOW + 4.0, cost_s=3.0)) == ["a"]


@pytest.mark.parametrize(
    "changes",
    [
        {"rate_per_s": 0.09},  # less than once in 10 s
        {"asked_at": NOW - 21.0},  # nobody for two times its freshness
        {"fresh_until": 0.0},  # no answer was seen yet
    ],
)
def test_what_nobody_will_miss_is_not_refreshed(changes: dict[str, float]) -> None:
    assert chosen(popular("a", **changes)) == []


@pytest.mark.parametrize("target", ["web-1", "host web-1"])
def test_what_needs_a_target_that_is_left_alone_is_not_refreshed(target: str) -> None:
    assert chosen(popular(), circumstances=Circumstances(waiting=0, slots=4, left_alone={target})) == []
    assert chosen(popular(), circumstances=Circumstances(waiting=0, slots=4, left_alone={"host web-2"})) == ["a"]


def test_a_tool_is_left_in_peace_while_its_queue_is_late_or_nobody_serves_it() -> None:
    assert paused(Circumstances(waiting=5, slots=4)) == "late"
    assert paused(Circumstances(waiting=0, slots=0)) == "no_worker"
    assert paused(Circumstances(waiting=4, slots=4)) is None
