"""What a warm call through the gateway takes, on the system that `make up` started (or, with --start, on a fresh one).

The call is a real one: `desktop.read_file` of 200 bytes, caches skipped, each answer compared. Four callers: the
blocking client, one call after the other; a bare HTTP connection, the same; the blocking client in many threads; the
async client with as many calls at once. The last two tell what the client costs from what the server does.
CPU is per call, of this process (caller), the gateway, the desktop pool and the broker.
"""

import argparse
import asyncio
import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from benchmarks.measure import BenchmarkFailed, percentile, process_cpu_s
from benchmarks.stack import Stack, started
from local.state_folder import StateFolder
from toolswarm.async_client import AsyncClient
from toolswarm.client import Client

RESULTS = Path(__file__).parent / "results"
FILE = "benchmark-200-bytes.txt"
TEXT = "x" * 200
WARM_UP_CALLS = 100


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one way of calling came to."""

    way: str
    calls_per_s: float
    p50_s: float
    p99_s: float
    cpu_s: dict[str, float]
    """Per call: the caller, and each service that did anything."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where to call, how often, and what to do between warm-up and measurement."""

    url: str
    api_key: str
    calls: int
    begin: Callable[[], None]

    def counts(self) -> tuple[int, int]:
        """Calls of the warm-up, then calls that count."""
        return WARM_UP_CALLS, self.calls


def blocking(plan: Plan) -> list[float]:
    """One call after the other through `Client`."""
    with Client(plan.url, plan.api_key) as swarm:
        reader = swarm.options(cache="skip")
        return _in_turn(plan, lambda: reader.call("desktop.read_file", path=FILE))


def bare(plan: Plan) -> list[float]:
    """One call after the other over one kept connection, with no client library."""
    parts = urlsplit(plan.url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=60)
    body = json.dumps({"operation": "desktop.read_file", "arguments": {"path": FILE}, "cache": "skip"})
    headers = {"Authorization": f"Bearer {plan.api_key}", "Content-Type": "application/json", "Prefer": "wait=30"}

    def call() -> object:
        connection.request("POST", "/v1/calls", body, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise BenchmarkFailed(f"the gateway answered {response.status}: {answer}")
        return answer.get("value")

    try:
        return _in_turn(plan, call)
    finally:
        connection.close()


def threaded(plan: Plan, at_once: int) -> list[float]:
    """Many calls at once through one `Client`, a thread for each caller."""
    with Client(plan.url, plan.api_key) as swarm, ThreadPoolExecutor(at_once) as threads:
        reader = swarm.options(cache="skip")
        sample: list[float] = []
        for count in plan.counts():
            plan.begin()
            calls = [threads.submit(_timed, lambda: reader.call("desktop.read_file", path=FILE)) for _ in range(count)]
            sample = [call.result() for call in calls]
        return sample


async def concurrent(plan: Plan, at_once: int) -> list[float]:
    """Many calls at once through `AsyncClient`; each caller asks again as soon as it has its answer."""
    async with AsyncClient(plan.url, plan.api_key) as swarm:
        reader = swarm.options(cache="skip")

        async def caller(left: Iterator[int]) -> list[float]:
            taken: list[float] = []
            for _ in left:
                start = time.perf_counter()
                answer = await reader.call("desktop.read_file", path=FILE)
                taken.append(time.perf_counter() - start)
                _check(answer)
            return taken

        sample: list[float] = []
        for count in plan.counts():
            plan.begin()
            left = iter(range(count))
            parts = await asyncio.gather(*(caller(left) for _ in range(at_once)))
            sample = [seconds for part in parts for seconds in part]
        return sample


def _in_turn(plan: Plan, call: Callable[[], object]) -> list[float]:
    sample: list[float] = []
    for count in plan.counts():
        plan.begin()
        sample = [_timed(call) for _ in range(count)]
    return sample


class Meter:
    """Reads time and CPU when the calls that count begin and when they have ended."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._start = 0.0
        self._before: dict[str, float] = {}

    def begin(self) -> None:
        """Forget what came before: the last call of this is the one that counts."""
        self._before = _cpu_s(self._stack)
        self._start = time.perf_counter()

    def figures(self, way: str, sample: Sequence[float]) -> Figures:
        """What the calls since `begin` came to."""
        elapsed_s = time.perf_counter() - self._start
        after = _cpu_s(self._stack)
        return Figures(
            way=way,
            calls_per_s=len(sample) / elapsed_s,
            p50_s=percentile(sample, 50),
            p99_s=percentile(sample, 99),
            cpu_s={name: (after[name] - spent) / len(sample) for name, spent in self._before.items() if name in after},
        )


def main(argv: Sequence[str]) -> int:
    """Measure, show and keep the figures; 1 when there is no system to measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description="Latency through the gateway.")
    parser.add_argument("--calls", type=int, default=1000, help="calls of each way (default 1000)")
    parser.add_argument("--at-once", type=int, default=50, help="concurrent callers (default 50)")
    parser.add_argument("--start", action="store_true", help="start a fresh system for this and stop it afterwards")
    parser.add_argument("--state", type=Path, default=Path(".toolswarm"), help="state folder of the running system")
    options = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 160)
    calls: int = max(1, options.calls)
    at_once: int = max(1, options.at_once)
    try:
        with started() if options.start else _running(options.state) as stack:
            figures = _measure_all(stack, calls, at_once)
    except BenchmarkFailed as error:
        console.print(str(error), style="red", markup=False)
        return 1
    console.print(_table(figures, calls))
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"gateway-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    file.write_text(json.dumps({"at": time.time(), "calls": calls, "ways": [asdict(one) for one in figures]}, indent=2))
    console.print(f"written to {file}")
    return 0


