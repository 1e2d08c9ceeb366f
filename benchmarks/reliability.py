"""`make chaos-report`: what each fault costs, here and with plain Celery on Redis, judged by the same checker.

Every line is a swarm of its own: three workers of four slots, twelve callers with one call after the other (reads,
effects that may repeat, that can be looked for and that must not repeat, and calls whose first attempt fails). After
3 s the fault is done, twice (`--times`), 9 s apart. A call is *lost* when nobody was told its end, 60 s (Celery: at
least 30 s) after the last call was made. Celery runs in three configurations: `careful` (acks_late,
reject_on_worker_lost, visibility_timeout 8 s, looked after every second), `default`, and, where RabbitMQ is installed,
`rabbitmq`: as careful, on a quorum queue with publisher confirms and a delivery limit of 3, results in Redis.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import ledger
from benchmarks.reliability_page import PAGE, replace_table, table
from benchmarks.reliability_rows import CALM_S, ROWS, TIMES, Row
from tests.chaos.celery_swarm import celery_trial
from tests.chaos.history import History
from tests.chaos.trial import Trial, trial
from tests.servers.rabbitmq import SERVER, RabbitMq
from tests.servers.stack import Stack
from tests.servers.valkey import Valkey

RESULTS = Path(__file__).parent / "results"
RABBITMQ = "celery-rabbitmq"
SYSTEMS = ("toolswarm", "celery-careful", "celery-default", RABBITMQ)
DRAIN_S = 30.0
DURING_S = 5.0
"""Goodput during a fault is counted for so long from its beginning."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One line for one system."""

    fault: str
    system: str
    accepted: int
    lost: int
    second_effects: int
    """Of calls that must have at most one."""
    repeated_idempotent: int
    uncalled: int
    without_effect: int
    unknown: int
    failed_safe: int
    """Safe to repeat, and yet without success."""
    next_success_s: list[float | None]
    all_ended_s: list[float | None]
    goodput: float | None
    """Successes a second during the faults, as a part of those before."""
    verdict: str


def figures(row: Row, system: str, running: Trial, began: float) -> Figures:
    """What came of one trial."""
    verdict = running.verdict
    return Figures(
        fault=row.name,
        system=system,
        accepted=verdict.accepted,
        lost=len(verdict.lost),
        second_effects=len(verdict.repeated),
        repeated_idempotent=verdict.repeated_idempotent,
        uncalled=len(verdict.uncalled),
        without_effect=len(verdict.without_effect),
        unknown=verdict.states["unknown"],
        failed_safe=len(verdict.failed_safe),
        next_success_s=[one.next_success_s for one in verdict.recoveries],
        all_ended_s=[one.all_ended_s for one in verdict.recoveries],
        goodput=goodput(running.history, began),
        verdict=str(verdict),
    )


def goodput(history: History, began: float) -> float | None:
    """The median over the faults; None when there was none to compare."""
    calm = history.succeeded_between(began + 1.0, began + CALM_S) / (CALM_S - 1.0)
    during = [history.succeeded_between(fault.at, fault.at + DURING_S) / DURING_S for fault in history.faults]
    return round(median(during) / calm, 3) if during and calm else None


async def measure(row: Row, system: str, *, times: int) -> Figures:
    """One line for one system, on a broker of its own."""
    with contextlib.ExitStack() as held:
        valkey = Valkey(tcp=True)
        valkey.start()
        held.callback(valkey.stop)
        stack = Stack(valkey)
        held.callback(stack.close)
        rabbit = None
        if system == RABBITMQ:
            rabbit = RabbitMq()
            rabbit.start()
            held.callback(rabbit.stop)
        _, _, variant = system.partition("-")
        making = trial(stack, row.setup)
        if variant:
            making = celery_trial(stack, row.setup, variant=variant, drain_s=DRAIN_S, rabbit=rabbit)
        async with making as running:
            began = time.monotonic()
            await row.run(running, times=times)
        return figures(row, system, running, began)


def systems(row: Row) -> tuple[str, ...]:
    """Those that the fault can be done to here."""
    if not row.celery:
        return SYSTEMS[:1]
    return SYSTEMS if row.rabbitmq and SERVER.exists() else SYSTEMS[:3]


def main(argv: Sequence[str]) -> int:
    """Measure, and write the figures down; with --write also the table of docs/reliability.md."""
    options = _options(argv)
    RESULTS.mkdir(exist_ok=True)
    file = options.add_to or RESULTS / f"reliability-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    lines: list[dict[str, Any]] = json.loads(file.read_text())["figures"] if options.add_to else []
    names = [row.name for row in ROWS]
    known = {(line["fault"], line["system"]) for line in lines}
    for row in ROWS:
        for system in systems(row):
            if row.name in options.faults and system in options.systems and (row.name, system) not in known:
                measured = asyncio.run(measure(row, system, times=options.times))
                print(f"{row.name} {system}: {measured.verdict}", flush=True)
                lines.append(asdict(measured))
                _keep(file, lines)
    lines.sort(key=lambda line: (names.index(line["fault"]), SYSTEMS.index(line["system"])))
    text = table(lines, {row.name: row.title for row in ROWS}) + f"\n\n{ledger.describe()}"
    print(text)
    print(f"written to {file}")
    if options.write:
        replace_table(text)
    return 0


def _keep(file: Path, lines: list[dict[str, Any]]) -> None:
    """What was measured so far, and what is needed to compare it with another run."""
    report = {
        "at": time.time(),
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("celery", "kombu", "redis")},
        "figures": lines,
    }
    file.write_text(json.dumps(report, indent=2) + "\n")


class _Options(argparse.Namespace):
    faults: list[str]
    systems: list[str]
    times: int
    add_to: Path | None
    write: bool


def _options(argv: Sequence[str]) -> _Options:
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("--faults", nargs="+", choices=names, default=names)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--times", type=int, default=TIMES, help="how often each fault is done")
    parser.add_argument("--add-to", type=Path, help="measure what an earlier, broken-off run has not")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    return parser.parse_args(argv, namespace=_Options())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
