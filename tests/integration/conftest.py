"""Calls run with each broker: the ledger's Redis alone, and RabbitMQ beside it.

Tests marked with BOTH_BROKERS run on both; `TOOLSWARM_TEST_BROKER=rabbitmq` runs all others on RabbitMQ, too.
"""

import os
from collections.abc import Iterator

import pytest

from tests.servers.rabbitmq import RabbitMq, require_rabbitmq
from tests.servers.stack import Stack
from tests.servers.valkey import Valkey


@pytest.fixture(scope="session")
def one_rabbitmq() -> Iterator[RabbitMq]:
    require_rabbitmq()
    server = RabbitMq()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def rabbitmq(one_rabbitmq: RabbitMq) -> RabbitMq:
    """A RabbitMQ without queues of ours."""
    one_rabbitmq.clear()
    return one_rabbitmq


@pytest.fixture
def stack(request: pytest.FixtureRequest, valkey: Valkey) -> Iterator[Stack]:
    processes = Stack(valkey)
    if getattr(request, "param", os.environ.get("TOOLSWARM_TEST_BROKER", "redis")) == "rabbitmq":
        processes.carry_tasks_by(request.getfixturevalue("rabbitmq"))
    yield processes
    processes.close()
