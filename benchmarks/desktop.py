"""Files, search and commands: our tool `desktop` beside the MCP servers that people use for the same.

All sides work on files of their own in one folder, on the same machine, in turns: each round does every row's work once
on each side, in another order each time. Every answer, or what it left on the disk, is compared. `direct` is our
operation as a worker calls it; `whole call` goes from `Client` through gateway, ledger, broker and worker and back. The
anchors are asked over the standard streams of a running server. Our writes are on the disk (fsync) when they are
answered; the anchors' are not. An agent thinks between two calls, so each side rests before its next one.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.anchors import servers
from benchmarks.anchors.install import VERSIONS
from benchmarks.desktop_work import Action, Files, direct, make_tree, plain_ripgrep, whole_call
from benchmarks.measure import BenchmarkFailed, percentile
from benchmarks.stack import Stack, started
from local.state_folder import StateFolder

REST_S = 0.3
"""Before its next call each side has this long for what it does behind its answer: Desktop Commander keeps books."""
RESULTS = Path(__file__).parent / "results"
ANCHORS = ("filesystem", "commander")
HEADINGS = {
    "direct": "ours, direct",
    "whole_call": "ours, whole call",
    "filesystem": "server-filesystem",
    "commander": "desktop-commander",
    "ripgrep": "plain rg",
}


@dataclass(frozen=True)
class Row:
    """One kind of work, and how often each side does it."""

    name: str
    title: str
    turns: int
    warm_up: int


ROWS = (
    Row("read", "read a file of 4 kB", 100, 5),
    Row("write", "write a file of 4 kB", 100, 5),
    Row("edit", "edit one line in 150 kB", 100, 5),
    Row("search", "search a tree of 4,000 files", 40, 3),
    Row("command", "run `true`", 60, 3),
)


@dataclass(frozen=True)
class Figure:
    """What one side took for one row."""

    median_s: float
    p95_s: float


Figures = dict[str, dict[str, Figure]]
"""Row -> side -> figure."""


def measure(row: Row, sides: Mapping[str, Action], root: Path) -> dict[str, Figure]:
    """Have all sides do the row's work in turns."""
    samples: dict[str, list[float]] = {side: [] for side in sides}
    rested_at = dict.fromkeys(sides, 0.0)
    order = list(sides)
    for turn in range(1, row.warm_up + row.turns + 1):
        order.append(order.pop(0))
        for side in order:
            time.sleep(max(0.0, rested_at[side] - time.perf_counter()))
            begun = time.perf_counter()
            answer = sides[side](turn)
            taken_s = time.perf_counter() - begun
            rested_at[side] = begun + taken_s + REST_S
            Files(root / side).check(row.name, turn, answer)
            if turn > row.warm_up:
                samples[side].append(taken_s)
    return {side: Figure(percentile(sample, 50), percentile(sample, 95)) for side, sample in samples.items()}


def main(argv: Sequence[str]) -> int:
    """Measure, and print the table; 1 when nothing could be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.desktop", description="Files, search and commands.")
    parser.add_argument("--share", type=float, default=1.0, help="part of the usual number of turns (default 1)")
    parser.add_argument("--rows", nargs="*", choices=[row.name for row in ROWS], help="only these")
    parser.add_argument("--no-stack", action="store_true", help="leave out the whole call through gateway and worker")
    options = parser.parse_args(argv)
    rows = [
        Row(row.name, row.title, max(1, int(row.turns * options.share)), row.warm_up)
        for row in ROWS
        if not options.rows or row.name in options.rows
    ]
    notes: list[str] = []
    with ExitStack() as open_sides:
        sides, root = _open_all(open_sides, notes, with_stack=not options.no_stack)
        tree_bytes = make_tree(root / "tree")
        figures: Figures = {}
        for row in rows:
            able = {side: actions[row.name] for side, actions in sides.items() if row.name in actions}
            figures[row.name] = measure(row, able, root)
    print(table(rows, figures))
    print(
        f"\nMedian (95th percentile) in ms; turns of each side: {', '.join(f'{row.name} {row.turns}' for row in rows)}."
    )
    print(
        f"Searched: {tree_bytes / 1e6:.0f} MB. Anchors: {', '.join(f'{name} {at}' for name, at in VERSIONS.items())}."
    )
    print("".join(f"\n{note}" for note in notes))
    _keep(figures, notes)
    return 0


def _open_all(
    open_sides: ExitStack, notes: list[str], *, with_stack: bool
) -> tuple[dict[str, dict[str, Action]], Path]:
    """Every side that there can be here, and the folder they all work in; the notes say what is missing."""
    scratch = Path(open_sides.enter_context(TemporaryDirectory(prefix="toolswarm-bench-")))
    stack: Stack | None = None
    if with_stack:
        try:
            stack = open_sides.enter_context(started())
        except BenchmarkFailed as error:
            notes.append(f"The stack did not start, the whole call is left out: {error}")
    root = stack.state.parent / "workspaces" / "default" if stack else scratch / "root"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    openings: dict[str, Callable[[], AbstractContextManager[dict[str, Action]]]] = {
        "direct": lambda: direct(root, scratch),
        "filesystem": lambda: servers.filesystem(root, scratch),
        "commander": lambda: servers.commander(root, scratch),
        "ripgrep": lambda: nullcontext(plain_ripgrep(root)),
    }
    if stack is not None:
        url, key = stack.snapshot().url_of("gateway"), os.environ.get("MCP_API_KEY")
        api_key = key or StateFolder(stack.state).api_key_file.read_text().strip()
        openings["whole_call"] = lambda: whole_call(root, url, api_key)
    sides: dict[str, dict[str, Action]] = {}
    for side, opening in openings.items():
        try:
            sides[side] = open_sides.enter_context(opening())
        except BenchmarkFailed as error:
            notes.append(f"{HEADINGS[side]}: {error}")
            continue
        Files(root / side).make()
    return sides, root


def table(rows: Sequence[Row], figures: Figures) -> str:
    """The figures as Markdown, with what our operation takes of the best anchor's time, and of ripgrep's."""
    shown = [side for side in HEADINGS if any(side in figures[row.name] for row in rows)]
    headings = ["", *(HEADINGS[side] for side in shown), "direct ÷ best anchor", "direct ÷ rg"]
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)]]
    for row in rows:
        found = figures[row.name]
        cells = [_cell(found.get(side)) for side in shown]
        best = min((found[side].median_s for side in ANCHORS if side in found), default=None)
        plain = found["ripgrep"].median_s if "ripgrep" in found else None
        ratios = ["–" if other is None else f"{found['direct'].median_s / other:.2f}" for other in (best, plain)]
        lines.append([row.title, *cells, *ratios])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(figure: Figure | None) -> str:
    return "–" if figure is None else f"{figure.median_s * 1e3:.2f} ({figure.p95_s * 1e3:.2f})"


def _keep(figures: Figures, notes: Sequence[str]) -> None:
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"desktop-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    rows = {
        row: {side: {"median_s": one.median_s, "p95_s": one.p95_s} for side, one in sides.items()}
        for row, sides in figures.items()
    }
    file.write_text(json.dumps({"at": time.time(), "anchors": VERSIONS, "rows": rows, "notes": list(notes)}, indent=2))
    print(f"written to {file}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
