"""Calls and operations for the tests of the cache, and what a worker does with them in two steps."""

from collections.abc import Sequence
from typing import Any

from cache import Answer, Cache, Key
from tests.servers.waiting import until_async
from toolswarm.ids import new_call_id
from toolswarm.messages import Effect, Operation, Remember, ToolCall

READ = Operation(
    tool="memo",
    name="look",
    title="Look",
    description="Look.",
    parameters={"type": "object", "properties": {"label": {"type": "string"}, "limit": {"default": 30}}},
    effect=Effect.READ,
    remember=Remember(ttl_s=60),
    version="1",
)


def call(tenant: str = "default", principal: str = "default", **arguments: Any) -> ToolCall:
    return ToolCall(id=new_call_id(), operation=READ.full_name, tenant=tenant, principal=principal, arguments=arguments)


def key_of(cache: Cache, wanted: ToolCall, operation: Operation = READ) -> Key:
    key = cache.key(operation, wanted)
    assert key is not None
    return key


async def remember(cache: Cache, key: Key, value: bytes, tags: Sequence[str] = ()) -> bool:
    """A read from its begin to its end."""
    reading = await cache.begin(key, tags, "reader")
    assert reading is not None
    return await cache.fill(reading, Answer(value=value, cost_s=0.1))


async def value_of(cache: Cache, key: Key) -> bytes | None:
    found = await cache.get(key.name)
    return None if found is None else found.answer.value


async def in_level_1(cache: Cache, key: Key) -> None:
    """Return when the process answers from its own memory."""

    async def answers() -> bool:
        found = [await cache.get(key.name) for _ in range(5)][-1]  # in quick succession: its loop is awake
        return found is not None and found.level == 1

    await until_async(answers, "it is in level 1", within_s=2)


async def holder(cache: Cache, key: Key, call_id: str, *, rank: int, not_this: str = "") -> str:
    """The call that runs for all, when this one asks."""
    lease = await cache.lease(key, call_id, rank=rank, not_this=not_this)
    assert lease is not None
    return lease.holder
