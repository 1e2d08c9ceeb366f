"""What each contender tells the harness: how its worker is started, and a client that submits echoes and waits."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parents[2]
URL_VARIABLE = "BENCH_REDIS_URL"
"""Tells worker and client which server to use; set by the harness."""
NAME_VARIABLE = "BENCH_CONTENDER"
"""Tells worker and client which variant of a contender they are; set by the harness."""
WAIT_S = 60.0
"""How long a client waits for one result before the benchmark is taken for broken."""


class Client(Protocol):
    """The caller's side of one contender, in a process of its own."""

    def gather(self, texts: Sequence[str]) -> list[str]:
        """Submit every echo before the first result is waited for, then read all results, in order."""
        ...

    def round_trips(self, texts: Sequence[str]) -> list[tuple[float, str]]:
        """Submit one echo after the other: seconds from submit to result, and the result."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One task queue in one configuration."""

    name: str
    settings: str
    """The configuration in words, for the table."""
    worker_argv: Sequence[str]
    open_client: Callable[[], Client]
    environment: Callable[[str, Path], Mapping[str, str]] = field(default=lambda _url, _folder: {})
    """Further variables of worker and client, from the server's URL and a private folder."""


def redis_url() -> str:
    """The server to use; a module that declares tasks reads it at import, before there is any connection."""
    return os.environ.get(URL_VARIABLE, "redis://127.0.0.1:6379/0")


def program(name: str) -> str:
    """A command of this virtual environment."""
    return str(Path(sys.executable).parent / name)
