"""What a call over MCP costs the gateway, beside servers that run the same echo themselves.

Ours has a queue, a ledger and a worker behind it: its calls are durable and run in another process. The others are the
official SDK's low-level server, FastMCP, and mcpo (REST in front of an MCP server over stdio). Callers are bare kept
connections, each with one call after the other. CPU is per call: of the server with the processes that it started
itself, and of what stands behind it (our worker and broker).
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.contenders.contract import ROOT
from benchmarks.mcp_install import PEERS, python_of
from benchmarks.measure import BenchmarkFailed, family, percentile, pss_bytes, tree_cpu_s
from store.catalogue import publish
from store.connection import Broker
from tests.servers.gateway import free_port, start_gateway_process
from tests.servers.mcp_clients import request
from tests.servers.stack import Stack
from tests.servers.valkey import Valkey
from toolswarm.messages import Effect, Operation

RESULTS = Path(__file__).parent / "results"
SESSIONS = (1, 50, 200, 1000)
IDLE_SESSIONS = 1000
TEXT = "x" * 100
MANY_TOOLS = 500


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running server."""

    name: str
    url: str
    pid: int
    call: bytes
    """One request, ready to be sent."""
    behind: tuple[int, ...] = ()
    """Processes that serve it."""

    def cpu_s(self) -> tuple[float, float]:
        """What the server has used, and what those behind it have."""
        return tree_cpu_s(self.pid), sum(tree_cpu_s(pid) for pid in self.behind)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one server did for so many sessions."""

    server: str
    asked: str
    sessions: int
    calls_per_s: float
    p50_s: float
    p95_s: float
    cpu_s: float
    behind_cpu_s: float
    errors: int


def message(method: str, params: dict[str, object]) -> bytes:
    """One request of MCP."""
    asked = request(method, params)
    content: str = asked["content"]
    return post("/mcp", asked["headers"], content)


def post(path: str, headers: dict[str, str], content: str) -> bytes:
    """One request, ready to be sent."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = [f"POST {path} HTTP/1.1", "host: localhost:80", f"content-length: {len(content)}", *lines, "", ""]
    return ("\r\n".join(head) + content).encode()


CALL = message("tools/call", {"name": "bench_echo", "arguments": {"text": TEXT}})
REST_CALL = post("/bench_echo", {"content-type": "application/json"}, json.dumps({"text": TEXT}))
LIST = message("tools/list", {})


