"""A second Valkey, as the cache, and caches on it as different processes have them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cache import Cache
from store.configuration import Cache as Settings
from store.configuration import Configuration, Store
from store.connection import Broker
from tests.servers.valkey import Valkey

Open = Callable[..., Awaitable[Cache]]


@pytest.fixture(scope="session")
def one_cache_server() -> Iterator[Valkey]:
    server = Valkey()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def cache_server(one_cache_server: Valkey) -> Iterator[Valkey]:
    """An empty Valkey; afterwards every key that is left must have an expiry."""
    with one_cache_server.client() as connected:
        client: Any = connected
        client.flushall()
        client.config_set("maxmemory", 0)
        yield one_cache_server
        client.config_set("maxmemory", 0)
        assert [key for key in client.scan_iter("ts:*") if client.ttl(key) == -1] == []


@pytest.fixture
async def open_cache(cache_server: Valkey, valkey: Valkey, broker: Broker, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens caches that know the same secret; settings of the section `cache` may be given."""
    opened: list[Cache] = []

    async def open_one(*, remembers: bool = True, broker_is: Broker | None = None, **settings: Any) -> Cache:
        section = msgspec.structs.replace(Settings(secret_file=str(tmp_path / "key")), **settings)
        configuration = Configuration(store=Store(broker_url=valkey.url, cache_url=cache_server.url), cache=section)
        cache = Cache.open(configuration, broker=broker_is or broker, remembers=remembers)
        opened.append(cache)
        await cache.start()
        return cache

    yield open_one
    for cache in opened:
        await cache.stop()
