"""What can be configured: `toolswarm.toml`, then the environment (`TOOLSWARM_SECTION__KEY`), checked once.

The names that deployments use for secrets work too: `MCP_API_KEY`, `GITHUB_TOKEN`. Each of all these names with `_FILE`
behind it names a file that holds the value (a Docker secret). With no configuration at all everything runs. Only
`__main__.py` files and `celeryconfig.py` call `load`.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

import msgspec

from store.sections import Secret, Section
from store.task_broker import TaskBroker, check_brokers
from store.tool_settings import Desktop, Droplet, Github
from toolswarm.endpoint import shown_url
from toolswarm.errors import ConfigurationError

PREFIX = "TOOLSWARM_"
FILE_NAME = "toolswarm.toml"


class Store(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The two Redis servers and the ledger's times."""

    broker_url: str = "redis://127.0.0.1:6379/0"
    """Broker and ledger in one (AOF on, noeviction); `unix:///path/to.sock?db=0` works too, and behind Sentinel
    `redis+sentinel://host:26379,host:26379/service` (docs/brokers.md)."""
    cache_url: str = "redis://127.0.0.1:6380/0"
    """Remembered results (no persistence, allkeys-lfu); never the same server."""
    lease_s: float = 3.0
    """How long a worker may be silent before its call is given to another: at least 10 broker round trips."""
    retention_s: int = 3600
    """How long the result of an ended call can be read."""
    call_deadline_s: float = 300.0
    """The deadline of a call that names none."""
    max_waiting: int = 100_000
    """How many calls wait in one queue at one priority; more are refused with 503."""
    spool: str = ".toolswarm/spool"
    """Folder for results that the ledger cannot take at the moment."""
    max_attempts: int = 3
    """Starts of one call before it is taken for poison."""
    visibility_timeout_s: float = 5.0
    """How long a task may lie unacknowledged with a worker that no longer extends it."""
    connections: int = 16
    """Size of each process's connection pool."""

    def __repr__(self) -> str:
        return f"Store(broker_url={shown_url(self.broker_url)!r}, cache_url={shown_url(self.cache_url)!r}, …)"