async def answered(reader: asyncio.StreamReader, expected: bytes) -> bool:
    """Whether the next answer is the right one."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    return expected in await reader.readexactly(int(length.split(b":")[1]))


async def session(port: int, asked: bytes, until_s: float, expected: bytes) -> tuple[list[float], int]:
    """One call after the other; how long each took, and how many were wrong or had no answer."""
    took: list[float] = []
    errors = 0
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < until_s:
            begun = time.monotonic()
            writer.write(asked)
            errors += not await answered(reader, expected)
            took.append(time.monotonic() - begun)
        writer.close()
    except (OSError, asyncio.IncompleteReadError):
        errors += 1
    return took, errors


async def measure(served: Served, content: bytes, sessions: int, seconds: float) -> Figures:
    """Figures of so many sessions at once; the first second does not count."""
    port = int(served.url.rpartition(":")[2])
    asked = "tools/list" if content is LIST else "tools/call"
    expected = b'"tools"' if content is LIST else TEXT.encode()
    await asyncio.gather(*(session(port, content, time.monotonic() + 1, expected) for _ in range(sessions)))
    begun, before = time.monotonic(), served.cpu_s()
    done = await asyncio.gather(*(session(port, content, begun + seconds, expected) for _ in range(sessions)))
    elapsed_s, after = time.monotonic() - begun, served.cpu_s()
    took = [one for times, _ in done for one in times]
    return Figures(
        server=served.name,
        asked=asked,
        sessions=sessions,
        calls_per_s=len(took) / elapsed_s,
        p50_s=percentile(took, 50),
        p95_s=percentile(took, 95),
        cpu_s=(after[0] - before[0]) / len(took),
        behind_cpu_s=(after[1] - before[1]) / len(took),
        errors=sum(errors for _, errors in done),
    )


async def idle_bytes(served: Served) -> int:
    """Memory of so many sessions that have called once and now do nothing."""
    port = int(served.url.rpartition(":")[2])
    before = pss_bytes(family(served.pid))
    links: list[asyncio.StreamWriter] = []
    for _ in range(IDLE_SESSIONS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        links.append(writer)
        writer.write(served.call)
        if not await answered(reader, TEXT.encode()):
            raise BenchmarkFailed(f"{served.name} answered wrongly")
    grown = pss_bytes(family(served.pid)) - before
    for link in links:
        link.close()
    return grown


@contextmanager
def ours() -> Generator[Served]:
    """A gateway with a real worker and broker behind it."""
    valkey = Valkey()
    valkey.start()
    stack = Stack(valkey)
    stack.settings["TOOLSWARM_TOOLS__MODULES"] = '["benchmarks.echo_tool"]'
    try:
        worker = stack.start_worker("bench", "w1")
        process, url = start_gateway_process(stack)
        yield Served(name="toolswarm", url=url, pid=process.pid, call=CALL, behind=(worker.pid, valkey.pid))
    finally:
        stack.close()
        valkey.stop()


@contextmanager
def with_many_tools() -> Generator[Served]:
    """A gateway whose catalogue has many operations, of which none is run."""
    valkey = Valkey()
    valkey.start()
    stack = Stack(valkey)
    try:
        asyncio.run(_publish_many(valkey.url))
        process, url = start_gateway_process(stack)
        yield Served(name=f"toolswarm, {MANY_TOOLS} tools", url=url, pid=process.pid, call=LIST)
    finally:
        stack.close()
        valkey.stop()


async def _publish_many(url: str) -> None:
    parameters = {"type": "object", "properties": {"path": {"type": "string", "description": "Where it lies."}}}
    broker = Broker(url)
    operations = [
        Operation(
            tool="many",
            name=f"operation_{number:03}",
            title="Do something",
            description="Does something that takes two sentences to say. It is about as long as most of ours are.",
            parameters=parameters,
            effect=Effect.READ,
        )
        for number in range(MANY_TOOLS)
    ]
    await publish(broker, "many", operations)
    await broker.close()


@contextmanager
def peer(name: str) -> Generator[Served]:
    """One of the others."""
    port = free_port()
    python = sys.executable if name == "sdk" else python_of(name)
    command = [python, "-m", "benchmarks.mcp_peers", name, str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    url = f"http://127.0.0.1:{port}"
    try:
        give_up_at = time.monotonic() + 60
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise BenchmarkFailed(f"{name} did not start")
            time.sleep(0.1)
        yield Served(name=name, url=url, pid=process.pid, call=REST_CALL if name == "mcpo" else CALL)
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/nothing").status_code == 404
    except httpx.TransportError:
        return False


def table(figures: Sequence[Figures]) -> Table:
    """The figures to look at."""
    shown = Table(title="MCP: one server process, the same echo")
    shown.add_column("server")
    shown.add_column("asked")
    numbers_of = ("sessions", "calls/s", "p50 ms", "p95 ms", "CPU µs/call", "calls/s a core", "behind it µs", "errors")
    for heading in numbers_of:
        shown.add_column(heading, justify="right")
    for one in figures:
        cells = (one.calls_per_s, one.p50_s * 1000, one.p95_s * 1000, one.cpu_s * 1e6, 1 / one.cpu_s)
        numbers = [f"{number:,.1f}" if number < 100 else f"{number:,.0f}" for number in cells]
        behind = f"{one.behind_cpu_s * 1e6:,.0f}"
        shown.add_row(one.server, one.asked, str(one.sessions), *numbers, behind, str(one.errors))
    return shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each number of sessions")
    parser.add_argument("--alone", action="store_true", help="without the others")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args(arguments)
    figures: list[Figures] = []
    idle: dict[str, int] = {}
    for server in [ours(), *(peer(name) for name in ("sdk", *PEERS) if not options.alone)]:
        with server as served:
            idle[served.name] = asyncio.run(idle_bytes(served))
            figures += [asyncio.run(measure(served, served.call, many, options.seconds)) for many in SESSIONS]
    with with_many_tools() as served:
        figures += [asyncio.run(measure(served, LIST, many, options.seconds)) for many in (1, 8)]
    console = Console(width=150)
    console.print(table(figures))
    for name, grown in idle.items():
        console.print(f"{name}: {IDLE_SESSIONS:,} idle sessions take {grown / 2**20:,.1f} MiB")
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        kept = {"figures": [asdict(one) for one in figures], "idle_bytes": idle}
        (RESULTS / "gateway_mcp.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
