"""What is asked for often, against a real Valkey."""

import math

import pytest

from cache.popularity import Asked, Counted, Counter, Popular, PopularCall, Popularity
from store import keys
from store.connection import Broker
from tests.servers.sealed import Sealed
from tests.servers.valkey import Valkey

HALF_LIFE_S = 100.0
DECAY = math.log(2) / HALF_LIFE_S
TTL_S = 10.0


def young(count: float) -> float:
    """The rate of what was asked for so often a moment ago, and never before."""
    return count * DECAY / -math.expm1(-DECAY * TTL_S)


@pytest.fixture
def popularity(broker: Broker) -> Popularity:
    return Popularity(broker, Sealed(), half_life_s=HALF_LIFE_S, most=4)


def call(name: str, size: int = 0) -> PopularCall:
    return PopularCall(operation="trial.echo", tenant="t", principal="p", arguments={"text": name, "pad": "x" * size})


def counted(name: str, count: int = 1, *, cost_s: float = 0.1, size: int = 0) -> Counted:
    asked = Asked(name=name, ttl_s=10.0, fresh_s=5.0, cost_s=cost_s)
    return Counted(asked=asked, count=count, call=lambda: call(name, size))


async def names(popularity: Popularity) -> list[str]:
    _, found = await popularity.top("trial", 10)
    return [one.name for one in found]


async def only(popularity: Popularity) -> tuple[float, Popular]:
    now, (found,) = await popularity.top("trial", 10)
    return now, found


async def test_what_saves_the_most_comes_first(popularity: Popularity) -> None:
    await popularity.write("trial", [counted("often", 10), counted("dear", 2, cost_s=1.0), counted("rare")])

    assert await names(popularity) == ["dear", "often", "rare"]


async def test_what_is_needed_to_run_it_again_is_kept(popularity: Popularity) -> None:
    await popularity.write("trial", [counted("a")])

    now, found = await only(popularity)

    assert found.call == call("a")
    assert (found.ttl_s, found.cost_s) == (10.0, 0.1)
    assert found.fresh_until - now == pytest.approx(5.0, abs=0.5)
    assert found.asked_at == pytest.approx(now, abs=0.5)


async def test_the_rate_of_what_is_new_is_that_of_the_time_an_answer_is_fresh(popularity: Popularity) -> None:
    await popularity.write("trial", [counted("a", 3)])
    await popularity.write("trial", [counted("a", 2)])

    _, found = await only(popularity)
    assert found.rate_per_s == pytest.approx(young(5), rel=0.02)
    assert found.rate_per_s * TTL_S == pytest.approx(5, rel=0.05)


async def test_the_rate_of_what_is_long_known_is_that_of_its_mean_life(broker: Broker) -> None:
    popularity = Popularity(broker, Sealed(), half_life_s=0.1, most=4)
    one = Counted(asked=Asked(name="a", ttl_s=0.01, fresh_s=5.0), count=1, call=lambda: call("a"))
    await popularity.write("trial", [one])
    begun, found = await only(popularity)
    now, writes = begun, 1

    while now < begun + 1.0:  # ten half-lives
        await popularity.write("trial", [one])
        now, found = await only(popularity)
        writes += 1

    assert found.rate_per_s == pytest.approx(writes / (now - begun), rel=0.5)


async def test_an_old_request_weighs_half_after_each_half_life(broker: Broker) -> None:
    popularity = Popularity(broker, Sealed(), half_life_s=0.2, most=4)
    await popularity.write("trial", [counted("a", 100)])
    before, first = await only(popularity)

    after, later = await only(popularity)
    while after < before + 0.2:
        after, later = await only(popularity)

    assert later.rate_per_s / first.rate_per_s == pytest.approx(0.5 ** ((after - before) / 0.2), rel=0.01)


async def test_a_stream_of_new_calls_stays_in_bounds_and_does_not_push_out_the_popular(
    popularity: Popularity, valkey: Valkey
) -> None:
    await popularity.write("trial", [counted("often", 20)])

    for number in range(200):
        await popularity.write("trial", [counted(f"once {number}")])

    assert (await names(popularity))[0] == "often"
    with valkey.client() as client:
        places = [keys.popular_key(what, "trial", HALF_LIFE_S) for what in ("scores", "states", "calls")]
        assert [client.zcard(places[0]), client.hlen(places[1]), client.hlen(places[2])] == [4, 4, 4]


async def test_what_no_answer_was_found_for_is_counted_and_not_known(popularity: Popularity) -> None:
    missed = Counted(asked=Asked(name="a", ttl_s=10.0), count=3, call=lambda: call("a"))

    await popularity.write("trial", [missed])
    before = await names(popularity)
    await popularity.write("trial", [counted("a")])

    _, found = await only(popularity)
    assert before == []
    assert found.rate_per_s == pytest.approx(young(4), rel=0.01)


