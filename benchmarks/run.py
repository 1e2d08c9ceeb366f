"""`make bench`: every contender in one run, side by side, on one Valkey.

Each round measures every contender once, in shuffled order, with a fresh worker, a fresh client and an empty server;
the table has the medians of the rounds. So a slow minute of the machine hits all alike. Which configuration of plain
Celery is the fastest depends on the cores that are free; several run, and the ratios refer to the fastest of this run.

A measurement: calls that warm up; then all calls in flight at once from one client, results read and compared; then
calls one after the other. CPU is that of the client, of the worker with its children and of Valkey, per call in flight.
"""

import argparse
import json
import os
import platform
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import COMPARED, contender, is_celery
from benchmarks.contenders.celery_raw import CANDIDATES
from benchmarks.contenders.contract import Contender
from benchmarks.measure import BenchmarkFailed, percentile, process_cpu_s, tree_cpu_s
from benchmarks.processes import Pair, running
from benchmarks.valkey import Valkey

RESULTS = Path(__file__).parent / "results"
WARM_UP_CALLS = 300
WARM_UP_ROUND_TRIPS = 50
PACKAGES = ("celery", "kombu", "redis", "dramatiq", "taskiq", "taskiq-redis", "huey")
GROUPS = {"celery-candidates": CANDIDATES}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one round found out about one contender."""

    calls_per_s: float
    round_trip_p50_s: float
    round_trip_p99_s: float
    client_cpu_s: float
    """Per call, like the next two."""
    worker_cpu_s: float
    valkey_cpu_s: float


def measure(contestant: Contender, valkey: Valkey, *, calls: int, round_trips: int) -> Sample:
    """Start the contender, warm it up, measure it and stop it.

    Raises:
        BenchmarkFailed: it did not start or a result was wrong.
    """
    valkey.flush()
    with running(contestant, valkey.url) as pair:
        pair.order("gather", 1)  # returns when the worker is up
        pair.order("gather", WARM_UP_CALLS)
        pair.order("round_trips", WARM_UP_ROUND_TRIPS)
        before = _cpu(pair, valkey)
        elapsed_s = pair.order("gather", calls).elapsed_s
        after = _cpu(pair, valkey)
        trips_s = pair.order("round_trips", round_trips).round_trips_s
    client_s, worker_s, valkey_s = ((late - early) / calls for early, late in zip(before, after, strict=True))
    return Sample(
        calls_per_s=calls / elapsed_s,
        round_trip_p50_s=percentile(trips_s, 50),
        round_trip_p99_s=percentile(trips_s, 99),
        client_cpu_s=client_s,
        worker_cpu_s=worker_s,
        valkey_cpu_s=valkey_s,
    )


def _cpu(pair: Pair, valkey: Valkey) -> tuple[float, float, float]:
    return tree_cpu_s(pair.client.pid), tree_cpu_s(pair.worker.pid), process_cpu_s(valkey.pid)


def medians(samples: Sequence[Sample]) -> Sample:
    """The median of each figure over the rounds."""
    figures = [asdict(sample) for sample in samples]
    return Sample(**{name: median(figure[name] for figure in figures) for name in figures[0]})


def fastest_celery(samples: dict[str, list[Sample]]) -> str:
    """The plain Celery with the highest median of this run: what the ratios refer to; empty when none ran."""
    celery = {name: medians(rounds).calls_per_s for name, rounds in samples.items() if is_celery(name)}
    return max(celery, key=lambda name: celery[name], default="")


def table(contestants: Sequence[Contender], samples: dict[str, list[Sample]], title: str) -> Table:
    """One row a contender, the fastest first."""
    shown = Table(title=title)
    for column in ("contender", "calls/s", "min-max", "ratio", "p50 ms", "p99 ms", "CPU us/call: client"):
        shown.add_column(column, justify="left" if column == "contender" else "right")
    for column in ("worker", "valkey", "sum"):
        shown.add_column(column, justify="right")
    shown.add_column("configuration")
    middle = {name: medians(rounds) for name, rounds in samples.items()}
    reference = middle.get(fastest_celery(samples))
    for contestant in sorted(contestants, key=lambda one: -middle[one.name].calls_per_s):
        figure = middle[contestant.name]
        rates = [sample.calls_per_s for sample in samples[contestant.name]]
        cpu_s = (figure.client_cpu_s, figure.worker_cpu_s, figure.valkey_cpu_s)
        shown.add_row(
            contestant.name,
            f"{figure.calls_per_s:,.0f}",
            f"{min(rates):,.0f}-{max(rates):,.0f}",
            f"{figure.calls_per_s / reference.calls_per_s:.2f}" if reference else "",
            f"{figure.round_trip_p50_s * 1e3:.2f}",
            f"{figure.round_trip_p99_s * 1e3:.2f}",
            *(f"{seconds * 1e6:,.0f}" for seconds in (*cpu_s, sum(cpu_s))),
            contestant.settings,
        )
    return shown


def write(contestants: Sequence[Contender], samples: dict[str, list[Sample]], circumstances: dict[str, object]) -> Path:
    """Keep every sample and what is needed to compare it with another run."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"queues-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    report = {
        **circumstances,
        "contenders": {
            one.name: {
                "settings": one.settings,
                "worker_argv": list(one.worker_argv),
                "median": asdict(medians(samples[one.name])),
                "rounds": [asdict(sample) for sample in samples[one.name]],
            }
            for one in contestants
        },
    }
    file.write_text(json.dumps(report, indent=2) + "\n")
    return file


