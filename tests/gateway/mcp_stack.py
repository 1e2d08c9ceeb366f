"""One stack for the MCP tests of a module: two gateways, and workers that run the tools."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

from tests.servers.gateway import start_gateway
from tests.servers.stack import Stack
from tests.servers.valkey import Valkey


class Swarm(NamedTuple):
    """What runs."""

    stack: Stack
    url: str
    other_url: str
    """Of a second gateway on the same broker."""


@contextmanager
def swarm(**settings: str) -> Generator[Swarm]:
    """Run it for the time of the block."""
    valkey = Valkey()
    valkey.start()
    stack = Stack(valkey)
    stack.settings["TOOLSWARM_TOOLS__MODULES"] = '["tests.servers.trial_tool", "tests.conformance.fixture_tool"]'
    try:
        stack.start_worker("trial", "w1")
        stack.start_worker("conformance", "w2")
        yield Swarm(stack, start_gateway(stack, **settings), start_gateway(stack, **settings))
    finally:
        stack.close()
        valkey.stop()
