"""An HTTP server that answers each request as a function says, or breaks off in a given way; it keeps what it heard."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Heard:
    """One request."""

    verb: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Say:
    """One answer."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    reset: bool = False
    """Break the connection off instead of answering."""
    promised_bytes: int = 0
    """Say that the body is so long, and end it sooner."""
    until: threading.Event | None = None
    """Answer only then."""


class ScriptedHttp(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Callable[[Heard], Say]) -> None:
        self.answer = answer
        self.heard: list[Heard] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def asked(self) -> list[str]:
        return [f"{heard.verb} {heard.target}" for heard in self.heard]


@contextmanager
def scripted(answer: Callable[[Heard], Say]) -> Generator[ScriptedHttp, None, None]:
    server = ScriptedHttp(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        server = self.server
        assert isinstance(server, ScriptedHttp)
        size = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        heard = Heard(self.command, self.path, headers, self.rfile.read(size))
        server.heard.append(heard)
        said = server.answer(heard)
        if said.until is not None:
            said.until.wait(20)
        if said.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        plain = b"" if said.body is None else said.body
        raw = plain if isinstance(plain, bytes) else json.dumps(plain).encode()
        self.send_response(said.status)
        for name, value in said.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(said.promised_bytes or len(raw)))
        self.end_headers()
        self.wfile.write(raw)
        if said.promised_bytes:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def finish(self) -> None:
        if not self.wfile.closed and self.connection.fileno() != -1:
            super().finish()

    def log_message(self, format: str, *args: Any) -> None: ...
