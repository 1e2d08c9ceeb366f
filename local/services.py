"""Which services make a system on this machine: their commands, what each may know, and how each shows that it works.

A secret goes only to those who need it: the private signing key to those who submit, the API key to those who check
it, GitHub's token to GitHub's pool.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from local.demo_targets import DemoTargets
from local.keys import Keys
from local.ports import choose_port
from local.probes import HeartbeatProbe, HttpProbe, KeyProbe, RedisProbe, TcpProbe
from local.redis_server import broker_argv, cache_argv, find_server
from local.service import DrainStage, ServiceSpec, Timing
from local.state_folder import StateFolder
from store.configuration import Cache, Configuration, Store
from store.connection import celery_url
from store.sentinel_url import is_sentinel, parse
from toolswarm.errors import ConfigurationError
from toolswarm.intake import INTAKE_QUEUE

TOOLS = ("desktop", "github", "droplet")
"""The tools that every system has; a tool of one's own is started when it has a section under `workers`."""

_API_KEY_NAMES = (
    *("MCP_API_KEY", "MCP_API_KEY_FILE", "TOOLSWARM_GATEWAY__API_KEY"),
    *("MCP_OPERATOR_KEY", "MCP_OPERATOR_KEY_FILE", "TOOLSWARM_GATEWAY__OPERATOR_KEY"),
)
_GITHUB_NAMES = ("GITHUB_TOKEN", "GITHUB_TOKEN_FILE", "TOOLSWARM_GITHUB__TOKEN")
_PRIVATE_KEY = "TOOLSWARM_SIGNING__PRIVATE_KEY_FILE"
_OTHER_SECRETS = ("POSTGRES_PASSWORD", "POSTGRES_PASSWORD_FILE", "TOOLSWARM_API_KEY")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A system that is ready to be started."""

    specs: tuple[ServiceSpec, ...]
    broker_url: str
    drain_s: float
    """How long workers may take to finish what they run."""
    notes: tuple[str, ...] = ()
    demo: bool = False
    timing: Timing = field(default_factory=Timing)


class Planner:
    """Puts a plan together from the configuration."""

    def __init__(
        self,
        configuration: Configuration,
        folder: StateFolder,
        *,
        environ: Mapping[str, str],
        keys: Keys,
        demo: bool = False,
    ) -> None:
        self._configuration = configuration
        self._folder = folder
        self._keys = keys
        self._demo = demo
        self._project = Path(__file__).resolve().parent.parent
        self._secrets = {
            name: environ[name] for name in (*_API_KEY_NAMES, *_GITHUB_NAMES) if environ.get(name) is not None
        }
        hidden = {*_API_KEY_NAMES, *_GITHUB_NAMES, *_OTHER_SECRETS, _PRIVATE_KEY}
        self._environment = {name: value for name, value in environ.items() if name not in hidden}
        self._taken: set[int] = set()
        self._notes: list[str] = []

    def plan(self) -> Plan:
        """All services, in the order in which they are shown.

        Raises:
            ConfigurationError: no server program or no free port was found.
            AlreadyLocked: the broker of an earlier supervisor still runs.
        """
        servers, broker_url, cache_url = self._servers()
        python_path = os.pathsep.join(filter(None, (str(self._project), self._environment.get("PYTHONPATH", ""))))
        self._environment |= {
            "PYTHONPATH": python_path,
            "PYTHONUNBUFFERED": "1",
            "TOOLSWARM_STORE__BROKER_URL": broker_url,
            "TOOLSWARM_STORE__CACHE_URL": cache_url,
            "TOOLSWARM_SIGNING__PUBLIC_KEY_FILE": str(self._keys.public_key_file),
        }
        if self._configuration.cache.secret_file == Cache().secret_file:
            self._environment["TOOLSWARM_CACHE__SECRET_FILE"] = str(self._folder.path / "cache.key")
        targets: list[ServiceSpec] = []
        if self._demo:
            targets = self._demo_services()
        specs = (*servers, self._gateway(), *self._pools(broker_url), self._beat(broker_url), *targets)
        flower = (self._flower(broker_url),) if self._configuration.local.flower else ()
        return Plan(
            specs=(*specs, *flower),
            broker_url=without_password(broker_url),
            drain_s=self._configuration.local.drain_s,
            notes=tuple(self._notes),
            demo=self._demo,
        )

    def _servers(self) -> tuple[list[ServiceSpec], str, str]:
        broker_url, cache_url = self._configuration.store.broker_url, self._configuration.store.cache_url
        own_broker, own_cache = ours_to_start(self._configuration)
        if not (own_broker or own_cache):
            return [], broker_url, cache_url
        program = find_server(self._configuration.local.redis)
        sockets = self._folder.socket_folder(self._environment)
        specs: list[ServiceSpec] = []
        if own_broker:
            socket = sockets / "broker.sock"
            broker_url = f"unix://{socket}?db=0"
            argv = broker_argv(program, socket, self._folder.broker)
            # The broker holds this lock itself: while it lives, no other server opens its file.
            lock = (self._folder.lock_broker(),)
            specs.append(self._server("broker", argv, broker_url, stage=DrainStage.BROKER, keep_open=lock))
        if own_cache:
            socket = sockets / "cache.sock"
            cache_url = f"unix://{socket}?db=0"
            argv = cache_argv(program, socket, sockets)
            specs.append(self._server("cache", argv, cache_url, stage=DrainStage.CACHE, keep_open=()))
        return specs, broker_url, cache_url

    def _server(
        self, name: str, argv: tuple[str, ...], url: str, *, stage: DrainStage, keep_open: tuple[int, ...]
    ) -> ServiceSpec:
        return ServiceSpec(
            name=name,
            argv=argv,
            environment=self._environment,
            probe=RedisProbe(url),
            stage=stage,
            grace_s=10.0,  # it writes what it has to the disk
            keep_open=keep_open,
            url=url.partition("?")[0],
        )

    def _gateway(self) -> ServiceSpec:
        host = self._configuration.gateway.host
        port = self._free_port("gateway", host, self._configuration.gateway.port)
        url = f"http://{_reachable(host)}:{port}"
        return ServiceSpec(
            name="gateway",
            argv=(sys.executable, "-m", "gateway"),
            environment=self._environment | self._may_submit() | {"TOOLSWARM_GATEWAY__PORT": str(port)},
            probe=HttpProbe(f"{url}/readyz"),
            liveness=HttpProbe(f"{url}/healthz"),
            stage=DrainStage.ACCEPTING,
            url=url,
            on_port_taken=self._gateway,
        )

    def _pools(self, broker_url: str) -> list[ServiceSpec]:
        others = sorted(set(self._configuration.workers) - {*TOOLS, INTAKE_QUEUE})
        specs: list[ServiceSpec] = []
        for tool in (*TOOLS, *others, INTAKE_QUEUE):
            allowed: dict[str, str] = {}
            if tool == INTAKE_QUEUE:
                allowed = self._may_submit()
            elif tool == "github" and not self._demo:
                allowed = {name: value for name, value in self._secrets.items() if name in _GITHUB_NAMES}
            for number in range(1, self._configuration.pool(tool).processes + 1):
                name = f"{tool}-{number}"
                heartbeat = HeartbeatProbe(broker_url, name)
                specs.append(
                    ServiceSpec(
                        name=name,
                        argv=(sys.executable, "-m", "workers", tool),
                        environment=self._environment | allowed | {"TOOLSWARM_WORKER_NAME": name},
                        probe=heartbeat,
                        liveness=heartbeat,
                        stage=DrainStage.WORKING,
                    )
                )
        return specs

    def _beat(self, broker_url: str) -> ServiceSpec:
        return ServiceSpec(
            name="beat",
            argv=(sys.executable, "-m", "beat"),
            environment=self._environment
            | {_PRIVATE_KEY: str(self._keys.private_key_file), "TOOLSWARM_WORKER_NAME": "beat"},
            probe=KeyProbe(broker_url, "ts:lock:beat"),
            stage=DrainStage.WATCHING,
        )

    def _flower(self, broker_url: str) -> ServiceSpec:
        port = self._free_port("Flower", "127.0.0.1", self._configuration.local.flower_port)
        url = f"http://127.0.0.1:{port}"
        return ServiceSpec(
            name="flower",
            argv=(
                *(sys.executable, "-m", "celery", "-A", "workers.app:app", "flower"),
                *("--address=127.0.0.1", f"--port={port}", "--read_only=True"),
                "--tasks_columns=name,uuid,state,received,runtime,worker",  # no arguments, no results
                *("--max_tasks=10000", "--purge_offline_workers=60", "--logging=warning"),
            ),
            # The address goes by the environment: one that was given may hold a password. Login for a unix socket is
            # found by the worker's app, which Flower loads, in `store.broker_url`.
            environment=self._environment | self._flowers_broker(broker_url),
            probe=HttpProbe(f"{url}/healthcheck"),
            stage=DrainStage.WATCHING,
            essential=False,
            after_ready=True,
            url=url,
            on_port_taken=lambda: self._flower(broker_url),
        )

    def _flowers_broker(self, url: str) -> dict[str, str]:
        """Flower counts the queues of a broker that it knows; else it takes ours, and shows the rest."""
        ours = self._configuration.broker.url or is_sentinel(url)
        return {} if ours else {"CELERY_BROKER_URL": celery_url(url)}

    def _demo_services(self) -> list[ServiceSpec]:
        demo = DemoTargets(
            folder=self._folder.path / "demo",
            github_port=self._free_port("demo-github", "127.0.0.1", 8081),
            sshd_port=self._free_port("demo-sshd", "127.0.0.1", 8022),
        )
        demo.folder.mkdir(mode=0o700, exist_ok=True)
        self._environment |= demo.environment()
        services = (
            ("demo-github", demo.github_argv(), demo.github_port, demo.github_url),
            ("demo-sshd", demo.sshd_argv(), demo.sshd_port, f"ssh://demo@127.0.0.1:{demo.sshd_port}"),
        )
        return [
            ServiceSpec(
                name=name,
                argv=argv,
                environment=self._environment,
                probe=TcpProbe("127.0.0.1", port),
                stage=DrainStage.WATCHING,
                url=url,
            )
            for name, argv, port, url in services
        ]

    def _may_submit(self) -> dict[str, str]:
        """What those get who authenticate callers and sign their calls."""
        allowed = {name: value for name, value in self._secrets.items() if name in _API_KEY_NAMES}
        if self._keys.api_key_file is not None:
            allowed["MCP_API_KEY_FILE"] = str(self._keys.api_key_file)
        return allowed | {_PRIVATE_KEY: str(self._keys.private_key_file)}

    def _free_port(self, service: str, host: str, wanted: int) -> int:
        choice = choose_port(host, wanted, self._taken)
        self._taken.add(choice.port)
        if choice.note:
            self._notes.append(f"{service}: {choice.note}")
        return choice.port


def without_password(url: str) -> str:
    """An address fit to be shown."""
    if is_sentinel(url):
        return parse(url).shown()
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else url


def ours_to_start(configuration: Configuration) -> tuple[bool, bool]:
    """Whether broker and cache are ours to start (no address was configured).

    Raises:
        ConfigurationError: broker and cache are one server.
    """
    given, default = configuration.store, Store()
    if given.broker_url == given.cache_url:
        raise ConfigurationError("store.cache_url is the broker's address: an eviction there would lose calls")
    return given.broker_url == default.broker_url, given.cache_url == default.cache_url


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", "::", ""):  # noqa: S104  # compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