def _measure_all(stack: Stack, calls: int, at_once: int) -> list[Figures]:
    url = stack.snapshot().url_of("gateway")
    api_key = os.environ.get("MCP_API_KEY") or StateFolder(stack.state).api_key_file.read_text().strip()
    with Client(url, api_key) as swarm:
        swarm.call("desktop.write_file", path=FILE, content=TEXT)
    ways: dict[str, Callable[[Plan], list[float]]] = {
        "Client, one after the other": blocking,
        "bare HTTP, one after the other": bare,
        f"Client, {at_once} threads": lambda plan: threaded(plan, at_once),
        f"AsyncClient, {at_once} at once": lambda plan: asyncio.run(concurrent(plan, at_once)),
    }
    figures: list[Figures] = []
    for way, run in ways.items():
        meter = Meter(stack)
        sample = run(Plan(url=url, api_key=api_key, calls=calls, begin=meter.begin))
        figures.append(meter.figures(way, sample))
    return figures


def _table(figures: Sequence[Figures], calls: int) -> Table:
    names = ["caller", "gateway", "desktop-1", "broker"]
    shown = Table(title=f"desktop.read_file of 200 bytes through the gateway, {calls} warm calls each way")
    for column in ("way", "calls/s", "p50 ms", "p99 ms", *(f"CPU us {name}" for name in names), "all others"):
        shown.add_column(column, justify="left" if column == "way" else "right")
    for one in figures:
        shown.add_row(
            one.way,
            f"{one.calls_per_s:,.0f}",
            f"{one.p50_s * 1e3:.2f}",
            f"{one.p99_s * 1e3:.2f}",
            *(f"{one.cpu_s.get(name, 0.0) * 1e6:,.0f}" for name in names),
            f"{sum(cpu_s for name, cpu_s in one.cpu_s.items() if name not in names) * 1e6:,.0f}",
        )
    return shown


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    answer = call()
    taken_s = time.perf_counter() - start
    _check(answer)
    return taken_s


def _check(answer: object) -> None:
    if TEXT not in json.dumps(answer):
        raise BenchmarkFailed(f"desktop.read_file did not give the file: {str(answer)[:200]}")


def _cpu_s(stack: Stack) -> dict[str, float]:
    spent = {name: sum(process_cpu_s(one.pid) for one in group) for name, group in stack.services().items()}
    return {"caller": process_cpu_s(os.getpid()), **spent}


@contextmanager
def _running(state: Path) -> Generator[Stack]:
    stack = Stack(state=state, started_in_s=0.0)
    stack.snapshot()
    yield stack


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
