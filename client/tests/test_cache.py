"""`cache` of the clients and of the command: what is asked of the swarm, and what is printed."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import pytest

from client.tests.router_pool import API_KEY, RouterPool, running_valkey
from client.tests.scripted_gateway import ScriptedGateway, problem, succeeded
from toolswarm import AsyncClient, Client
from toolswarm.cache_messages import CacheEntry, CachePage, CacheRequest, CacheStats, PopularRead
from toolswarm.cli.main import main
from toolswarm.errors import InvalidRequest
from toolswarm.intake import IntakeReply
from toolswarm.messages import Context, SubmitBody

POPULAR = PopularRead(
    operation="github.get_repo",
    arguments={"repo": "acme/web"},
    per_minute=12.5,
    cost_s=0.25,
    ttl_s=60.0,
    fresh_s=12.0,
    asked_ago_s=3.0,
    warmed_ago_s=48.0,
)
STATS = CachePage(
    stats=CacheStats(at=1.0, counts={"hit": 9, "miss": 1}, server={"used_bytes": 5}, warmed={"github": {"warmed": 3}}),
    popular=(POPULAR,),
)


class Ran(NamedTuple):
    status: int
    out: str
    err: str


Cli = Callable[..., Ran]


@pytest.fixture
def cli(gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.setenv("TOOLSWARM_URL", gateway.url)
    monkeypatch.setenv("TOOLSWARM_API_KEY", "the-key")

    def run(*words: str) -> Ran:
        status = main(words)
        out, err = capsys.readouterr()
        return Ran(status, out, err)

    return run


def test_both_clients_ask_the_gateway(gateway: ScriptedGateway) -> None:
    gateway.answers("POST /v1/cache:invalidate", CachePage(invalidated=("repo:acme/web",)))

    with Client(gateway.url, "the-key") as swarm:
        page = swarm.cache("invalidate", CacheRequest(tags=("repo:acme/web",)))

    assert page.invalidated == ("repo:acme/web",)
    assert gateway.asked[0].json() == {"tags": ["repo:acme/web"]}


async def test_the_async_client_asks_the_same(gateway: ScriptedGateway) -> None:
    gateway.answers("POST /v1/cache:stats", STATS)

    async with AsyncClient(gateway.url, "the-key") as swarm:
        page = await swarm.cache()

    assert page == STATS
    assert gateway.asked[0].json() == {}


def test_an_action_that_is_none_is_refused(gateway: ScriptedGateway) -> None:
    gateway.answers("POST /v1/cache:burn", problem("invalid_request", 400, "the cache can not be burnt"))

    with Client(gateway.url, "the-key") as swarm, pytest.raises(InvalidRequest, match="burnt"):
        swarm.cache("burn")


def test_it_goes_through_the_broker_too() -> None:
    with running_valkey() as valkey, valkey.connect() as connection:
        pool = RouterPool(connection, lambda asked: IntakeReply(id=asked.id, ok=msgspec.to_builtins(STATS)))
        pool.start()
        try:
            with Client(valkey.url, API_KEY) as swarm:
                page = swarm.cache("warm", CacheRequest(tool="github"))
        finally:
            pool.stop()

    assert page == STATS
    assert pool.requests[0].params == {"action": "warm", "request": {"tool": "github"}}


def test_stats_are_shown(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers("POST /v1/cache:stats", STATS)

    ran = cli("cache")

    assert ran.status == 0
    for shown in ("9 hit, 1 miss", "used_bytes 5", "github: 3 warmed", "github.get_repo", "12.5", "acme/web"):
        assert shown in ran.out


def test_a_cache_that_is_away_is_said(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers("POST /v1/cache:stats", CachePage(stats=CacheStats(at=1.0)))

    assert "does not answer" in cli("cache", "stats").out


def test_what_is_remembered_of_a_call_is_shown(gateway: ScriptedGateway, cli: Cli) -> None:
    entry = CacheEntry(
        operation="github.get_repo", remembered=True, fresh_s=56.8, age_s=3.2, tags=("repo:a/b",), value="v"
    )
    gateway.answers("POST /v1/cache:get", CachePage(entry=entry))

    ran = cli("cache", "get", "get_repo", "repo=b", "--repo", "a/b")

    assert ran == (0, 'github.get_repo: remembered, 3.2 s old, fresh for 56.8 s\ntags: repo:a/b\n"v"\n', "")
    asked = msgspec.json.decode(gateway.asked[0].body, type=CacheRequest)
    assert asked.call == SubmitBody(operation="get_repo", arguments={"repo": "b"}, context=Context(repo="a/b"))


def test_a_call_of_which_nothing_is_remembered_ends_with_1(gateway: ScriptedGateway, cli: Cli) -> None:
    entry = CacheEntry(operation="github.create_issue", why="not cacheable")
    gateway.answers("POST /v1/cache:get", CachePage(entry=entry))

    ran = cli("cache", "get", "create_issue")

    assert (ran.status, ran.out) == (1, "github.create_issue: nothing is remembered: not cacheable\n")


def test_tags_are_invalidated(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers("POST /v1/cache:invalidate", CachePage(invalidated=("repo:a/b", "host:web-1")))

    ran = cli("cache", "invalidate", "repo:a/b", "host:web-1")

    assert ran == (0, "nothing older is used any more: repo:a/b, host:web-1\n", "")


def test_warming_says_what_is_refreshed(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers("POST /v1/cache:warm", CachePage(popular=(POPULAR,)), CachePage())

    shown, nothing = cli("cache", "warm", "--tool", "github", "--limit", "5"), cli("cache", "warm")

    assert "1 being refreshed" in shown.out
    assert nothing.out == "nothing to refresh\n"
    assert gateway.asked[0].json() == {"tool": "github", "limit": 5}


@pytest.mark.parametrize("words", [("invalidate",), ("get",), ("warm", "github"), ("burn",)])
def test_a_command_that_lacks_something_is_refused(cli: Cli, words: tuple[str, ...]) -> None:
    ran = cli("cache", *words)

    assert ran.status == 2
    assert ran.err.startswith("error: ")


def test_a_call_may_refresh_what_is_remembered_or_leave_the_cache_alone(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers("POST /v1/calls", succeeded(1))

    refreshed, both = cli("call", "x", "--refresh"), cli("call", "x", "--refresh", "--no-cache")

    assert (refreshed.status, both.status) == (0, 2)
    assert gateway.asked[0].json()["cache"] == "refresh"


def test_json_prints_one_document(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers("POST /v1/cache:stats", STATS)

    assert msgspec.json.decode(cli("cache", "stats", "--json").out, type=CachePage) == STATS
