"""A swarm to learn with: a gateway, a worker of each kind that the tutorial uses, and a client."""

from collections.abc import Iterator

import pytest

from tests.servers.gateway import start_gateway
from tests.servers.stack import API_KEY, Stack
from tests.servers.valkey import Valkey
from toolswarm import Client


@pytest.fixture(scope="module")
def one_stack() -> Iterator[Stack]:
    server = Valkey()
    server.start()
    stack = Stack(server)
    stack.start_beat()
    stack.start_worker("desktop", "desktop-1")
    stack.start_worker("trial", "trial-1")
    yield stack
    stack.close()
    server.stop()


@pytest.fixture(scope="module")
def url(one_stack: Stack) -> str:
    return start_gateway(one_stack)


@pytest.fixture
def swarm(url: str) -> Iterator[Client]:
    with Client(url, API_KEY) as client:
        yield client
