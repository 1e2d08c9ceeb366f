"""The chaos tests' broker listens on TCP, too, so that a way to it can lead over a relay."""

from collections.abc import Iterator

import pytest

from tests.servers.valkey import Valkey


@pytest.fixture(scope="session")
def one_valkey() -> Iterator[Valkey]:
    server = Valkey(tcp=True)
    server.start()
    yield server
    server.stop()
