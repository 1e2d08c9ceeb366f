"""The cache of threads speaks the same protocol as that of event loops."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cache import Answer, BlockingCache, Key
from store.configuration import Cache as Settings
from store.configuration import Configuration, Store
from tests.cache.conftest import Open
from tests.servers.memories import READ, call, key_of, remember, value_of
from tests.servers.valkey import Valkey

TAGS = ("repo:acme/web",)


@pytest.fixture
def blocking(valkey: Valkey, cache_server: Valkey, tmp_path: Path) -> Iterator[BlockingCache]:
    store = Store(broker_url=valkey.url, cache_url=cache_server.url)
    opened = BlockingCache(Configuration(store=store, cache=Settings(secret_file=str(tmp_path / "key"))))
    opened.start()
    opened.start()
    yield opened
    opened.stop()
    opened.stop()


@pytest.fixture
def key(blocking: BlockingCache) -> Key:
    found = blocking.key(READ, call(label="x"))
    assert found is not None
    return found


def fill(cache: BlockingCache, key: Key, value: bytes) -> bool:
    reading = cache.begin(key, TAGS, "reader")
    assert reading is not None
    return cache.fill(reading, Answer(value=value, cost_s=0.1))


def value(cache: BlockingCache, key: Key) -> bytes | None:
    found = cache.get(key.name)
    return None if found is None else found.answer.value


def test_what_was_filled_is_found_until_it_is_void(blocking: BlockingCache, key: Key) -> None:
    before = value(blocking, key)
    filled = fill(blocking, key, b'"one"')
    found = value(blocking, key)
    blocking.invalidate(TAGS)

    assert (before, filled, found, value(blocking, key)) == (None, True, b'"one"', None)


def test_a_fill_that_began_before_a_change_is_refused(blocking: BlockingCache, key: Key) -> None:
    reading = blocking.begin(key, TAGS, "reader")
    change = blocking.changing(TAGS, "writer", hold_s=10)
    assert reading is not None
    assert change is not None
    blocking.changed(change)

    assert not blocking.fill(reading, Answer(value=b'"old"'))
    assert value(blocking, key) is None


def test_of_many_threads_that_ask_the_same_one_leads(blocking: BlockingCache, key: Key) -> None:
    def lead(number: int) -> str:
        lease = blocking.lease(key, f"call-{number}", rank=3)
        assert lease is not None
        return lease.holder

    with ThreadPoolExecutor(16) as threads:
        holders = set(threads.map(lead, range(64)))

    assert len(holders) == 1


async def test_a_loop_and_a_thread_find_and_void_each_others_answers(
    blocking: BlockingCache, key: Key, open_cache: Open
) -> None:
    other = await open_cache(remembers=False)
    assert key_of(other, call(label="x")).name == key.name

    await remember(other, key, b'"of the loop"', TAGS)
    found = value(blocking, key)
    blocking.invalidate(TAGS)

    assert found == b'"of the loop"'
    assert await value_of(other, key) is None
