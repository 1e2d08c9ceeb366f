"""What is remembered, for how long, and when no more; two caches stand for two processes."""

from typing import Any

import msgspec
import pytest

from cache import Answer, Cache, Key
from tests.cache.conftest import Open
from tests.servers.memories import READ, call, holder, in_level_1, key_of, remember, value_of
from tests.servers.valkey import Valkey
from tests.servers.waiting import until, until_async
from toolswarm.messages import ErrorInfo, Remember

TAGS = ("repo:acme/web",)


@pytest.fixture
async def front(open_cache: Open) -> Cache:
    return await open_cache()


@pytest.fixture
async def worker(open_cache: Open) -> Cache:
    return await open_cache(remembers=False)


@pytest.fixture
def key(front: Cache) -> Key:
    return key_of(front, call(label="x"))


async def test_what_one_process_fills_another_finds(front: Cache, worker: Cache, key: Key) -> None:
    assert await value_of(front, key) is None
    await remember(worker, key, b'"text"', TAGS)

    found = await front.get(key.name)

    assert found is not None
    assert (found.answer.value, found.answer.cost_s, found.tags, found.level) == (b'"text"', 0.1, TAGS, 2)
    assert 0 <= found.age_s < 5
    assert 55 < found.fresh_s <= 60


async def test_the_second_time_it_is_found_without_asking_the_cache_redis(
    front: Cache, worker: Cache, key: Key, cache_server: Valkey
) -> None:
    await remember(worker, key, b'"text"', TAGS)
    await in_level_1(front, key)
    with cache_server.client() as connected:
        client: Any = connected
        before = client.info("stats")["total_commands_processed"]
        found = [front.peek(key.name) for _ in range(10)]
        asked = client.info("stats")["total_commands_processed"] - before

    assert {one.level for one in found if one is not None} == {1}
    assert asked <= 3  # our own questions, and a heartbeat


async def test_a_flight_that_somebody_spoilt_is_a_call_that_nobody_can_join_and_no_failure(
    front: Cache, key: Key, cache_server: Valkey
) -> None:
    await front.lease(key, "call", rank=0)
    with cache_server.client() as connected:
        client: Any = connected
        for flight in client.keys("ts:flight:*"):
            _, _, rest = client.get(flight).partition(b"\n")
            client.set(flight, b"\xff\xfe\n" + rest, ex=30)

    lease = await front.lease(key, "other", rank=0)

    assert lease is not None
    assert lease.holder == "\ufffd\ufffd"


