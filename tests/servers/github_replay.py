"""Replays recorded exchanges with the real api.github.com: what it said then, to whoever asks the same now.

A request is the same when method, path, media type (raw or JSON), the recorded query and the recorded body agree; a
client may send more than that. Addresses of api.github.com in an answer become this server's own, all else is as it
was. What was not recorded is answered with 404 and noted in `unknown`.
"""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec

FILE = Path(__file__).parents[1] / "data" / "github" / "recordings.json"
_GITHUB = "https://api.github.com"


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded exchange."""

    scenario: str
    method: str
    path: str
    accept: str
    sent: Any
    status: int
    headers: dict[str, str]
    body: Any

    def fits(self, method: str, target: str, accept: str, sent: Any) -> bool:
        """Whether a request is the recorded one."""
        path, _, query = target.partition("?")
        own_path, _, own_query = self.path.partition("?")
        asked = parse_qs(query)
        asked.setdefault("page", ["1"])
        return (
            method == self.method
            and path.rstrip("/") == own_path.rstrip("/")
            and ("raw" in accept) == ("raw" in self.accept)
            and all(asked.get(name) == value for name, value in {"page": ["1"], **parse_qs(own_query)}.items())
            and (self.sent is None or all(sent.get(name) == value for name, value in self.sent.items()))
        )


@cache
def recorded() -> tuple[Exchange, ...]:
    """All exchanges, as they were recorded."""
    return tuple(msgspec.json.decode(FILE.read_bytes(), type=list[Exchange]))


class Replay(ThreadingHTTPServer):
    """Serves recordings on loopback."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.unknown: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        server = self.server
        assert isinstance(server, Replay)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sent: Any = json.loads(raw) if raw else {}
        server.asked.append(f"{self.command} {self.path}")
        accept = self.headers.get("Accept", "")
        found = next((each for each in recorded() if each.fits(self.command, self.path, accept, sent)), None)
        if found is None:
            server.unknown.append(f"{self.command} {self.path}")
            self._send(404, {"Content-Type": "application/json"}, b'{"message":"Not recorded"}')
            return
        is_json = "json" in found.headers.get("content-type", "")
        text = json.dumps(found.body, ensure_ascii=False) if is_json else str(found.body or "")
        headers = {name: value.replace(_GITHUB, server.url) for name, value in found.headers.items()}
        self._send(found.status, headers, text.replace(_GITHUB, server.url).encode())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body if status != 204 else b"")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: `asked` has it."""


@contextmanager
def replaying() -> Generator[Replay, None, None]:
    """A server for the block."""
    with Replay() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
