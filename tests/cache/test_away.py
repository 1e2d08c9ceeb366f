"""The cache Redis is lost, full, slow or wrong: nobody waits for it, and nothing out of date is given afterwards."""

import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cache import Cache
from store.configuration import Cache as Settings
from store.configuration import Configuration, Store
from store.connection import Broker
from tests.servers.memories import READ, call, in_level_1, key_of, remember, value_of
from tests.servers.valkey import Valkey
from tests.servers.waiting import until_async
from toolswarm.errors import BrokerUnavailable
from toolswarm.messages import Remember

TAGS = ("repo:acme/web",)


class Pair:
    """A front and a worker on a cache server that may be hurt."""

    def __init__(self, server: Valkey, broker: Broker, secret_file: Path) -> None:
        self.server = server
        settings = Settings(secret_file=str(secret_file), timeout_s=0.1)
        configuration = Configuration(store=Store(cache_url=server.url), cache=settings)
        self.front = Cache.open(configuration, broker=broker)
        self.worker = Cache.open(configuration, broker=broker, remembers=False)
        self.key = key_of(self.front, call(label="x"))

    async def settled(self, available: bool) -> None:
        async def settled() -> bool:
            return self.front.available is available is self.worker.available

        await until_async(settled, f"both know that it is {'there' if available else 'away'}")


@pytest.fixture
def server() -> Iterator[Valkey]:
    server = Valkey()
    server.start()
    yield server
    server.signal(signal.SIGCONT)
    server.stop()


@pytest.fixture
async def pair(server: Valkey, broker: Broker, tmp_path: Path) -> AsyncIterator[Pair]:
    both = Pair(server, broker, tmp_path / "key")
    for cache in (both.front, both.worker):
        await cache.start()
    await both.settled(True)
    yield both
    for cache in (both.front, both.worker):
        await cache.stop()


async def test_a_server_that_was_lost_is_used_again_and_what_it_read_from_its_file_is_not(pair: Pair) -> None:
    await remember(pair.worker, pair.key, b'"old"', TAGS)
    assert await value_of(pair.front, pair.key) == b'"old"'

    pair.server.kill()
    await pair.settled(False)
    assert await value_of(pair.front, pair.key) is None
    pair.server.start()
    await pair.settled(True)

    assert await value_of(pair.front, pair.key) is None
    assert await remember(pair.worker, pair.key, b'"new"', TAGS)
    assert await value_of(pair.front, pair.key) == b'"new"'


async def test_a_server_that_hangs_costs_its_timeout_once_and_nothing_more(pair: Pair) -> None:
    pair.server.signal(signal.SIGSTOP)
    began_at = time.monotonic()
    assert await value_of(pair.front, pair.key) is None
    first_s = time.monotonic() - began_at

    began_at = time.monotonic()
    for _ in range(100):
        assert await value_of(pair.front, pair.key) is None
        assert await pair.front.lease(pair.key, "id", rank=0) is None
        await pair.front.let_go(pair.key, "id")
    others_s = time.monotonic() - began_at

    assert first_s < 1
    assert others_s < 0.1


async def test_what_changes_while_the_server_hangs_is_told_to_it_before_it_is_used_again(
    pair: Pair, valkey: Valkey
) -> None:
    await remember(pair.worker, pair.key, b'"old"', TAGS)
    pair.server.signal(signal.SIGSTOP)
    await pair.settled(False)
    change = await pair.worker.changing(TAGS, "writer", hold_s=60)
    assert change is not None
    await pair.worker.changed(change)
    with valkey.client() as connected:
        client: Any = connected
        assert client.zcard("ts:cache:owed") == 1

    pair.server.signal(signal.SIGCONT)

    async def used_again() -> bool:
        assert await value_of(pair.front, pair.key) is None  # never the old one
        return pair.front.available and pair.worker.available

    await until_async(used_again, "it is used again")
    assert await remember(pair.worker, pair.key, b'"new"', TAGS)
    with valkey.client() as connected:
        client = connected
        assert client.zcard("ts:cache:owed") == 0


