"""No answer crosses an authorization context: tenants, principals, credentials and secrets, attacked at random."""

import itertools
import json
import random
from typing import Any

import msgspec
import pytest

from cache import Cache, Key
from tests.cache.conftest import Open
from tests.servers.memories import READ, call, key_of, remember, value_of
from tests.servers.valkey import Valkey
from toolswarm.messages import Operation

TENANTS = ("acme", "globex", "acme2", "default")
PRINCIPALS = ("ann", "bob")
CREDENTIALS = ("credential-1", "credential-2")
LABELS = ("x", "y", "acme")
CONTEXTS = list(itertools.product(TENANTS, PRINCIPALS, CREDENTIALS, LABELS))


def with_credential(credential: str) -> Operation:
    """The operation as a worker with this credential describes it (workers/remembering.py, `edition_of`)."""
    return msgspec.structs.replace(READ, version=credential)


def keys_of(cache: Cache) -> dict[tuple[str, str, str, str], Key]:
    return {
        (tenant, principal, credential, label): key_of(
            cache, call(tenant=tenant, principal=principal, label=label), with_credential(credential)
        )
        for tenant, principal, credential, label in CONTEXTS
    }


def canary(context: tuple[str, ...]) -> bytes:
    return json.dumps("/".join(context)).encode()


@pytest.fixture
async def cache(open_cache: Open) -> Cache:
    """Principals of a tenant share nothing: each combination is a context of its own."""
    return await open_cache(sharing="principal", local_bytes=0)


async def test_each_context_finds_its_own_canary_and_no_other(cache: Cache) -> None:
    names = keys_of(cache)
    filled, order = list(names), random.Random(7)
    order.shuffle(filled)
    filled = filled[: len(filled) // 2]

    for context in filled:
        await remember(cache, names[context], canary(context))

    for context, key in names.items():
        assert await value_of(cache, key) == (canary(context) if context in filled else None)


async def test_an_answer_that_was_moved_to_another_context_is_refused(cache: Cache, cache_server: Valkey) -> None:
    names = keys_of(cache)
    for context, key in names.items():
        await remember(cache, key, canary(context))
    entries = [f"ts:cached:{key.name}" for key in names.values()]

    with cache_server.client() as connected:
        client: Any = connected
        stored = client.mget(entries)
        for place, value in zip(entries, stored[1:] + stored[:1], strict=True):
            client.set(place, value, ex=60)

    assert {await value_of(cache, key) for key in names.values()} == {None}


async def test_no_flipped_bit_of_an_entry_makes_another_answer(cache: Cache, cache_server: Valkey) -> None:
    context, key = next(iter(keys_of(cache).items()))
    await remember(cache, key, canary(context))
    name, chance = f"ts:cached:{key.name}", random.Random(7)

    with cache_server.client() as connected:
        client: Any = connected
        whole = client.get(name)
        for _ in range(200):
            flipped = bytearray(whole)
            flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
            client.set(name, bytes(flipped), ex=60)
            assert await value_of(cache, key) is None
        client.set(name, whole, ex=60)

    assert await value_of(cache, key) == canary(context)


async def test_where_a_tenant_shares_its_principals_do_and_nobody_else(open_cache: Open) -> None:
    cache = await open_cache(local_bytes=0)
    names = keys_of(cache)

    await remember(cache, names["acme", "ann", "credential-1", "x"], b'"acme only"')

    found = {context for context, key in names.items() if await value_of(cache, key) is not None}
    assert found == {("acme", "ann", "credential-1", "x"), ("acme", "bob", "credential-1", "x")}
