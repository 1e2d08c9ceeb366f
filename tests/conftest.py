"""Fixtures that all tests share: a real Valkey, and the rule that no key of ours lives for ever."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from routing.front import Front
from store.connection import Broker
from store.ledger import Ledger
from tests.servers.stack import Stack
from tests.servers.valkey import Valkey


@pytest.fixture(scope="session")
def one_valkey() -> Iterator[Valkey]:
    server = Valkey()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def valkey(one_valkey: Valkey) -> Iterator[Valkey]:
    """An empty Valkey; afterwards every key of ours that is left must have an expiry."""
    with one_valkey.client() as connected:
        client: Any = connected
        client.flushall()
        yield one_valkey
        held = (b"ts:unacked",)  # vanish when they are empty
        immortal = [key for key in client.scan_iter("ts:*") if client.ttl(key) == -1 and not key.startswith(held)]
    assert immortal == []


@pytest.fixture
async def broker(valkey: Valkey) -> AsyncIterator[Broker]:
    connection = Broker(valkey.url)
    yield connection
    await connection.close()


@pytest.fixture
def ledger(broker: Broker) -> Ledger:
    return Ledger(broker, retention_s=60, call_deadline_s=60, max_attempts=3)


@pytest.fixture
def stack(valkey: Valkey) -> Iterator[Stack]:
    processes = Stack(valkey)
    yield processes
    processes.close()


@pytest.fixture
async def front(stack: Stack) -> AsyncIterator[Front]:
    opened = await stack.front()
    yield opened
    await opened.close()