async def test_a_call_with_large_arguments_has_no_place(popularity: Popularity) -> None:
    await popularity.write("trial", [counted("a", size=9000), counted("b")])

    assert await names(popularity) == ["b"]


async def test_a_call_that_was_moved_to_another_place_is_not_believed(popularity: Popularity, valkey: Valkey) -> None:
    await popularity.write("trial", [counted("a"), counted("b")])
    place = keys.popular_key("calls", "trial", HALF_LIFE_S)

    with valkey.client() as client:
        stolen = client.hget(place, "a")
        assert isinstance(stolen, bytes)
        client.hset(place, "b", stolen)

    assert await names(popularity) == ["a"]


async def test_each_due_time_is_granted_once(popularity: Popularity) -> None:
    await popularity.write("trial", [counted("a")])
    now, seen = await only(popularity)

    first = await popularity.claim("trial", [seen], per_minute=10)
    second = await popularity.claim("trial", [seen], per_minute=10)
    _, later = await only(popularity)

    assert (first, second) == ({"a"}, set[str]())
    assert later.fresh_until - now == pytest.approx(10.0, abs=0.5)
    assert later.claimed_at >= now


async def test_no_more_is_granted_in_a_minute_than_may_be(popularity: Popularity) -> None:
    await popularity.write("trial", [counted(name) for name in "abcd"])
    _, found = await popularity.top("trial", 10)

    first = await popularity.claim("trial", found[:3], per_minute=2)
    second = await popularity.claim("trial", found[3:], per_minute=2)

    assert (len(first), len(second)) == (2, 0)


async def test_a_minutes_refreshes_are_not_used_up_in_its_first_seconds(popularity: Popularity) -> None:
    await popularity.write("trial", [counted(name) for name in "abcd"])
    _, found = await popularity.top("trial", 10)

    first = await popularity.claim("trial", found[:3], per_minute=60, share_of_s=2.0)
    second = await popularity.claim("trial", found[3:], per_minute=60, share_of_s=2.0)

    assert (len(first), len(second)) == (2, 0)


async def test_what_was_seen_of_an_older_answer_does_not_make_a_claimed_one_due_again(popularity: Popularity) -> None:
    await popularity.write("trial", [counted("a")])
    _, seen = await only(popularity)
    await popularity.claim("trial", [seen], per_minute=10)

    await popularity.write("trial", [counted("a")])

    now, later = await only(popularity)
    assert later.fresh_until - now == pytest.approx(10.0, abs=0.5)


async def test_what_is_forgotten_is_counted_from_the_beginning(popularity: Popularity) -> None:
    await popularity.write("trial", [counted("a", 1000)])

    await popularity.forget("trial", ["a"])
    gone = await names(popularity)
    await popularity.write("trial", [counted("a")])

    _, again = await only(popularity)
    assert gone == []
    assert again.rate_per_s == pytest.approx(young(1), rel=0.01)


async def test_requests_are_counted_in_memory_and_written_at_once(popularity: Popularity) -> None:
    clock = [0.0]
    counter = Counter(popularity, clock=lambda: clock[0])
    asked = Asked(name="a", ttl_s=10.0, fresh_s=5.0, cost_s=0.1)

    for _ in range(100):
        counter.count("trial", asked, lambda: call("a"))
    counter.count("trial", Asked(name="a", ttl_s=10.0), lambda: call("a"))
    clock[0] = 2.0
    before = await names(popularity)
    await counter.run_once()

    now, found = await only(popularity)
    assert before == []
    assert found.rate_per_s == pytest.approx(young(101), rel=0.01)
    assert found.fresh_until - now == pytest.approx(3.0, abs=0.5)
    assert found.cost_s == 0.1


async def test_a_cache_that_is_away_costs_only_the_count(
    popularity: Popularity, one_valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    away = Popularity(
        Broker(f"unix://{one_valkey.folder}/nobody.sock", timeout_s=0.1), Sealed(), half_life_s=60, most=4
    )
    counter = Counter(away)
    counter.count("trial", Asked(name="a", ttl_s=10.0), lambda: call("a"))

    await counter.run_once()
    counter.count("trial", Asked(name="a", ttl_s=10.0), lambda: call("a"))
    await counter.run_once()

    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_two_counters_stop_having_written_all(popularity: Popularity) -> None:
    counters = [Counter(popularity), Counter(popularity)]
    for counter in counters:
        counter.start()
        counter.count("trial", Asked(name="a", ttl_s=10.0, fresh_s=1.0), lambda: call("a"))

    for counter in counters:
        await counter.stop()
        await counter.stop()

    _, found = await only(popularity)
    assert found.rate_per_s == pytest.approx(young(2), rel=0.01)
