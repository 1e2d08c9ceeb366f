"""`python -m benchmarks.warming`: what callers wait for remembered reads, with and without warming by beat.

One load, several times in each round: the same reads at the same instants, drawn once from a seed. Keys are popular by
Zipf's law, and every so often other keys become the popular ones. Each read takes `RUN_S` in a real worker and is
remembered for `TTL_S`; nothing stale is served, so a read that finds nothing fresh waits for a run. The front, one
worker, a beat and two Valkeys are real; the only difference is `cache.warm_per_minute`.
"""

import argparse
import asyncio
import bisect
import itertools
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import BenchmarkFailed, percentile
from benchmarks.warming_tool import RUN_S, TTL_S
from routing.front import Caller, Front
from tests.servers.stack import Stack
from tests.servers.valkey import Valkey
from toolswarm.messages import SubmitBody
from toolswarm.states import State

RESULTS = Path(__file__).parent / "results"
CALLER = Caller()
WAIT_S = 10.0
VARIANTS = {"without warming": 0, "600 in a minute": 600, "1,800 in a minute": 1800}
"""Name -> how many answers may be refreshed in a minute."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked, and when."""

    reads_per_s: float
    keys: int
    skew: float
    phase_s: float
    """So often other keys become the popular ones."""
    phases: int
    seed: int

    def reads(self) -> list[tuple[float, int]]:
        """Instant and key of each read."""
        chance = random.Random(self.seed)
        bounds = list(itertools.accumulate(1 / rank**self.skew for rank in range(1, self.keys + 1)))
        reads: list[tuple[float, int]] = []
        at = chance.expovariate(self.reads_per_s)
        while at < self.phase_s * self.phases:
            rank = bisect.bisect(bounds, chance.random() * bounds[-1])
            shift = int(at / self.phase_s) * (self.keys // self.phases)
            reads.append((at, (min(rank, self.keys - 1) + shift) % self.keys))
            at += chance.expovariate(self.reads_per_s)
        return reads


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What became of one load."""

    reads: int
    mean_wait_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    found: dict[str, int]
    """`hit`, `coalesced`, `miss` -> reads."""
    hit_ratio: float
    warmed: int
    """Runs that nobody waited for."""


async def measure(load: Load, *, per_minute: int) -> Sample:
    """Start everything, send the load, stop everything."""
    broker, cache = Valkey(), Valkey()
    broker.start()
    cache.start()
    stack = Stack(broker)
    stack.settings |= {
        "TOOLSWARM_STORE__CACHE_URL": cache.url,
        "TOOLSWARM_TOOLS__MODULES": '["benchmarks.warming_tool"]',
        "TOOLSWARM_WORKERS__BENCH__CONCURRENCY": "64",
        "TOOLSWARM_CACHE__SECRET_FILE": str(stack.folder / "cache.key"),
        "TOOLSWARM_CACHE__WARM_PER_MINUTE": str(per_minute),
        "TOOLSWARM_CACHE__WARM_EVERY_S": "0.5",
        "TOOLSWARM_CACHE__POPULAR_HALF_LIFE_S": "10",
    }
    try:
        stack.start_worker("bench", "w1")
        stack.start_beat()
        front = await stack.front()
        try:
            came = await _send(front, load.reads())
        finally:
            await front.close()
        with cache.client() as connected:
            client: Any = connected
            warmed = int(client.hget("ts:warmed:bench", "warmed") or 0)
    finally:
        stack.close()
        broker.stop()
        cache.stop()
    waits = [wait_s for wait_s, _ in came]
    found = Counter(how for _, how in came)
    return Sample(
        reads=len(came),
        mean_wait_s=fmean(waits),
        p50_s=percentile(waits, 50),
        p95_s=percentile(waits, 95),
        p99_s=percentile(waits, 99),
        found=dict(found),
        hit_ratio=found["hit"] / len(came),
        warmed=warmed,
    )


async def _send(front: Front, reads: Sequence[tuple[float, int]]) -> list[tuple[float, str]]:
    """Each read at its instant, whatever became of the others."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    tasks: list[asyncio.Task[tuple[float, str]]] = []
    for at, key in reads:
        await asyncio.sleep(max(0.0, begun + at - loop.time()))
        tasks.append(loop.create_task(_read(front, key)))
    return list(await asyncio.gather(*tasks))


async def _read(front: Front, key: int) -> tuple[float, str]:
    begun = time.perf_counter()
    result = await front.submit(SubmitBody(operation="bench.look_up", arguments={"key": key}), CALLER)
    if not result.status.terminal:
        result = await front.result(result.id, CALLER, WAIT_S)
    if result.status is not State.SUCCEEDED or result.value != key:
        raise BenchmarkFailed(f"a read ended as {result.status}: {result.error}")
    return time.perf_counter() - begun, result.meta.cache


def table(samples: dict[str, list[Sample]], title: str) -> Table:
    """Means over the rounds."""
    shown = Table(title=title)
    for column in (
        "",
        "mean ms",
        "min-max",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "hit",
        "coalesced",
        "miss",
        "warmed",
        "runs",
    ):
        shown.add_column(column, justify="right" if column else "left")
    for name, rounds in samples.items():
        means = [one.mean_wait_s * 1e3 for one in rounds]
        reads = sum(one.reads for one in rounds)
        shares = [sum(one.found.get(how, 0) for one in rounds) / reads for how in ("hit", "coalesced", "miss")]
        shown.add_row(
            name,
            f"{fmean(means):.2f}",
            f"{min(means):.2f}-{max(means):.2f}",
            *(f"{fmean(getattr(one, what) for one in rounds) * 1e3:.1f}" for what in ("p50_s", "p95_s", "p99_s")),
            *(f"{share:.1%}" for share in shares),
            f"{fmean(one.warmed for one in rounds):.0f}",
            f"{fmean(one.warmed + one.found.get('miss', 0) for one in rounds):.0f}",
        )
    return shown


def main(argv: Sequence[str]) -> int:
    """Compare; 1 when a read went wrong."""
    options = _options(argv)
    load = Load(
        reads_per_s=options.reads_per_s,
        keys=options.keys,
        skew=1.0,
        phase_s=options.phase_s,
        phases=2,
        seed=options.seed,
    )
    console = Console(width=None if sys.stdout.isatty() else 140)
    samples: dict[str, list[Sample]] = {name: [] for name in VARIANTS}
    load_before = os.getloadavg()[0]
    for number in range(1, options.rounds + 1):
        for name, rounds in samples.items():
            try:
                sample = asyncio.run(measure(load, per_minute=VARIANTS[name]))
            except BenchmarkFailed as error:
                console.print(f"{name}: {error}", style="red", markup=False)
                return 1
            rounds.append(sample)
            console.print(f"round {number}/{options.rounds}  {name:<18} {sample.mean_wait_s * 1e3:6.2f} ms")
    title = (
        f"{load.reads_per_s:g} reads/s of {load.keys} keys (Zipf {load.skew:g}, seed {load.seed}), "
        f"others popular after {load.phase_s:g} s; a run takes {RUN_S:g} s, remembered for {TTL_S:g} s"
    )
    console.print(table(samples, title))
    console.print(f"load average {load_before:.1f} before, {os.getloadavg()[0]:.1f} after, {os.cpu_count()} cores")
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"warming-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    report = {
        "load": asdict(load),
        "run_s": RUN_S,
        "ttl_s": TTL_S,
        "load_average": [load_before, os.getloadavg()[0]],
        "samples": {name: [asdict(one) for one in rounds] for name, rounds in samples.items()},
    }
    file.write_text(json.dumps(report, indent=2) + "\n")
    console.print(f"written to {file}")
    return 0


class _Options(argparse.Namespace):
    rounds: int
    reads_per_s: float
    keys: int
    phase_s: float
    seed: int


def _options(argv: Sequence[str]) -> _Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.warming", description="Measure warming by beat.")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is measured (default 3)")
    parser.add_argument("--reads-per-s", type=float, default=100.0, help="mean rate of the load (default 100)")
    parser.add_argument("--keys", type=int, default=400, help="different reads (default 400)")
    parser.add_argument("--phase-s", type=float, default=20.0, help="how long the same keys are popular (default 20)")
    parser.add_argument("--seed", type=int, default=7, help="of instants and keys (default 7)")
    return parser.parse_args(argv, namespace=_Options())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
