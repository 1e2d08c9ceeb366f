"""The sockets of the fake GitHub: HTTP/1.1 on loopback, a thread for each connection, and connections that fail."""

import gzip
import select
import socket
import struct
import sys
import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.servers.github_control import control
from tests.servers.github_engine import Engine
from tests.servers.github_wire import Reply, Request

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)
_SHORTEST_ZIPPED_BYTES = 1000
_BOMB_BYTES = 256 * 1024 * 1024
_CHUNK = b"400\r\n" + b" " * 1024 + b"\r\n"


class GithubServer(ThreadingHTTPServer):
    """Listens; `engine` answers."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, engine: Engine, port: int) -> None:
        self.engine = engine
        self.latency_s = 0.0
        self.stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """End what clients hold open, and what hangs."""
        self.stopping.set()
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has just been closed from the other side

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.engine.violations.append(f"the fake failed with {error!r}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        server = self.server
        assert isinstance(server, GithubServer)
        engine = server.engine
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith("/_control/"):
            status, raw = control(server.engine, server, self.command, self.path, body)
            self._send(Reply(status=status, headers={"Content-Type": "application/json"}, body=raw, fault=None))
            return
        with engine.lock:
            engine.limits.enter()
        try:
            reply = engine.handle(
                Request(
                    method=self.command,
                    target=self.path,
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=body,
                    host=self.headers.get("Host") or f"127.0.0.1:{server.server_address[1]}",
                )
            )
            if server.latency_s:
                server.stopping.wait(server.latency_s)
            self._send_or_fail(reply, server)
        finally:
            with engine.lock:
                engine.limits.leave()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _send_or_fail(self, reply: Reply, server: GithubServer) -> None:
        fault = reply.fault
        match None if fault is None else fault.kind:
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
                self.close_connection = True
                self.connection.close()
            case "hang":
                self.close_connection = True
                while not server.stopping.is_set() and not self._client_is_gone():
                    server.stopping.wait(0.01)
            case "slow":
                assert fault is not None
                server.stopping.wait(fault.delay_s)
                self._send(reply)
            case "truncate":
                self.close_connection = True
                self._send(reply, cut_at=len(reply.body) // 2)
            case "endless":
                self._send_without_end(reply, server)
            case "bomb":
                bomb = Reply(status=200, headers=reply.headers | {"Content-Encoding": "gzip"}, body=_bomb(), fault=None)
                self._send(bomb)
            case _:
                self._send(reply)

    def _client_is_gone(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _send(self, reply: Reply, cut_at: int | None = None) -> None:
        body, headers = reply.body, dict(reply.headers)
        zips = "gzip" in self.headers.get("Accept-Encoding", "") and "Content-Encoding" not in headers
        if zips and len(body) >= _SHORTEST_ZIPPED_BYTES and cut_at is None:
            body = gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        self.send_response(reply.status)
        for name, value in headers.items():
            self.send_header(name, value)
        if reply.status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body if cut_at is None else body[:cut_at])

    def _send_without_end(self, reply: Reply, server: GithubServer) -> None:
        self.close_connection = True
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while not server.stopping.is_set():
            self.wfile.write(_CHUNK)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """On the fake's clock."""
        server = self.server
        assert isinstance(server, GithubServer)
        return super().date_time_string(server.engine.world.now() if timestamp is None else timestamp)

    def version_string(self) -> str:
        """As GitHub's servers call themselves."""
        return "github.com"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the engine's log has it."""


@cache
def _bomb() -> bytes:
    return gzip.compress(b" " * _BOMB_BYTES, 9)
