"""What `make up` costs before the first call: seconds until everything is ready, and memory of all processes.

Each round starts a fresh system in a folder of its own and stops it again. Memory is the proportional set size (PSS):
pages that processes share are counted once between them, when everything has loaded what it loads.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.measure import BenchmarkFailed, pss_bytes
from benchmarks.stack import Stack, started

RESULTS = Path(__file__).parent / "results"
MIB = 1024 * 1024
SETTLE_TIMEOUT_S = 60.0
LOOK_S = 1.0
QUIET_LOOKS = 3


def measure() -> tuple[float, dict[str, int]]:
    """Seconds to ready, and bytes of each service.

    Raises:
        BenchmarkFailed: it did not start.
    """
    with started() as stack:
        return stack.started_in_s, settled(stack)


def settled(stack: Stack) -> dict[str, int]:
    """Bytes of each service once their sum has stopped growing: Flower goes on loading after the system is ready.

    Raises:
        BenchmarkFailed: it grows for too long.
    """
    give_up_at = time.monotonic() + SETTLE_TIMEOUT_S
    before, quiet = 0, 0
    while time.monotonic() < give_up_at:
        sizes = {name: pss_bytes(group) for name, group in stack.services().items()}
        total = sum(sizes.values())
        quiet = quiet + 1 if total < before * 1.005 else 0
        if quiet == QUIET_LOOKS:
            return sizes
        before = total
        time.sleep(LOOK_S)
    raise BenchmarkFailed(f"memory was still growing after {SETTLE_TIMEOUT_S:.0f} s")


def main(argv: Sequence[str]) -> int:
    """Measure, show and keep the figures; 1 when the system did not start."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description="Start time and memory.")
    parser.add_argument("--rounds", type=int, default=3, help="starts (default 3)")
    rounds: int = max(1, parser.parse_args(argv).rounds)
    console = Console()
    try:
        samples = [measure() for _ in range(rounds)]
    except BenchmarkFailed as error:
        console.print(str(error), style="red", markup=False)
        return 1
    ready_s = median(seconds for seconds, _ in samples)
    totals = [sum(sizes.values()) for _, sizes in samples]
    shown = Table(title=f"`make up`: ready in {ready_s:.2f} s (median of {rounds}), as seen from the command line")
    shown.add_column("service")
    shown.add_column("PSS MiB", justify="right")
    for name, size in sorted(samples[-1][1].items(), key=lambda entry: -entry[1]):
        shown.add_row(name, f"{size / MIB:.1f}")
    shown.add_row("all, median of the rounds", f"{median(totals) / MIB:.1f}", style="bold")
    console.print(shown)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"footprint-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    report = {
        "at": time.time(),
        "ready_s": [seconds for seconds, _ in samples],
        "pss_bytes": [sizes for _, sizes in samples],
    }
    file.write_text(json.dumps(report, indent=2) + "\n")
    console.print(f"written to {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
