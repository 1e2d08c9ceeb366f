"""`python -m benchmarks.ledger`: what the ledger costs a call, transition by transition, with one client.

A call passes accept, claim, (begin the effect, unless it is a read) and finish; each is one script and one round trip.
*Server* is the time the script takes in Valkey (`INFO commandstats`), so much of a call one server does for all.
"""

import asyncio
import sys
import time
from typing import Any

from benchmarks.measure import percentile
from store.connection import Broker
from store.ledger import Grant, Ledger
from tests.servers.submissions import submission
from tests.servers.valkey import Valkey
from toolswarm.messages import Effect, ToolResult
from toolswarm.states import State

CALLS = 3000
HELD = ["ts:unacked:tool.trial", "ts:unacked_index:tool.trial", "ts:bell:tool.trial"]
"""What a worker of the tool `trial` takes with."""


async def measure(valkey: Valkey) -> dict[str, list[float]]:
    """Seconds that each transition of each call took."""
    broker = Broker(valkey.url)
    ledger = Ledger(broker, retention_s=60, call_deadline_s=60, max_attempts=3)
    took: dict[str, list[float]] = {"accept": [], "claim": [], "begin effect": [], "finish": []}

    async def one() -> None:
        order = submission(Effect.ONCE)
        at = [time.perf_counter()]
        await ledger.accept(order)
        at.append(time.perf_counter())
        grant = await ledger.claim(order.call.id, worker="w", nonce="n", lease_s=3)
        at.append(time.perf_counter())
        if not isinstance(grant, Grant):
            raise TypeError(f"not granted: {grant}")
        await ledger.begin_effect(grant)
        at.append(time.perf_counter())
        await ledger.finish(grant, ToolResult(id=grant.id, status=State.SUCCEEDED, value="done"))
        at.append(time.perf_counter())
        for name, before, after in zip(took, at, at[1:], strict=False):
            took[name].append(after - before)

    for count in range(CALLS):
        await one()
        if count % 100 == 99:  # a worker takes the tasks away meanwhile
            taken: list[bytes] = await broker.script("take", [*HELD, "tool.trial", "tool.trial\x06\x163"], [200])
            await broker.script("ack", HELD, [order.split(b'"')[5].decode() for order in taken[1::2]])
    await broker.close()
    return took


def describe() -> str:
    """One sentence for the page."""
    valkey = Valkey()
    valkey.start()
    try:
        took = asyncio.run(measure(valkey))
        with valkey.client() as connected:
            client: Any = connected
            stats: dict[str, dict[str, float]] = client.info("commandstats")
    finally:
        valkey.stop()
    calls = [sum(times) for times in zip(*took.values(), strict=True)]
    server_us = stats["cmdstat_evalsha"]["usec"] / CALLS
    parts = ", ".join(f"{name} {percentile(times, 50) * 1000:.2f}" for name, times in took.items())
    return (
        f"The ledger's four round trips took {percentile(calls, 50) * 1000:.2f} ms a call at the median "
        f"({parts}), {percentile(calls, 99) * 1000:.2f} ms at the 99th percentile; of this the server was busy for "
        f"{server_us / 1000:.2f} ms, taking and acknowledging included ({CALLS:,} calls, one after the other)."
    )


if __name__ == "__main__":
    print(describe())
    sys.exit(0)