class Gateway(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP server."""

    host: str = "127.0.0.1"
    port: int = 8080
    api_key: Secret = Secret("")
    """The bearer key of callers (`MCP_API_KEY`); `up` makes one when none is set."""
    operator_key: Secret = Secret("")
    """The key of who may change what holds for all tenants, e.g. fallback chains (`MCP_OPERATOR_KEY`); with none set it
    is `api_key`."""
    max_body_bytes: int = 1_048_576
    max_wait_s: float = 60.0
    """The longest that one request waits for a result; callers ask again."""
    max_batch: int = 1000
    """Calls in one POST /v1/calls:batch."""
    broker_timeout_s: float = 2.0
    """After this a silent broker is answered with 503."""
    allowed_hosts: tuple[str, ...] = ()
    """Values of `Host` that MCP is served under (`tools.example.org`, `10.0.0.7:*`). None named: on a loopback address
    `localhost`, `127.0.0.1` and `[::1]`, elsewhere any."""
    allowed_origins: tuple[str, ...] = ()
    """Web pages that may use MCP (`https://chat.example.org`), beside those of the gateway's own host."""


class Mcp(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """MCP at /mcp."""

    names: Literal["full", "short"] = "full"
    """How tools are called there: `full` (`desktop_read_file`) or `short` (`read_file`, where only one tool has it)."""
    answer_bytes: int = 131_072
    """The longest answer, as JSON; longer ones are cut, and say where the whole is. 128 KB are about 40,000 tokens."""
    task_after_s: float = 1.0
    """A client that can hold tasks gets one when its call takes longer than this; the others wait."""
    task_only: tuple[str, ...] = ()
    """Operations (`droplet.deploy`) that clients which cannot hold tasks are refused."""
    sessions: bool = False
    """Whether clients of 2025-11-25 and before get a session, in which tools can ask them something. A session lives in
    one gateway: with several, the load balancer has to keep `Mcp-Session-Id` to one of them."""
    list_ttl_s: float = 60.0
    """How long clients may keep the list of tools."""


class Signing(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ed25519 keys (PEM files): whoever submits signs, workers hold only the public key."""

    private_key_file: str = ""
    public_key_file: str = ""


class PoolSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The worker pool of one tool."""

    kind: Literal["asyncio", "threads", "prefork", "solo"] = "asyncio"
    concurrency: int = 16
    """Slots: calls that one worker process runs at once."""
    processes: int = 1
    """Worker processes that `up` starts."""
    breaker_failures: int = 5
    """After so many failures in a row a host or an API is left alone."""
    breaker_reset_timeout_s: float = 5.0
    """For how long, the first time; then one call tries, and doubles it when that fails, up to a minute."""


class RoutingRule(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule of the operator, tried before the built-in ones: the first that matches decides."""

    name: str
    tool: str
    operation: str = "*"
    """A name or pattern (`read_*`), without the tool."""
    path: tuple[str, ...] = ()
    """Patterns for the call's path, e.g. `deploy/**`; any of them."""
    host: str | None = None
    repo: str | None = None
    """A pattern for the context's repository."""


class Routing(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How calls that leave out the tool find it."""

    default_tool: str = "desktop"
    rules: tuple[RoutingRule, ...] = ()
    fallbacks: dict[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: {"droplet": ("desktop",)})
    """What to try next when a tool cannot be had and nothing has begun. Tool -> tools, for `read` operations of calls
    that leave out the tool; or operation -> operations (`"droplet.make_directory" = ["desktop.make_directory"]`), for
    `idempotent` ones too, however they are asked for."""


class Tools(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tools beside the built-in ones."""

    modules: tuple[str, ...] = ()
    """Importable modules with a `TOOL` (tasks/operation.py): the operator's own, trusted code."""


class Tenant(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one tenant may have of each queue."""

    weight: int = 1
    """Its part in the turn of tenants: one of weight 2 is served twice as often while both wait."""
    max_running: int = 0
    """How many of its calls run at once in one queue; 0: as many as there are slots."""
    max_waiting: int = 10_000
    """How many of its calls wait in one queue; more are refused with 503."""


class Cache(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Remembered results of reads; `store.cache_url` says where."""

    enabled: bool = True
    secret_file: str = ".toolswarm/cache.key"  # noqa: S105 - the name of a file
    """32 or more secret bytes that entries are named and sealed with; made when it is missing. All processes need the
    same: on several machines put a secret there."""
    timeout_s: float = 0.2
    """A cache Redis that takes longer counts as away, and calls go on without it."""
    local_bytes: int = 33_554_432
    """The most that each process which answers callers keeps in its own memory; 0: nothing."""
    local_ttl_s: float = 2.0
    """The longest that it answers from there without asking the cache Redis."""
    max_value_bytes: int = 1_048_576
    """Larger answers are not remembered."""
    lease_s: float = 30.0
    """How long calls join a running one that is the same; later ones run on their own."""
    sharing: Literal["tenant", "principal"] = "tenant"
    """Who shares answers. Who may ask at all is decided before."""
    public: tuple[str, ...] = ()
    """Operations whose answers all tenants share: their content must be the same, and allowed, for everybody."""
    ttl_s: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    """Operation -> how long its answers are fresh, in place of what it declares; 0: never remembered."""
    warm_per_minute: int = 60
    """How many answers of one tool are refreshed in a minute before anybody has to wait for them; 0: none."""
    warm_every_s: float = 2.0
    """How often it is looked which are about to expire."""
    popular_calls: int = 512
    """How many calls of one tool are known by how often they are asked for."""
    popular_half_life_s: float = 300.0
    """After so long a request counts half; answers that are fresh for much longer are hardly ever refreshed."""


class Local(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`up` on one machine."""

    state: str = ".toolswarm"
    """Folder of keys, logs and the broker's append-only file."""
    redis: Literal["auto", "bundled", "system"] = "auto"
    """`auto`: the bundled Valkey, else one on PATH; `system`: only PATH. Set store.broker_url to use your own."""
    flower_port: int = 5555
    flower: bool = True
    drain_s: float = 30.0
    """How long `down` and Ctrl-C let running calls finish."""


class Configuration(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All sections; a process reads it once."""

    store: Store = Store()
    broker: TaskBroker = TaskBroker()
    gateway: Gateway = Gateway()
    mcp: Mcp = Mcp()
    signing: Signing = Signing()
    routing: Routing = Routing()
    workers: dict[str, PoolSettings] = msgspec.field(default_factory=dict[str, PoolSettings])
    """Tool -> its pool."""
    tools: Tools = Tools()
    desktop: Desktop = Desktop()
    github: Github = Github()
    droplet: Droplet = Droplet()
    cache: Cache = Cache()
    local: Local = Local()
    tenants: dict[str, Tenant] = msgspec.field(default_factory=dict[str, Tenant])
    """Tenant -> its part; a tenant that is not named here has the defaults."""

    def tenant(self, name: str) -> Tenant:
        """The part of one tenant."""
        return self.tenants.get(name, Tenant())

    def pool(self, tool: str) -> PoolSettings:
        """The settings of one tool's pool."""
        return self.workers.get(tool, PoolSettings())


_DEPLOYMENT_NAMES = {
    "MCP_API_KEY": ("gateway", "api_key"),
    "MCP_OPERATOR_KEY": ("gateway", "operator_key"),
    "GITHUB_TOKEN": ("github", "token"),
}


def load(environ: Mapping[str, str], file: Path | None = None) -> Configuration:
    """Read the file, put the environment over it, and check everything.

    `file` defaults to `TOOLSWARM_CONFIG`, else `toolswarm.toml` in the working folder if there is one.

    Raises:
        ConfigurationError: naming the setting (never its value), and the nearest known name.
    """
    settings = _read_file(_choose_file(environ, file))
    for path, value, origin in _from_environ(environ):
        _place(settings, path, value, origin)
    _refuse_unknown(settings, Configuration, "")
    try:
        configuration = msgspec.convert(settings, Configuration, strict=False, dec_hook=_decode_secret)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"configuration: {error}") from error
    check_chains(configuration.routing.fallbacks)
    store = configuration.store
    check_brokers(configuration.broker, ledger_url=store.broker_url, cache_url=store.cache_url)
    return configuration


def check_chains(chains: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a fallback chain that comes back to where it began, or mixes tools and operations.

    Raises:
        ConfigurationError: naming the chain.
    """
    for start, chain in chains.items():
        for name in chain:
            if ("." in name) != ("." in start):
                raise ConfigurationError(
                    f"routing.fallbacks.{start}: {name}: a tool falls back to tools, an operation to operations"
                )
        seen, front = set[str](), [start]
        while front:
            for name in chains.get(front.pop(), ()):
                if name == start:
                    raise ConfigurationError(f"routing.fallbacks.{start}: the chain comes back to {start}: break it")
                if name not in seen:
                    seen.add(name)
                    front.append(name)


def _choose_file(environ: Mapping[str, str], file: Path | None) -> Path | None:
    if file is None and environ.get(PREFIX + "CONFIG"):
        file = Path(environ[PREFIX + "CONFIG"])
    if file is not None:
        if not file.is_file():
            raise ConfigurationError(f"configuration: there is no file {file}", file=str(file))
        return file
    here = Path(FILE_NAME)
    return here if here.is_file() else None


def _read_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: not valid TOML: {error}", file=str(file)) from error


def _from_environ(environ: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    for name, value in sorted(environ.items()):
        if name.startswith(PREFIX) and "__" in name:
            path = tuple(name.removeprefix(PREFIX).lower().split("__"))
            of_file = _setting_of_file(path)
            yield (of_file, _read_secret(name, value), name) if of_file else (path, value, name)
    for name, path in _DEPLOYMENT_NAMES.items():
        file = environ.get(f"{name}_FILE")
        if file:
            yield path, _read_secret(f"{name}_FILE", file), f"{name}_FILE"
        elif environ.get(name):
            yield path, environ[name], name


def _setting_of_file(path: tuple[str, ...]) -> tuple[str, str] | None:
    """`broker.url` for `broker.url_file`, unless the section has a setting of that name itself."""
    if len(path) != 2:
        return None
    section = get_type_hints(Configuration).get(path[0])
    known = get_type_hints(section) if isinstance(section, type) and issubclass(section, msgspec.Struct) else {}
    key = path[1].removesuffix("_file")
    return (path[0], key) if key != path[1] and path[1] not in known and key in known else None


def _read_secret(name: str, file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"{name}: cannot read {file}: {error.strerror}") from error


def _place(settings: dict[str, Any], path: tuple[str, ...], value: str, origin: str) -> None:
    section = settings
    for part in path[:-1]:
        inner: Any = section.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigurationError(f"{origin}: {part} is a value, not a section")
        section = cast("dict[str, Any]", inner)
    parsed: Any = value
    if value[:1] in ("[", "{"):
        try:
            parsed = msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"{origin}: not valid JSON") from error
    section[path[-1]] = parsed


def _refuse_unknown(settings: Mapping[str, Any], struct: type[msgspec.Struct], where: str) -> None:
    hints = get_type_hints(struct)
    for key, found in settings.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            advice = f"; did you mean {where}{near[0]}?" if near else f"; known: {', '.join(hints)}"
            raise ConfigurationError(f"configuration: unknown key {where}{key}{advice}", key=f"{where}{key}")
        if not isinstance(found, dict):
            continue
        value = cast("dict[str, Any]", found)
        hint = hints[key]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            _refuse_unknown(value, hint, f"{where}{key}.")
        elif get_origin(hint) is dict:
            inner = get_args(hint)[1]
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                for name, entry in value.items():
                    if isinstance(entry, dict):
                        _refuse_unknown(cast("dict[str, Any]", entry), inner, f"{where}{key}.{name}.")


def _decode_secret(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise NotImplementedError(kind)
