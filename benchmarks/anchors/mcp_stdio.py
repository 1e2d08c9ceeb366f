"""A small MCP client over the standard streams of a process: one JSON message a line, one call after the other."""

import contextlib
import json
import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from benchmarks.measure import BenchmarkFailed

PROTOCOL_VERSION = "2025-06-18"
_ANSWER_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 5.0
_CHUNK_BYTES = 1 << 18
_METHOD_NOT_FOUND = -32601


class StdioServer:
    """A running server, ended with the `with` block."""

    def __init__(self, argv: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        self._argv = list(argv)
        self._environment = dict(environment)
        self._log = log
        self._received = bytearray()
        self._last_id = 0
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> "StdioServer":
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        os.set_blocking(self._from.fileno(), False)
        self._selector.register(self._from, selectors.EVENT_READ)
        try:
            me = {"name": "toolswarm-benchmark", "version": "1"}
            hello = {"protocolVersion": PROTOCOL_VERSION, "capabilities": {}, "clientInfo": me}
            self._request("initialize", hello)
            self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self._to.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_STOP_TIMEOUT_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._selector.close()
        self._from.close()

    def tools(self) -> list[str]:
        """The names of the server's tools."""
        return [str(tool["name"]) for tool in self._request("tools/list", {})["tools"]]

    def call(self, tool: str, **arguments: Any) -> str:
        """The text of a tool's answer.

        Raises:
            BenchmarkFailed: the server says that the call failed, or does not answer.
        """
        result = self._request("tools/call", {"name": tool, "arguments": arguments})
        text = "\n".join(str(part.get("text", "")) for part in result["content"])
        if result.get("isError"):
            raise BenchmarkFailed(f"{tool} failed: {text[:500]}")
        return text

    def _request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        self._last_id += 1
        self._send({"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params})
        give_up_at = time.monotonic() + _ANSWER_TIMEOUT_S
        while True:
            message = json.loads(self._line(give_up_at))
            if "method" in message and "id" in message:
                refusal = {"code": _METHOD_NOT_FOUND, "message": "this client offers nothing"}
                self._send({"jsonrpc": "2.0", "id": message["id"], "error": refusal})
            elif message.get("id") == self._last_id:
                if "error" in message:
                    raise BenchmarkFailed(f"{method} was refused: {str(message['error'])[:500]}")
                return cast(dict[str, Any], message["result"])

    def _send(self, message: Mapping[str, Any]) -> None:
        self._to.write(json.dumps(message).encode() + b"\n")
        self._to.flush()

    def _line(self, give_up_at: float) -> bytes:
        while (end := self._received.find(b"\n")) < 0:
            if not self._selector.select(max(0.0, give_up_at - time.monotonic())):
                raise BenchmarkFailed(f"{self._argv[1]} did not answer within {_ANSWER_TIMEOUT_S:.0f} s")
            chunk = os.read(self._from.fileno(), _CHUNK_BYTES)
            if not chunk:
                log = self._log.read_text(errors="replace")[-2000:]
                raise BenchmarkFailed(f"{self._argv[1]} has ended:\n{log}")
            self._received += chunk
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line
