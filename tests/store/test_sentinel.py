"""Redis behind Sentinel: what its URLs say, and that connections go to the master."""

from collections.abc import Iterator

import pytest

from local.redis_wire import ask
from local.services import without_password
from store.connection import Broker, celery_url
from store.sentinel_url import SentinelUrl, parse
from tests.servers.sentinels import PASSWORD, Sentinels
from tests.servers.waiting import until_async
from toolswarm.errors import BrokerUnavailable, ConfigurationError

TWO = (("one", 26379), ("two", 26380))


@pytest.fixture(scope="module")
def sentinels() -> Iterator[Sentinels]:
    servers = Sentinels()
    servers.start()
    yield servers
    servers.stop()


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://u:p%40w@one:26379,two:26380/calls/2",
        "sentinel://u:p%40w@one:26379;two:26380/calls/2",
        "sentinel://u:p%40w@one:26379;sentinel://u:p%40w@two:26380/2?master_name=calls",
        "redis+sentinel://u:p%40w@one,two:26380/calls?db=2",
    ],
)
def test_each_spelling_of_a_sentinel_url_says_the_same(url: str) -> None:
    assert parse(url) == SentinelUrl(sentinels=TWO, service="calls", database=2, username="u", password="p@w")


@pytest.mark.parametrize("url", ["redis+sentinel://:hunter2@one:26379", "sentinel://:hunter2@/calls"])
def test_a_url_without_a_service_or_a_sentinel_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="redis\\+sentinel://host:26379,host:26379/service") as refused:
        parse(url)

    assert "hunter2" not in str(refused.value)


def test_what_is_shown_of_a_url_holds_no_password() -> None:
    url = "sentinel://u:hunter2@one;sentinel://u:hunter2@two/2?master_name=calls&sentinel_password=hunter2"

    assert without_password(url) == "redis+sentinel://one:26379,two:26379/calls/2"


async def test_the_supervisor_asks_the_master(sentinels: Sentinels) -> None:
    (role,) = await ask(sentinels.url, ("ROLE",))

    assert isinstance(role, list)
    assert role[0] == b"master"


def test_celery_gets_the_login_and_the_database() -> None:
    url = "redis+sentinel://u:p%40w@one:26379,two:26380/calls/2"

    assert celery_url(url, "toolswarm") == "toolswarm://u:p%40w@one:26379/2"


async def test_a_replica_that_takes_no_writes_counts_as_away(sentinels: Sentinels) -> None:
    replica = next(server for server in sentinels.servers if server != sentinels.master())
    broker = Broker(f"redis://:{PASSWORD}@127.0.0.1:{replica}/0")

    with pytest.raises(BrokerUnavailable):
        await broker.command("SET", "ts-test:c", "1", "EX", 60)

    await broker.close()


async def test_commands_follow_when_the_master_is_handed_over(sentinels: Sentinels) -> None:
    broker = Broker(sentinels.url)
    await broker.command("PING")
    old = sentinels.hand_over()

    async def written() -> bool:
        try:
            return bool(await broker.command("SET", "ts-test:b", "1", "EX", 60) == b"OK")
        except BrokerUnavailable:
            return False

    sentinels.wait_for_failover(old)
    await until_async(written, "the new master takes it", within_s=30)
    await broker.close()


async def test_commands_follow_a_failover_and_none_goes_to_a_replica(sentinels: Sentinels) -> None:
    broker = Broker(sentinels.url)
    await broker.command("SET", "ts-test:a", "1", "EX", 60)
    old = sentinels.kill_master()

    async def answered() -> bool:
        try:
            return bool(await broker.command("GET", "ts-test:a") == b"1")
        except BrokerUnavailable:
            return False

    await until_async(answered, "the new master answers", within_s=30)
    role = await broker.command("ROLE")
    await broker.close()

    assert role[0] == b"master"
    assert sentinels.master() != old
