"""What a caller may ask of the result cache, with a real worker and a cache Redis of its own."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from routing.front import Caller, Front
from tests.servers.stack import Stack
from tests.servers.valkey import Valkey
from tests.servers.waiting import until_async
from toolswarm.cache_messages import CacheEntry, CachePage, CacheRequest, PopularRead
from toolswarm.errors import BrokerUnavailable, InvalidRequest, UnknownOperation
from toolswarm.messages import CacheMode, SubmitBody, ToolResult

ANN = Caller("acme", "ann")
STRANGER = Caller("another", "eve")


@pytest.fixture
def cache_server() -> Iterator[Valkey]:
    server = Valkey()
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def desk(stack: Stack, cache_server: Valkey) -> AsyncIterator["Desk"]:
    stack.settings |= {
        "TOOLSWARM_STORE__CACHE_URL": cache_server.url,
        "TOOLSWARM_TOOLS__MODULES": '["tests.servers.warm_tool"]',
        "TOOLSWARM_CACHE__SECRET_FILE": str(stack.folder / "cache.key"),
        "TOOLSWARM_CACHE__TIMEOUT_S": "3.0",
        "TOOLSWARM_CACHE__WARM_PER_MINUTE": "2",
    }
    stack.start_worker("warmth", "w1")
    front = await stack.front()
    yield Desk(front, stack)
    await front.close()


class Desk:
    """Calls, and asks about them."""

    def __init__(self, front: Front, stack: Stack) -> None:
        self.front = front
        self._stack = stack

    async def call(self, label: str, caller: Caller = ANN, **arguments: str) -> ToolResult:
        result = await self.front.submit(keep(label, **arguments), caller)
        return result if result.status.terminal else await self.front.result(result.id, caller, 10)

    async def entry(self, body: SubmitBody, caller: Caller = ANN) -> CacheEntry:
        page = await self.front.cache("get", CacheRequest(call=body), caller)
        assert page.entry is not None
        return page.entry

    async def popular(self, count: int, caller: Caller = ANN) -> tuple[PopularRead, ...]:
        """The caller's popular calls, once they are so many."""
        page = CachePage()

        async def counted() -> bool:
            nonlocal page
            page = await self.front.cache("stats", CacheRequest(), caller)
            return len(page.popular) >= count

        await until_async(counted, f"{count} calls are popular")
        return page.popular

    def refreshes(self) -> list[str]:
        return [line.split()[1] for line in self._stack.marked() if line.startswith(CacheMode.REFRESH)]


def keep(label: str, **arguments: str) -> SubmitBody:
    return SubmitBody(operation="warmth.keep", arguments={"label": label, **arguments})


async def test_what_is_remembered_of_a_call_is_shown(desk: Desk) -> None:
    await desk.call("a")

    entry = await desk.entry(SubmitBody(operation="keep", arguments={"label": "a"}))

    assert (entry.operation, entry.remembered, entry.value) == ("warmth.keep", True, "a")
    assert (entry.tags, entry.place, entry.ttl_s) == (("label:a",), "web-1", 60.0)
    assert entry.age_s < 10
    assert 50 < entry.fresh_s <= 60


async def test_why_nothing_is_remembered_is_said(desk: Desk) -> None:
    never_asked = await desk.entry(keep("b"))
    never_kept = await desk.entry(SubmitBody(operation="warmth.glance", arguments={"label": "b"}))

    assert (never_asked.remembered, never_asked.ttl_s) == (False, 60.0)
    assert "not asked for" in never_asked.why
    assert "not remembered" in never_kept.why


async def test_another_tenant_sees_neither_answers_nor_popular_calls(desk: Desk) -> None:
    await desk.call("a")
    await desk.call("a")
    mine = await desk.popular(1)

    theirs = await desk.front.cache("stats", CacheRequest(), STRANGER)

    assert [one.arguments for one in mine] == [{"label": "a"}]
    assert theirs.popular == ()
    assert not (await desk.entry(keep("a"), STRANGER)).remembered
    assert (await desk.front.cache("warm", CacheRequest(), STRANGER)).popular == ()


async def test_popular_calls_are_shown_without_what_is_secret(desk: Desk) -> None:
    for _ in range(3):
        await desk.call("a", password="hunter2")

    (popular,) = await desk.popular(1)

    assert popular.operation == "warmth.keep"
    assert popular.arguments == {"label": "a", "password": "(not shown)"}
    assert popular.per_minute > 1
    assert popular.ttl_s == 60.0
    assert popular.warmed_ago_s is None


async def test_after_an_invalidation_the_next_call_runs(desk: Desk) -> None:
    await desk.call("a")
    before = await desk.call("a")

    page = await desk.front.cache("invalidate", CacheRequest(tags=("label:a", "label:b")), ANN)

    assert page.invalidated == ("label:a", "label:b")
    assert before.meta.cache == "hit"
    assert not (await desk.entry(keep("a"))).remembered
    assert (await desk.call("a")).meta.cache == "miss"


async def test_popular_calls_are_refreshed_within_the_budget_when_somebody_says_so(desk: Desk) -> None:
    for label in ("a", "b", "c"):
        await desk.call(label)
        await desk.call(label)
    await desk.popular(3)

    page = await desk.front.cache("warm", CacheRequest(tool="warmth"), ANN)

    async def refreshed() -> bool:
        return len(desk.refreshes()) == 2

    await until_async(refreshed, "two are refreshed")
    assert len(page.popular) == 2
    assert sorted(one.arguments["label"] for one in page.popular) == sorted(desk.refreshes())


async def test_the_cache_says_how_it_stands(desk: Desk) -> None:
    await desk.call("a")
    await desk.call("a")

    page = await desk.front.cache("stats", CacheRequest(), ANN)

    assert page.stats is not None
    assert (page.stats.counts["miss"], page.stats.counts["hit"]) == (1, 1)
    assert page.stats.server["used_bytes"] > 0


async def test_without_the_cache_stats_are_empty_and_an_invalidation_is_owed(
    desk: Desk, cache_server: Valkey, stack: Stack
) -> None:
    await desk.call("a")
    cache_server.kill()

    page = await desk.front.cache("stats", CacheRequest(), ANN)
    await desk.front.cache("invalidate", CacheRequest(tags=("label:a",)), ANN)

    assert page.stats is not None
    assert (page.stats.server, page.popular) == ({}, ())
    with stack.valkey.client() as connected:
        client: Any = connected
        assert client.zcard("ts:cache:owed") == 1
    with pytest.raises(BrokerUnavailable):
        await desk.front.cache("warm", CacheRequest(), ANN)


async def test_what_an_action_needs_is_said(desk: Desk) -> None:
    for action, request, said in (
        ("burn", CacheRequest(), "not 'burn'"),
        ("get", CacheRequest(), "call"),
        ("invalidate", CacheRequest(), "tags"),
        ("invalidate", CacheRequest(tags=("x" * 301,)), "tags"),
        ("warm", CacheRequest(tool="nothing"), "no tool 'nothing'"),
        ("stats", CacheRequest(limit=0), "limit"),
    ):
        with pytest.raises(InvalidRequest, match=said):
            await desk.front.cache(action, request, ANN)

    with pytest.raises(UnknownOperation):
        await desk.entry(SubmitBody(operation="warmth.nothing"))
