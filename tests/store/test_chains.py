"""Fallback chains that are set while the swarm runs."""

import asyncio

import pytest

from store.chains import LONGEST, FallbackChains
from store.connection import Broker
from tests.servers.valkey import Valkey
from toolswarm.errors import InvalidRequest

CONFIGURED = {"droplet": ("desktop",)}


async def test_what_was_set_stands_over_the_configuration_until_it_is_given_back(broker: Broker) -> None:
    chains = FallbackChains(broker, CONFIGURED)

    set_since = await chains.set("droplet", ("github", "desktop"))
    emptied = await chains.set("droplet", ())
    given_back = await chains.set("droplet", None)

    assert set_since == {"droplet": ("github", "desktop")}
    assert emptied == {"droplet": ()}
    assert given_back == CONFIGURED


async def test_another_process_sees_it_when_its_copy_is_too_old(broker: Broker) -> None:
    now = 100.0
    other = FallbackChains(broker, CONFIGURED, clock=lambda: now)
    before = await other.read()

    await FallbackChains(broker, CONFIGURED).set("github", ("desktop",))
    at_once = await other.read()
    now += 2.1
    later = await other.read()

    assert at_once is before
    assert later == CONFIGURED | {"github": ("desktop",)}


async def test_chains_are_read_although_the_connection_that_lay_idle_is_broken(valkey: Valkey, broker: Broker) -> None:
    chains = FallbackChains(broker, CONFIGURED)
    await chains.read()
    valkey.kill()
    valkey.start()

    again = await chains.read(at_most_s=0.0)

    assert again == CONFIGURED


@pytest.mark.parametrize(
    ("name", "chain", "why"),
    [
        ("desktop", ("droplet",), "comes back to"),
        ("droplet", ("droplet",), "comes back to"),
        ("droplet", ("desktop.read_file",), "a tool falls back to tools"),
        ("droplet.read_file", ("desktop",), "an operation to operations"),
        ("../x", ("desktop",), "a chain is of tools"),
        ("droplet", ("a b",), "a chain is of tools"),
        ("droplet", tuple(f"tool_{number}" for number in range(LONGEST + 1)), "more than"),
    ],
)
async def test_what_is_no_chain_or_a_loop_is_refused(
    broker: Broker, name: str, chain: tuple[str, ...], why: str
) -> None:
    chains = FallbackChains(broker, CONFIGURED)

    with pytest.raises(InvalidRequest, match=why):
        await chains.set(name, chain)

    assert await chains.read(at_most_s=0.0) == CONFIGURED


async def test_two_that_are_set_at_once_cannot_be_a_loop_together(broker: Broker) -> None:
    for _ in range(20):
        first, second = FallbackChains(broker, {}), FallbackChains(broker, {})

        done = await asyncio.gather(first.set("one", ("other",)), second.set("other", ("one",)), return_exceptions=True)

        assert [type(one) for one in done].count(InvalidRequest) == 1
        await asyncio.gather(first.set("one", None), second.set("other", None))
