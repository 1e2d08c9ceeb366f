"""What the result cache costs and saves: a hit at each level, a whole hit through the gateway, and a burst of the same.

The burst is 1,000 identical calls in 4 processes, of something that takes 200 ms, beside two cache libraries in one
run. Ours are whole calls (front, ledger, Celery, worker) over two servers; theirs are calls of a function there.
Commands are all that the servers count meanwhile: those within scripts, and of what else talks to them, too.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.cache_contenders import COUNTER, UPSTREAM_S
from benchmarks.measure import BenchmarkFailed, percentile, process_cpu_s
from cache import Cache, Key
from store.configuration import Cache as Settings
from store.configuration import Configuration, Store
from store.connection import Broker
from tests.servers.gateway import start_gateway
from tests.servers.memories import call, in_level_1, key_of, remember
from tests.servers.stack import API_KEY, ROOT, Stack
from tests.servers.valkey import Valkey
from tests.servers.waiting import until

RESULTS = Path(__file__).parent / "results"
PROCESSES = 4
EACH = 250
VALUE = b'"' + b"x" * 200 + b'"'
ASKERS = 4
_ASKER = """
import http.client, json, sys, time
host, port, body, key, seconds, pause_s = sys.argv[1:7]
headers = {"Authorization": "Bearer " + key, "Content-Type": "application/json"}
connection, took_s = http.client.HTTPConnection(host, int(port)), []
due = begun_at = time.perf_counter()
while time.perf_counter() - begun_at < float(seconds):
    due = due + float(pause_s) if float(pause_s) else time.perf_counter()
    time.sleep(max(0.0, due - time.perf_counter()))
    connection.request("POST", "/v1/calls", body, headers)
    response = connection.getresponse()
    text = response.read()
    took_s.append(time.perf_counter() - due)
    assert response.status == 200 and b'"hit"' in text, text