def main(argv: Sequence[str]) -> int:
    """Run the comparison; 1 when a contender failed."""
    options = _options(argv)
    console = Console(width=None if sys.stdout.isatty() else 180)
    try:
        contestants = [contender(name) for name in options.only]
    except ValueError as error:
        console.print(str(error), style="red")
        return 2
    samples: dict[str, list[Sample]] = {one.name: [] for one in contestants}
    with Valkey() as valkey:
        circumstances: dict[str, object] = {
            "at": time.time(),
            "calls": options.calls,
            "round_trips": options.round_trips,
            "rounds": options.rounds,
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
            "valkey": valkey.version(),
            "packages": {name: version(name) for name in PACKAGES},
        }
        for number in range(1, options.rounds + 1):
            for one in random.sample(contestants, len(contestants)):
                try:
                    sample = measure(one, valkey, calls=options.calls, round_trips=options.round_trips)
                except BenchmarkFailed as error:
                    console.print(f"{one.name}: {error}", style="red", markup=False)
                    return 1
                samples[one.name].append(sample)
                console.print(f"round {number}/{options.rounds}  {one.name:<28} {sample.calls_per_s:7,.0f} calls/s")
    title = (
        f"{options.calls} echoes of 200 bytes in flight from one client, one worker, Valkey {circumstances['valkey']}; "
        f"medians of {options.rounds} rounds; ratio to {fastest_celery(samples) or 'nothing: no Celery ran'}"
    )
    console.print(table(contestants, samples, title))
    circumstances["reference"] = fastest_celery(samples)
    circumstances["load_after"] = os.getloadavg()[0]
    console.print(
        f"load average {circumstances['load']:.1f} before, {circumstances['load_after']:.1f} after, "
        f"on {os.cpu_count()} cores: where min and max lie far apart, other work disturbed the run"
    )
    console.print(f"written to {write(contestants, samples, circumstances)}")
    return 0


class _Options(argparse.Namespace):
    rounds: int
    calls: int
    round_trips: int
    only: list[str]


def _options(argv: Sequence[str]) -> _Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Compare task queues.")
    parser.add_argument("--rounds", type=_positive, default=5, help="times that each contender is measured (default 5)")
    parser.add_argument("--calls", type=_positive, default=2000, help="calls in flight (default 2000)")
    parser.add_argument("--round-trips", type=_positive, default=500, help="calls one after the other (default 500)")
    parser.add_argument(
        "--only",
        type=_names,
        default=list(COMPARED),
        help=f"contenders, separated by commas (default {','.join(COMPARED)}); "
        "celery-candidates: the search for Celery's best configuration",
    )
    return parser.parse_args(argv, namespace=_Options())


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") for name in GROUPS.get(part, (part,))]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
