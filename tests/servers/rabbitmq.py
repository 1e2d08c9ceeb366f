"""A private node of RabbitMQ (Debian: rabbitmq-server) with its own ports, cookie and data, that can be killed."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import amqp  # pyright: ignore[reportMissingTypeStubs]
import pytest

from tests.servers.waiting import until

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one on PATH wants to be root, and becomes another user
PASSWORD = "hop-hop-hunter2"
BOTH_BROKERS = pytest.mark.parametrize("stack", ["redis", "rabbitmq"], indirect=True)
"""Runs a test twice: tasks carried by the ledger's Redis, and by RabbitMQ."""


def require_rabbitmq() -> None:
    """Skip the test where there is no RabbitMQ; fail it where all must be there."""
    if SERVER.exists() and shutil.which("epmd"):
        return
    reason = "needs RabbitMQ (Debian: rabbitmq-server)"
    if os.environ.get("TOOLSWARM_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason}, and TOOLSWARM_REQUIRE_ALL is set")
    pytest.skip(reason)


class RabbitMq:
    """Starts in about five seconds, and leaves no process behind, epmd included."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ts-rabbit-"))
        self.port, self._dist_port, self._epmd_port = _free_ports(3)
        self.url = f"amqp://swarm:{PASSWORD}@127.0.0.1:{self.port}/"
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        (self.folder / "rabbitmq.conf").write_text(
            f"default_user = swarm\ndefault_pass = {PASSWORD}\nlisteners.tcp.default = 127.0.0.1:{self.port}\n"
            "log.console = true\nlog.console.level = warning\nlog.file = false\n"
            "disk_free_limit.absolute = 1MB\n"
        )
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "env.conf").write_text("")
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"ts{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def start(self) -> None:
        if self._epmd is None:
            self._epmd = self._spawn("epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1")
        self._server = self._spawn(str(SERVER))
        until(self._answers, "RabbitMQ answers", within_s=60)

    def kill(self) -> None:
        """kill -9 of the node."""
        assert self._server is not None
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()

    def signal(self, number: signal.Signals) -> None:
        """Freeze or thaw the node."""
        assert self._server is not None
        os.killpg(self._server.pid, number)

    def cut_connections(self) -> None:
        """Close every connection of its clients."""
        subprocess.run(
            [
                *(str(SERVER.with_name("rabbitmqctl")), "--node", self._environment["RABBITMQ_NODENAME"]),
                *("close_all_connections", "cut"),
            ],
            env=self._environment,
            check=True,
            capture_output=True,
        )

    def stop(self) -> None:
        self.kill()
        assert self._epmd is not None
        os.killpg(self._epmd.pid, signal.SIGKILL)
        self._epmd.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def clear(self) -> None:
        """Delete what earlier tests have left."""
        with self.connect() as connection:
            for queue in ("tool.trial", "tool.spare", "tool.desktop", "toolswarm.dead"):
                connection.channel().queue_delete(queue)

    def connect(self) -> Any:
        """A connection of the tests' own."""
        connection = amqp.Connection(
            host=f"127.0.0.1:{self.port}", userid="swarm", password=PASSWORD, connect_timeout=5, read_timeout=10
        )
        connection.connect()
        return connection

    def has_on_disk(self, queue: str) -> bool:
        """Whether a kill spares the queue: RabbitMQ 3.10 writes down that there is a quorum queue seconds later."""
        return any(queue.encode() in file.read_bytes() for file in self.folder.glob("data/*/quorum/*/names.dets"))

    def take(self, queue: str) -> Any:
        """The next task, acknowledged, or None."""
        with self.connect() as connection:
            try:
                return connection.channel().basic_get(queue, no_ack=True)
            except amqp.NotFound:
                return None

    def length(self, queue: str) -> int:
        """How many tasks of a queue wait for a worker."""
        with self.connect() as connection:
            try:
                return int(connection.channel().queue_declare(queue, passive=True).message_count)
            except amqp.NotFound:
                return 0

    def _spawn(self, *argv: str) -> subprocess.Popen[bytes]:
        with (self.folder / "rabbitmq.log").open("ab") as log:
            return subprocess.Popen(
                argv, env=self._environment, stdout=log, stderr=log, start_new_session=True, cwd=self.folder
            )

    def _answers(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, (self.folder / "rabbitmq.log").read_text()[-3000:]
        try:
            self.connect().close()
        except (OSError, amqp.AMQPError):
            return False
        return True


def _free_ports(count: int) -> list[int]:
    taken = [socket.socket() for _ in range(count)]
    for one in taken:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in taken]
    for one in taken:
        one.close()
    return ports