print(json.dumps(took_s))
"""
"""As little as can be: one that asks through a library needs more than the gateway that answers. A hit is timed from
when it was due, so that who cannot keep up shows it."""


@dataclass(frozen=True, kw_only=True)
class Burst:
    """What a burst came to."""

    who: str
    runs: int
    p50_s: float
    p99_s: float
    commands: int


# -- one hit -------------------------------------------------------------------------------------------------------


async def hit_costs(server: Valkey, broker_server: Valkey, folder: Path) -> dict[str, float]:
    """Seconds for one hit: the best of several rounds, for this machine does other things, too."""
    broker = Broker(broker_server.url)
    configuration = Configuration(
        store=Store(cache_url=server.url), cache=Settings(secret_file=str(folder / "key"), timeout_s=5.0)
    )
    with_memory = Cache.open(configuration, broker=broker)
    without = Cache.open(configuration, broker=broker, remembers=False)
    for cache in (with_memory, without):
        await cache.start()
    wanted = call(label="x", number=7)
    key = key_of(with_memory, wanted)
    await remember(without, key, VALUE, ("repo:acme/web",))
    await in_level_1(with_memory, key)
    costs = {
        "name of a call": _name(with_memory),
        "level 1": await _level_1(with_memory, key),
        "level 2, one at a time": await _best_of(lambda: without.get(key.name), 2000),
        "level 2, 50 at once": await _best_of(lambda: _many(without, key), 100) / 50,
    }
    for cache in (with_memory, without):
        await cache.stop()
    await broker.close()
    return costs


def _name(cache: Cache) -> float:
    wanted, best = call(label="x", number=7), float("inf")
    for _ in range(5):
        began_at = time.perf_counter()
        for _ in range(5000):
            key_of(cache, wanted)
        best = min(best, (time.perf_counter() - began_at) / 5000)
    return best


async def _level_1(cache: Cache, key: Key) -> float:
    best = float("inf")
    for _ in range(200):
        for _ in range(3):
            await cache.get(key.name)  # level 1 is believed for a moment after the loop had its turns
        began_at = time.perf_counter()
        found = [cache.peek(key.name) for _ in range(1000)]
        taken_s = (time.perf_counter() - began_at) / 1000
        if None not in found:
            best = min(best, taken_s)
    return best


async def _best_of(ask: Callable[[], Awaitable[object]], times: int) -> float:
    best = float("inf")
    for _ in range(5):
        began_at = time.perf_counter()
        for _ in range(times):
            await ask()
        best = min(best, (time.perf_counter() - began_at) / times)
    return best


async def _many(cache: Cache, key: Key) -> None:
    await asyncio.gather(*(cache.get(key.name) for _ in range(50)))


# -- the whole call ------------------------------------------------------------------------------------------------


def through_gateway(url: str, pid: int, *, per_s: float, seconds: float) -> dict[str, float]:
    """Hits at a steady rate, then as many as four callers get."""
    body = json.dumps({"operation": "memo.look", "arguments": {"label": "a"}})
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json", "Prefer": "wait=10"}
    httpx.post(f"{url}/v1/calls", content=body, headers=headers)
    _ask(url, body, seconds=1.0, pause_s=0.0)
    steady = _ask(url, body, seconds=seconds, pause_s=ASKERS / per_s)
    before_s, began_at = process_cpu_s(pid), time.perf_counter()
    hits = len(_ask(url, body, seconds=seconds, pause_s=0.0))
    took_s = time.perf_counter() - began_at
    return {
        "hits per second": len(steady) / seconds,
        "p50_s": percentile(steady, 50),
        "p99_s": percentile(steady, 99),
        "most hits per second": hits / took_s,
        "gateway_cpu_per_hit_s": (process_cpu_s(pid) - before_s) / hits,
    }


def _ask(url: str, body: str, *, seconds: float, pause_s: float) -> list[float]:
    target = httpx.URL(url)
    argv = [sys.executable, "-c", _ASKER, target.host, str(target.port), body, API_KEY, str(seconds), str(pause_s)]
    askers = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(ASKERS)]
    said = [asker.communicate()[0] for asker in askers]
    if not all(said):
        raise BenchmarkFailed("an answer of the gateway was not a hit")
    return [taken_s for one in said for taken_s in json.loads(one)]


# -- the burst -----------------------------------------------------------------------------------------------------


def ours(stack: Stack, cache: Valkey) -> Burst:
    """Whole calls, from four processes with a front each."""
    (stack.folder / "things" / "burst").write_text("value")
    arguments = json.dumps({"label": "burst", "seconds": UPSTREAM_S})
    argv = ["tests.servers.askers", str(stack.folder), "{name}", str(EACH), "memo.look", arguments]
    said, commands = _burst(argv, stack.folder, (stack.valkey, cache), os.environ | stack.settings)
    runs = stack.marked().count("look burst")
    return _figures("Toolswarm, the whole call", runs, [taken for one in said for taken in one["took_s"]], commands)


def theirs(library: str, server: Valkey) -> Burst:
    """A function in each of four processes."""
    with server.client() as connected:
        client: Any = connected
        client.flushall()
        with tempfile.TemporaryDirectory() as name:
            argv = ["benchmarks.cache_contenders", library, name, "{name}", server.tcp_url, str(EACH)]
            said, commands = _burst(argv, Path(name), (server,), os.environ)
        runs = int(client.get(COUNTER))
    return _figures(library, runs, [taken for one in said for taken in one], commands)


def _burst(
    argv: Sequence[str], folder: Path, servers: Sequence[Valkey], environ: Mapping[str, str]
) -> tuple[list[Any], int]:
    askers = [
        subprocess.Popen(
            [sys.executable, "-m", *(f"{number}" if word == "{name}" else word for word in argv)],
            cwd=ROOT,
            env={**environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    until(lambda: len(list(folder.glob("*.ready"))) == PROCESSES, "all are ready", within_s=60)
    before = sum(map(_commands, servers))
    (folder / "go").touch()
    said = [json.loads(asker.communicate(timeout=120)[0]) for asker in askers]
    return said, sum(map(_commands, servers)) - before


def _commands(server: Valkey) -> int:
    with server.client() as connected:
        client: Any = connected
        return int(client.info("stats")["total_commands_processed"])


def _figures(who: str, runs: int, took_s: Sequence[float], commands: int) -> Burst:
    return Burst(who=who, runs=runs, p50_s=percentile(took_s, 50), p99_s=percentile(took_s, 99), commands=commands)


# -- all of it -----------------------------------------------------------------------------------------------------


@contextmanager
def _servers(count: int) -> Generator[list[Valkey]]:
    servers = [Valkey(tcp=True) for _ in range(count)]
    for server in servers:
        server.start()
    try:
        yield servers
    finally:
        for server in servers:
            server.stop()


def _measure(seconds: float) -> dict[str, Any]:
    with _servers(3) as (broker, cache, other):
        stack = Stack(broker)
        stack.settings |= {
            "TOOLSWARM_STORE__CACHE_URL": cache.url,
            "TOOLSWARM_CACHE__SECRET_FILE": str(stack.folder / "cache.key"),
            "TOOLSWARM_TOOLS__MODULES": '["tests.servers.memo_tool"]',
        }
        (stack.folder / "things").mkdir()
        (stack.folder / "things" / "a").write_text("x" * 200)
        try:
            costs = asyncio.run(hit_costs(other, broker, stack.folder))
            stack.start_worker("memo", "w1")
            url = start_gateway(stack)
            gateway = next(one.pid for one in psutil.Process().children() if "gateway" in one.cmdline())
            whole = through_gateway(url, gateway, per_s=500, seconds=seconds)
            bursts = [ours(stack, cache)]
        finally:
            stack.close()
        bursts += [theirs(library, other) for library in ("cashews", "dogpile")]
    return {"hit_s": costs, "gateway": whole, "bursts": [asdict(burst) for burst in bursts]}


def _show(console: Console, measured: Mapping[str, Any]) -> None:
    hits = Table("one hit", "us", title="What a hit costs (200 bytes)")
    for what, cost_s in measured["hit_s"].items():
        hits.add_row(what, f"{cost_s * 1e6:.2f}")
    whole = Table("through the gateway", "", title="The whole call on a hit")
    for what, figure in measured["gateway"].items():
        whole.add_row(what, f"{figure * 1e3:.3f} ms" if what.endswith("_s") else f"{figure:,.0f}")
    bursts = Table("burst", "runs", "p50 ms", "p99 ms", "commands", title="1,000 at once, 4 processes, 200 ms upstream")
    for one in measured["bursts"]:
        waits = (f"{one['p50_s'] * 1e3:.0f}", f"{one['p99_s'] * 1e3:.0f}")
        bursts.add_row(one["who"], str(one["runs"]), *waits, f"{one['commands']:,}")
    for table in (hits, whole, bursts):
        console.print(table)


def main(argv: Sequence[str]) -> int:
    """Measure, show and keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache", description="What the result cache costs.")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load on the gateway (default 10)")
    options = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 120)
    measured = _measure(options.seconds)
    _show(console, measured)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"cache-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    file.write_text(json.dumps({"at": time.time(), **measured}, indent=2))
    console.print(f"written to {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
