"""How tenants share a queue, against a real Valkey."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import keys
from store.connection import Broker
from store.ledger import Ledger, Share
from tests.servers.submissions import submission
from tests.servers.valkey import Valkey
from toolswarm.errors import Overloaded

LIST = keys.queue_list("tool.trial", 3)
HELD = [keys.unacked_key("tool.trial"), keys.unacked_index_key("tool.trial"), keys.bell_key("tool.trial")]


async def accept(ledger: Ledger, tenant: str, share: Share | None = None) -> str:
    order = submission()
    message = {"headers": {"toolswarm": {"tenant": tenant}}, "properties": {"delivery_tag": order.call.id}}
    call = msgspec.structs.replace(order.call, tenant=tenant)
    order = msgspec.structs.replace(
        order, call=call, message=json.dumps(message).encode(), share=share or Share(), request_hash=call.id
    )
    return (await ledger.accept(order)).id


async def take(broker: Broker, room: int) -> list[tuple[str, str]]:
    """Tenant and id of what a worker with that much room gets."""
    reply: list[bytes] = await broker.script("take", [*HELD, "tool.trial", LIST], [room])
    taken: list[Any] = [json.loads(message) for message in reply[1::2]]
    return [(one["headers"]["toolswarm"]["tenant"], one["properties"]["delivery_tag"]) for one in taken]


async def ack(broker: Broker, *ids: str) -> None:
    await broker.script("ack", HELD, ids)


async def test_one_call_of_a_small_tenant_does_not_wait_behind_a_thousand_of_another(
    ledger: Ledger, broker: Broker
) -> None:
    for _ in range(1000):
        await accept(ledger, "big")
    await accept(ledger, "small")

    taken = await take(broker, 8)

    assert "small" in [tenant for tenant, _ in taken[:5]]


async def test_a_tenant_with_a_line_gives_way_to_a_small_burst_of_another(ledger: Ledger, broker: Broker) -> None:
    for _ in range(100):
        await accept(ledger, "big")
    await take(broker, 10)  # what lay in the list when the line began is gone
    for _ in range(4):
        await accept(ledger, "small")

    tenants = [tenant for tenant, _ in await take(broker, 6)]

    assert tenants.count("small") == 4


async def test_tenants_are_served_in_proportion_to_their_windows(ledger: Ledger, broker: Broker) -> None:
    for _ in range(300):
        await accept(ledger, "double", Share(window=8))
        await accept(ledger, "single")

    tenants = [tenant for tenant, _ in await take(broker, 240)]

    assert 150 <= tenants.count("double") <= 170


async def test_calls_of_one_tenant_keep_their_order(ledger: Ledger, broker: Broker) -> None:
    accepted = [await accept(ledger, "a") for _ in range(50)]

    taken = [call_id for _, call_id in await take(broker, 50)]

    assert taken == accepted


async def test_a_tenant_runs_no_more_than_its_limit_and_the_next_follows_an_end(ledger: Ledger, broker: Broker) -> None:
    for _ in range(10):
        await accept(ledger, "a", Share(most_held=2))
    await accept(ledger, "b")

    first = await take(broker, 10)
    again = await take(broker, 10)
    await ack(broker, next(call_id for tenant, call_id in first if tenant == "a"))
    after = await take(broker, 10)

    assert sorted(tenant for tenant, _ in first) == ["a", "a", "b"]
    assert again == []
    assert [tenant for tenant, _ in after] == ["a"]


async def test_more_than_may_wait_is_refused_and_leaves_nothing(ledger: Ledger, broker: Broker) -> None:
    for _ in range(5):
        await accept(ledger, "a", Share(most_waiting=5))

    with pytest.raises(Overloaded, match="5 calls of yours wait") as refused:
        await accept(ledger, "a", Share(most_waiting=5))

    assert refused.value.details["retry_after_s"] == 1
    assert len(await broker.command("KEYS", "ts:call:*")) == 5
    await accept(ledger, "b", Share(most_waiting=5))


async def test_a_full_queue_refuses_every_tenant(ledger: Ledger) -> None:
    for number in range(5):
        await accept(ledger, f"tenant-{number}")

    with pytest.raises(Overloaded, match="of all tenants"):
        await accept(ledger, "another", Share(most_waiting_of_all=5))


async def test_lines_survive_a_purge_of_the_shared_list(ledger: Ledger, broker: Broker) -> None:
    for _ in range(10):
        await accept(ledger, "a")
    await broker.command("DEL", LIST)

    taken = await take(broker, 10)

    assert len(taken) == 6  # four lay in the list that was purged: the sweep puts them there again


SERVER = Valkey()


def setup_module() -> None:
    SERVER.start()


def teardown_module() -> None:
    SERVER.stop()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("accept"), st.sampled_from(["a", "b", "c"])),
        st.tuples(st.just("take"), st.integers(1, 6)),
        st.tuples(st.just("ack"), st.integers(0, 5)),
        st.tuples(st.just("give_back"), st.integers(0, 5)),
    ),
    max_size=60,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
async def test_whatever_happens_every_task_is_somewhere_and_in_the_end_taken(steps: list[tuple[str, Any]]) -> None:
    broker = Broker(SERVER.url)
    ledger = Ledger(broker, retention_s=60, call_deadline_s=60, max_attempts=3)
    await broker.command("FLUSHALL")
    share = {"a": Share(most_held=2), "b": Share(window=1), "c": Share()}
    waiting: set[str] = set()
    held: list[str] = []
    for step, value in steps:
        if step == "accept":
            waiting.add(await accept(ledger, value, share[value]))
        elif step == "take":
            taken = [call_id for _, call_id in await take(broker, value)]
            assert waiting.issuperset(taken)
            waiting.difference_update(taken)
            held += taken
        elif held:
            call_id = held.pop(value % len(held))
            if step == "ack":
                await ack(broker, call_id)
            else:
                await broker.script("give_back", HELD, [call_id])
                waiting.add(call_id)

    while held or waiting:
        await ack(broker, *held)
        held = [call_id for _, call_id in await take(broker, 100)]
        assert held or not waiting, f"{len(waiting)} tasks are nowhere"
        waiting.difference_update(held)

    assert await broker.command("HGETALL", keys.DEPTH) == []
    assert await broker.command("KEYS", "ts:held:*") == []
    await broker.close()