async def test_who_reaches_the_cache_tells_what_another_one_owes(pair: Pair, broker: Broker, tmp_path: Path) -> None:
    await remember(pair.worker, pair.key, b'"old"', TAGS)
    nowhere = Configuration(
        store=Store(cache_url=f"unix://{tmp_path}/nobody.sock"), cache=Settings(secret_file=str(tmp_path / "key"))
    )
    cut_off = Cache.open(nowhere, broker=broker, remembers=False)
    await cut_off.start()

    change = await cut_off.changing(TAGS, "writer", hold_s=60)
    assert change is not None
    await cut_off.changed(change)

    async def heard() -> bool:
        return await value_of(pair.front, pair.key) is None

    await until_async(heard, "somebody has told the cache", within_s=5)
    await cut_off.stop()


async def test_what_nobody_could_be_told_of_is_said_to_an_operator(pair: Pair, tmp_path: Path) -> None:
    nobody = Broker(f"unix://{tmp_path}/nobody.sock", timeout_s=0.1)
    nowhere = Configuration(
        store=Store(cache_url=f"unix://{tmp_path}/nobody.sock"), cache=Settings(secret_file=str(tmp_path / "key"))
    )
    cut_off = Cache.open(nowhere, broker=nobody, remembers=False)

    with pytest.raises(BrokerUnavailable):
        await cut_off.invalidate(TAGS)

    await cut_off.stop()
    await nobody.close()


async def test_a_full_server_takes_nothing_new_but_every_invalidation(pair: Pair) -> None:
    await remember(pair.worker, pair.key, b'"old"', TAGS)
    other = key_of(pair.front, call(label="y"))
    with pair.server.client() as connected:
        client: Any = connected
        client.config_set("maxmemory", 1)

        assert not await remember(pair.worker, other, b'"new"', TAGS)
        assert await pair.worker.begin(other, ("repo:acme/api",), "reader") is None
        change = await pair.worker.changing(TAGS, "writer", hold_s=60)
        assert change is not None
        await pair.worker.changed(change)

        assert await value_of(pair.worker, pair.key) is None
        assert pair.worker.available
        client.config_set("maxmemory", 0)


async def test_level_1_is_empty_after_its_ear_was_cut_off(pair: Pair) -> None:
    await remember(pair.worker, pair.key, b'"old"', TAGS)
    await in_level_1(pair.front, pair.key)

    with pair.server.client() as connected:
        client: Any = connected
        client.client_kill_filter(_type="pubsub")

    async def empty() -> bool:
        return len(pair.front.level1) == 0

    await until_async(empty, "level 1 is empty", within_s=2)
    await pair.settled(True)
    assert await value_of(pair.front, pair.key) == b'"old"'


async def test_a_server_whose_data_was_flushed_makes_level_1_forget_too(pair: Pair) -> None:
    await remember(pair.worker, pair.key, b'"old"', TAGS)
    await in_level_1(pair.front, pair.key)

    with pair.server.client() as connected:
        client: Any = connected
        client.flushall()

    async def empty() -> bool:
        return len(pair.front.level1) == 0

    await until_async(empty, "level 1 is empty", within_s=2)


async def test_a_server_that_holds_something_else_under_our_names_breaks_nothing(pair: Pair) -> None:
    with pair.server.client() as connected:
        client: Any = connected
        client.lpush(f"ts:cached:{pair.key.name}", "x")
        client.lpush(f"ts:flight:{pair.key.flight}:{client.info('server')['run_id'][:12]}", "x")

        assert await value_of(pair.front, pair.key) is None
        assert await pair.front.lease(pair.key, "id", rank=0) is None
        await pair.front.let_go(pair.key, "id")
        client.flushall()


async def test_a_cache_that_is_switched_off_connects_to_nothing(broker: Broker, server: Valkey, tmp_path: Path) -> None:
    settings = Settings(enabled=False, secret_file=str(tmp_path / "key"))
    cache = Cache.open(Configuration(store=Store(cache_url=server.url), cache=settings), broker=broker)
    await cache.start()

    assert not cache.available
    assert cache.key(msgspec.structs.replace(READ, remember=Remember(ttl_s=5)), call()) is None
    assert await cache.changing(TAGS, "writer", hold_s=60) is None
    await cache.stop()
