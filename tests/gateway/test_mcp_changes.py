"""Whoever listens hears that the list of tools has changed, at whatever gateway, and then reads the new list."""

import asyncio
from collections.abc import Iterator

import pytest
from mcp.shared.subscriptions import ToolsListChanged

from store.catalogue import publish
from store.connection import Broker
from tests.gateway.mcp_stack import Swarm, swarm
from tests.servers.mcp_clients import connected
from toolswarm.messages import Operation


@pytest.fixture(scope="module")
def running() -> Iterator[Swarm]:
    with swarm() as found:
        yield found


async def test_a_new_tool_is_told_of_at_every_gateway_and_listed_there(running: Swarm) -> None:
    added = Operation(tool="new", name="thing", title="New", description="New.", parameters={"type": "object"})
    broker = Broker(running.stack.valkey.url)

    async with connected(running.url) as one, connected(running.other_url) as other:
        async with one.listen(tools_list_changed=True) as first, other.listen(tools_list_changed=True) as second:
            await publish(broker, "new", [added])
            async with asyncio.timeout(5):
                heard = await anext(first), await anext(second)
        listed = [[tool.name for tool in (await client.list_tools()).tools] for client in (one, other)]
    await broker.close()

    assert heard == (ToolsListChanged(), ToolsListChanged())
    assert all("new_thing" in names for names in listed)