async def test_a_key_that_is_no_text_does_not_cut_the_news_off(
    front: Cache, worker: Cache, key: Key, cache_server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    await remember(worker, key, b'"text"', TAGS)
    await in_level_1(front, key)
    with cache_server.client() as connected:
        client: Any = connected
        client.set(b"ts:cached:\xff", b"x", ex=30)
        client.set(b"ts:cached:\xff", b"y", ex=30)

    await worker.invalidate(TAGS)
    again = await value_of(front, key)

    assert again is None
    assert caplog.records == []


async def test_after_an_invalidation_nothing_older_is_found_anywhere(front: Cache, worker: Cache, key: Key) -> None:
    await remember(worker, key, b'"old"', TAGS)
    await in_level_1(front, key)

    await worker.invalidate(TAGS)

    assert await value_of(worker, key) is None

    async def level_1_has_heard() -> bool:
        return await value_of(front, key) is None

    await until_async(level_1_has_heard, "level 1 has heard", within_s=1)


async def test_another_tag_leaves_it_alone(front: Cache, worker: Cache, key: Key) -> None:
    await remember(worker, key, b'"text"', TAGS)

    await worker.invalidate(["repo:acme/api"])

    assert await value_of(front, key) == b'"text"'


async def test_a_late_fill_of_older_data_is_refused(front: Cache, worker: Cache, key: Key) -> None:
    reading = await worker.begin(key, TAGS, "reader")
    assert reading is not None
    await front.invalidate(TAGS)

    assert not await worker.fill(reading, Answer(value=b'"old"'))
    assert await value_of(front, key) is None


async def test_of_two_reads_the_one_that_began_later_stays(front: Cache, worker: Cache, key: Key) -> None:
    early = await worker.begin(key, TAGS, "early")
    assert early is not None
    await remember(worker, key, b'"late"', TAGS)

    assert not await worker.fill(early, Answer(value=b'"early"'))
    assert await value_of(front, key) == b'"late"'


async def test_while_something_is_being_changed_nothing_is_used_or_kept(front: Cache, worker: Cache, key: Key) -> None:
    await remember(worker, key, b'"old"', TAGS)
    change = await worker.changing(TAGS, "writer", hold_s=60)
    assert change is not None

    assert await value_of(worker, key) is None
    assert not await remember(worker, key, b'"between"', TAGS)
    await worker.changed(change)
    assert await value_of(worker, key) is None
    assert await remember(worker, key, b'"new"', TAGS)


async def test_of_two_changes_at_a_time_the_end_of_one_does_not_end_the_other(worker: Cache, key: Key) -> None:
    first = await worker.changing(TAGS, "first", hold_s=60)
    second = await worker.changing(TAGS, "second", hold_s=60)
    assert first is not None
    assert second is not None

    await worker.changed(first)

    assert not await remember(worker, key, b'"between"', TAGS)
    await worker.changed(second)
    assert await remember(worker, key, b'"new"', TAGS)


async def test_a_change_that_never_ends_is_forgotten_with_all_that_was_there_before(worker: Cache, key: Key) -> None:
    await remember(worker, key, b'"old"', TAGS)
    await worker.changing(TAGS, "writer", hold_s=-59.8)  # a minute is added

    async def kept_again() -> bool:
        assert await value_of(worker, key) != b'"old"'
        return await remember(worker, key, b'"new"', TAGS)

    await until_async(kept_again, "it is forgotten", within_s=5)
    assert await value_of(worker, key) == b'"new"'


async def test_a_generation_that_was_lost_or_evicted_makes_what_hangs_on_it_unusable(
    front: Cache, worker: Cache, key: Key, cache_server: Valkey
) -> None:
    await remember(worker, key, b'"old"', TAGS)
    with cache_server.client() as connected:
        client: Any = connected
        (generation,) = client.keys("ts:generation:*")
        client.delete(generation)

    assert await value_of(front, key) is None
    assert await remember(worker, key, b'"new"', TAGS)
    assert await value_of(front, key) == b'"new"'


async def test_an_entry_that_was_moved_or_changed_is_not_believed(
    front: Cache, worker: Cache, key: Key, cache_server: Valkey
) -> None:
    other = key_of(front, call("umbrella", label="x"))
    await remember(worker, key, b'"canary of acme"')
    with cache_server.client() as connected:
        client: Any = connected
        stored = client.get(f"ts:cached:{key.name}")
        client.set(f"ts:cached:{other.name}", stored, ex=60)
        assert await value_of(front, other) is None
        client.set(f"ts:cached:{key.name}", stored[:-1] + bytes([stored[-1] ^ 1]), ex=60)
        assert await value_of(front, key) is None
        assert b"canary" not in stored

    assert (await front.stats())["refused"] == 2


async def test_a_failure_that_is_an_answer_has_its_own_time(front: Cache, worker: Cache) -> None:
    operation = msgspec.structs.replace(READ, name="n", remember=Remember(ttl_s=60, stale_s=60, negative_ttl_s=5))
    key = key_of(front, call(), operation)
    reading = await worker.begin(key, TAGS, "reader")
    assert reading is not None

    await worker.fill(reading, Answer(error=ErrorInfo(code="not_found", message="there is none")))
    found = await front.get(key.name)

    assert found is not None
    assert found.answer.error is not None
    assert found.fresh_s <= 5
    assert not await worker.fill(
        msgspec.structs.replace(reading, key=key_of(front, call())), Answer(error=found.answer.error)
    )


async def test_a_stale_answer_is_found_and_told_to_be_one(front: Cache, worker: Cache) -> None:
    operation = msgspec.structs.replace(READ, name="s", remember=Remember(ttl_s=0.05, stale_s=60))
    key = key_of(front, call(), operation)
    await remember(worker, key, b'"text"')

    async def stale() -> bool:
        found = await front.get(key.name)
        return found is not None and found.stale and found.level == 2

    await until_async(stale, "it is stale", within_s=5)


async def test_an_answer_that_does_not_change_is_fresh_for_longer_each_time(front: Cache, worker: Cache) -> None:
    operation = msgspec.structs.replace(READ, name="p", remember=Remember(ttl_s=10, longest_ttl_s=20))
    key = key_of(front, call(), operation)

    ttls: list[float] = []
    for value in (b"1", b"1", b"1", b"1", b"2"):
        await remember(worker, key, value)
        found = await worker.get(key.name)
        assert found is not None
        ttls.append(found.ttl_s)

    assert ttls == [10, 15, 20, 20, 10]


async def test_what_is_too_large_is_not_kept_and_nobody_waits_for_it(open_cache: Open) -> None:
    cache = await open_cache(max_value_bytes=100)
    key = key_of(cache, call())
    await cache.lease(key, "reader", rank=0)

    assert not await remember(cache, key, b'"' + b"x" * 100 + b'"')
    assert await holder(cache, key, "next", rank=0) == "next"


async def test_both_levels_stay_within_their_bounds_under_an_endless_stream(
    open_cache: Open, cache_server: Valkey
) -> None:
    cache = await open_cache(local_bytes=200_000)
    with cache_server.client() as connected:
        client: Any = connected
        client.config_set("maxmemory-policy", "allkeys-lfu")
        limit = client.info("memory")["used_memory"] + 2_000_000
        client.config_set("maxmemory", limit)

        for number in range(1500):
            key = key_of(cache, call(label=str(number)))
            await remember(cache, key, b'"%s"' % (b"%08d" % number * 250), (f"thing:{number}",))
            await cache.get(key.name)
            assert cache.level1.size_bytes <= 200_000
        client.config_set("maxmemory-policy", "noeviction")

    stats = await cache.stats()
    assert stats["used_bytes"] < limit + 1_000_000
    assert stats["evicted"] > 100


async def test_one_call_leads_and_the_others_learn_which(front: Cache, worker: Cache, key: Key) -> None:
    assert await holder(front, key, "a", rank=3) == "a"
    assert await holder(front, key, "b", rank=3) == "a"
    assert await holder(worker, key, "c", rank=6) == "a"

    await worker.let_go(key, "a")

    assert await holder(front, key, "d", rank=3) == "d"


async def test_a_more_urgent_call_does_not_wait_for_a_less_urgent_one(front: Cache, key: Key) -> None:
    await front.lease(key, "background", rank=6)

    assert await holder(front, key, "interactive", rank=0) == "interactive"
    assert await holder(front, key, "background again", rank=6) == "interactive"


async def test_a_call_that_turned_out_to_be_gone_is_not_joined(front: Cache, key: Key) -> None:
    await front.lease(key, "gone", rank=3)

    assert await holder(front, key, "next", rank=3, not_this="gone") == "next"
    assert await holder(front, key, "late", rank=3, not_this="gone") == "next"


async def test_a_read_that_began_before_a_change_is_not_joined_after_it(front: Cache, worker: Cache, key: Key) -> None:
    await front.lease(key, "before", rank=3)
    await worker.begin(key, TAGS, "before")
    assert await holder(front, key, "same time", rank=3) == "before"

    await worker.invalidate(TAGS)

    assert await holder(front, key, "after", rank=3) == "after"


async def test_a_read_that_has_not_begun_may_be_joined_after_a_change(front: Cache, worker: Cache, key: Key) -> None:
    await front.lease(key, "queued", rank=3)

    await worker.invalidate(TAGS)

    assert await holder(front, key, "after", rank=3) == "queued"


async def test_level_1_is_not_believed_when_its_process_was_held_up(front: Cache, worker: Cache, key: Key) -> None:
    await remember(worker, key, b'"old"', TAGS)
    await in_level_1(front, key)

    until(lambda: front.peek(key.name) is None, "the loop had no turn for a while", within_s=1)

    await in_level_1(front, key)
