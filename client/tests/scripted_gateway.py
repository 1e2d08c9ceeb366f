"""A real HTTP server that answers as a test tells it to, and remembers what it was asked."""

import threading
from collections import defaultdict, deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from toolswarm.messages import Effect, ErrorInfo, Operation, ToolResult
from toolswarm.states import State

CALL_ID = "0193f0a0-0000-7000-8000-000000000001"


@dataclass(frozen=True)
class Answer:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    lost: bool = False
    """Close the connection instead of answering."""
    chunks: tuple[bytes, ...] = ()
    """Send these as chunks instead of the body."""


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class ScriptedGateway:
    """Answers each route from its list; the last answer of a list is repeated."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._answers: dict[str, deque[Answer]] = defaultdict(deque)
        self._lock = threading.Condition()
        self.url = ""

    def answers(self, route: str, *answers: Answer | object) -> None:
        """Script `METHOD /path`; what is not an Answer is sent as JSON."""
        self._answers[route].clear()
        for each in answers:
            self._answers[route].append(each if isinstance(each, Answer) else Answer(msgspec.json.encode(each)))

    def take(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            self._lock.notify_all()
            answers = self._answers.get(f"{asked.method} {asked.path}")
            if not answers:
                return problem("no_such_path", 404, f"nothing at {asked.path}")
            return answers[0] if len(answers) == 1 else answers.popleft()

    def asked_for(self, route: str) -> list[Asked]:
        return [each for each in self.asked if f"{each.method} {each.path}" == route]

    def wait_until_asked(self, route: str) -> None:
        with self._lock:
            assert self._lock.wait_for(lambda: self.asked_for(route), timeout=10), f"never asked for {route}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: ScriptedGateway

    def _answer(self) -> None:
        try:
            self._say()
        except ConnectionError:  # who has heard the end of a call need not hear the end of the stream
            self.close_connection = True

    def _say(self) -> None:
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.script.take(Asked(self.command, path, query, headers, body))
        if answer.lost:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in ({"Content-Type": "application/json"} | answer.headers).items():
            self.send_header(name, value)
        if answer.chunks:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in (*answer.chunks, b""):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        else:
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def running_gateway() -> Generator[ScriptedGateway]:
    script = ScriptedGateway()
    handler = type("Handler", (_Handler,), {"script": script})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        script.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()


def problem(code: str, status: int, detail: str, *, retry_after: str | None = None, **details: Any) -> Answer:
    document = {"type": "/problems/x", "title": "T", "status": status, "detail": detail, "code": code}
    headers = {"Content-Type": "application/problem+json"}
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    return Answer(msgspec.json.encode(document | {"retryable": False, "details": details}), status, headers)


def succeeded(value: Any, call_id: str = CALL_ID) -> ToolResult:
    return ToolResult(id=call_id, status=State.SUCCEEDED, value=value)


def running(call_id: str = CALL_ID) -> ToolResult:
    return ToolResult(id=call_id, status=State.RUNNING)


def ended(state: State, code: str = "not_found", **details: Any) -> ToolResult:
    error = ErrorInfo(code=code, message="there is no such file", details=details)
    return ToolResult(id=CALL_ID, status=state, error=error)


READ_FILE = Operation(
    tool="desktop",
    name="read_file",
    title="Read a text file",
    description="Read a text file.",
    parameters={
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "the file"},
            "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
            "deep": {"type": "boolean", "default": False},
            "argv": {"type": "array", "items": {"type": "string"}, "default": []},
            "mode": {"$ref": "#/$defs/Mode", "default": 1},
        },
        "required": ["path"],
        "additionalProperties": False,
        "$defs": {"Mode": {"enum": [1, 2]}},
    },
    effect=Effect.READ,
    time_limit_s=10,
)
