"""What is started, and who gets to know what."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.keys import provide_keys
from local.redis_server import broker_argv, cache_argv, find_server, refuse_unfit_broker, refuse_unfit_cache
from local.redis_wire import ask
from local.service import DrainStage, ServiceSpec
from local.services import Plan, Planner, ours_to_start, without_password
from local.state_folder import StateFolder
from store.configuration import Configuration, Local, PoolSettings, Store
from store.connection import SocketLogin, celery_url
from store.sections import Secret
from tests.local.systems import wait_until
from toolswarm.errors import BrokerUnavailable, ConfigurationError

SECRETS = {"MCP_API_KEY": "the-api-key", "GITHUB_TOKEN": "the-token", "POSTGRES_PASSWORD": "the-password"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    state = StateFolder(tmp_path / "state")
    state.create()
    yield state
    state.remove_socket_folder()


def plan(folder: StateFolder, configuration: Configuration | None = None, *, demo: bool = False) -> Plan:
    chosen = configuration or Configuration()
    keys = provide_keys(chosen, folder)
    return Planner(chosen, folder, environ={"PATH": "/bin", **SECRETS}, keys=keys, demo=demo).plan()


def names(specs: tuple[ServiceSpec, ...]) -> list[str]:
    return [spec.name for spec in specs]


def test_everything_is_started_when_nothing_is_configured(folder: StateFolder) -> None:
    specs = plan(folder).specs

    assert names(specs) == [
        "broker",
        "cache",
        "gateway",
        "desktop-1",
        "github-1",
        "droplet-1",
        "intake-1",
        "beat",
        "flower",
    ]


def test_each_secret_reaches_only_those_who_need_it(folder: StateFolder) -> None:
    specs = plan(folder).specs

    def knowing(word: str) -> list[str]:
        return [spec.name for spec in specs if word in " ".join((*spec.argv, *spec.environment.values()))]

    assert knowing("the-token") == ["github-1"]
    assert knowing("the-password") == []
    assert knowing("the-api-key") == ["gateway", "intake-1"]
    assert knowing("api_key") == ["gateway", "intake-1"]
    assert knowing("signing_key.pem") == ["gateway", "intake-1", "beat"]


def test_no_secret_is_in_a_command_or_in_the_repr_of_a_service(folder: StateFolder) -> None:
    specs = plan(folder).specs

    shown = " ".join(repr(spec) for spec in specs)

    assert not any(secret in shown for secret in SECRETS.values())


def test_a_pool_has_as_many_processes_as_configured_and_a_tool_of_ones_own_is_started_too(folder: StateFolder) -> None:
    workers = {"desktop": PoolSettings(processes=2), "github": PoolSettings(processes=0), "echo": PoolSettings()}

    specs = plan(folder, Configuration(workers=workers, local=Local(flower=False))).specs

    pools = [spec for spec in specs if spec.stage is DrainStage.WORKING]
    assert [spec.environment["TOOLSWARM_WORKER_NAME"] for spec in pools] == [
        "desktop-1",
        "desktop-2",
        "droplet-1",
        "echo-1",
        "intake-1",
    ]
    assert "flower" not in names(specs)


def test_the_demo_points_the_tools_at_its_own_targets_and_never_hands_out_the_token(folder: StateFolder) -> None:
    demo = plan(folder, demo=True)

    targets = {spec.name: spec for spec in demo.specs}
    assert {"demo-github", "demo-sshd"} <= set(targets)
    github = targets["github-1"].environment
    assert github["TOOLSWARM_GITHUB__BASE_URL"] == targets["demo-github"].url
    assert '"demo":{"address":"127.0.0.1"' in targets["droplet-1"].environment["TOOLSWARM_DROPLET__HOSTS"]
    assert "the-token" not in github.values()


def test_configured_servers_are_used_and_none_is_started(folder: StateFolder) -> None:
    store = Store(broker_url="redis://:hunter2@queue.example:6379/0", cache_url="redis://cache.example:6379/0")

    chosen = plan(folder, Configuration(store=store))

    assert {"broker", "cache"}.isdisjoint(names(chosen.specs))
    assert chosen.broker_url == "redis://queue.example:6379/0"
    assert not any("hunter2" in word for spec in chosen.specs for word in spec.argv)


def test_one_server_for_broker_and_cache_is_refused() -> None:
    store = Store(broker_url="redis://one.example/0", cache_url="redis://one.example/0")

    with pytest.raises(ConfigurationError, match="would lose calls"):
        ours_to_start(Configuration(store=store))


def test_addresses_are_spelled_as_celery_wants_them_and_shown_without_password() -> None:
    assert celery_url("unix:///run/b.sock?db=2") == "redis+socket:///run/b.sock?virtual_host=2"
    assert celery_url("redis://h:6379/0") == "redis://h:6379/0"
    assert without_password("redis://u:secret@h:6379/0") == "redis://h:6379/0"


def test_the_login_for_a_unix_socket_is_kept_and_stands_in_no_address() -> None:
    address = celery_url("unix://flower:s3%2Fcret@/run/b.sock?db=2")

    assert "s3" not in address
    assert SocketLogin().get_credentials() == ("flower", "s3/cret")


def test_a_system_server_is_asked_for_by_name_and_the_advice_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=0 malloc=libc bits=64'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigurationError, match=r"6\.0\.16, older than 6\.2"):
        find_server("system")

    old.write_text("#!/bin/sh\necho 'Redis server v=7.0.15 sha=0 malloc=libc bits=64'\n")
    assert find_server("system") == old
    assert find_server("auto").name == "valkey-server"


@pytest.fixture
def servers(folder: StateFolder) -> Iterator[tuple[str, str]]:
    """A broker and a cache, as `up` configures them."""
    sockets = folder.socket_folder({})
    program = find_server("bundled")
    argvs = {
        "broker": broker_argv(program, sockets / "broker.sock", folder.broker),
        "cache": cache_argv(program, sockets / "cache.sock", sockets),
    }
    running = [subprocess.Popen(argv, stdout=subprocess.DEVNULL) for argv in argvs.values()]
    try:
        wait_until(lambda: all((sockets / f"{name}.sock").exists() for name in argvs), "listening")
        yield f"unix://{sockets}/broker.sock?db=0", f"unix://{sockets}/cache.sock?db=0"
    finally:
        for process in running:
            process.terminate()
            process.wait()


async def test_the_private_servers_are_what_their_roles_need(servers: tuple[str, str]) -> None:
    broker, cache = servers

    await refuse_unfit_broker(broker)
    await refuse_unfit_cache(cache)

    settings = ("CONFIG", "GET", "maxmemory-policy", "maxmemory", "appendonly", "save", "port")
    (held,) = await ask(cache, settings)
    assert isinstance(held, list)
    words = [word.decode() for word in held if isinstance(word, bytes)]
    assert dict(zip(words[::2], words[1::2], strict=True)) == {
        "maxmemory-policy": "allkeys-lfu",
        "maxmemory": str(256 * 1024 * 1024),
        "appendonly": "no",
        "save": "",
        "port": "0",
    }


async def test_a_broker_that_forgets_is_refused_with_the_setting_to_change(servers: tuple[str, str]) -> None:
    _, cache = servers

    with pytest.raises(ConfigurationError, match="appendonly yes"):
        await refuse_unfit_broker(cache)


async def test_a_broker_that_evicts_is_refused_with_the_setting_to_change(servers: tuple[str, str]) -> None:
    broker, _ = servers
    await ask(broker, ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"))

    with pytest.raises(ConfigurationError, match="maxmemory-policy noeviction"):
        await refuse_unfit_broker(broker)


async def test_a_broker_that_does_not_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not answer"):
        await refuse_unfit_broker(f"unix://{tmp_path}/nobody.sock")


async def test_a_command_that_the_server_refuses_is_an_error_with_its_words(servers: tuple[str, str]) -> None:
    with pytest.raises(BrokerUnavailable, match="unknown command"):
        await ask(servers[0], ("NONSENSE",))


def test_a_secret_stays_out_of_the_configuration_that_is_shown() -> None:
    assert "the-token" not in repr(Secret("the-token"))
