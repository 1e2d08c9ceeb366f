"""`make bench-github`: what GitHub is asked for, and what becomes of calls when it fails, ours beside plain PyGithub.

All against the fake GitHub of the tests (`tests/servers/github.py`), which counts and fails as GitHub does. Our side
runs the operations directly, without queue and ledger, in a loop with the workers' rules. Three tables: requests sent
per operation; quota used for many reads of few objects, with remembered answers (ETags) and without; calls served
and things created twice while requests fail.
"""

import argparse
import json
import logging
import random
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from github import Auth, Github
from rich.console import Console
from rich.table import Table

from benchmarks.github_operations import COMPARED, prepare
from benchmarks.github_served import AsWorkersDo, Served, WithPyGithub, mix, serve
from benchmarks.valkey import Valkey
from store.tool_settings import GithubLimits
from tests.servers.github import ALICE_TOKEN, FakeGithub, populate
from tests.tasks.github_calls import GithubCalls, github_calls

RESULTS = Path(__file__).parent / "results"
REPOSITORIES = 10
READS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("get_repo", {}),
    ("get_contents", {"path": "README.md"}),
    ("list_branches", {}),
    ("list_issues", {}),
    ("get_issue", {"number": 1}),
)
"""What is read of each repository."""
CHANGES_EVERY = 100
"""After so many reads one repository gets a new commit, and a new issue."""
NO_LIMITS = GithubLimits(points_per_minute=10**6, writes_per_minute=10**6, writes_per_hour=10**6)
"""So that a benchmark does in a minute what a token may do in hours: GitHub's own hourly limits stay."""


@contextmanager
def _fake(seed: int = 0) -> Generator[FakeGithub, None, None]:
    with FakeGithub(seed=seed) as github:
        populate(github)
        yield github


@contextmanager
def _ours(github: FakeGithub, valkey: Valkey, **settings: Any) -> Generator[GithubCalls, None, None]:
    valkey.flush()
    url = valkey.url
    with github_calls(github.url, broker_url=url, cache_url=url, limits=NO_LIMITS, **settings) as calls:
        yield calls


def requests_per_operation(valkey: Valkey) -> list[dict[str, Any]]:
    """Requests that each operation sends, beside the same thing done with PyGithub's defaults."""
    rows = list[dict[str, Any]]()
    for each in COMPARED:
        sent = dict[str, int]()
        with _fake() as github, _ours(github, valkey) as calls:
            prepare(github)
            arguments = each.arguments(github)
            github.forget()
            calls.do(each.operation, **arguments)
            sent["ours"] = len(github.requests)
        with _fake() as github:
            prepare(github)
            client = Github(auth=Auth.Token(ALICE_TOKEN), base_url=github.url, seconds_between_writes=0)
            each.plain(client)
            client.close()
            sent["pygithub"] = len(github.requests)
        rows.append({"operation": each.operation, **sent, "note": each.note})
    return rows


def quota(valkey: Valkey, reads: int) -> list[dict[str, Any]]:
    """What the same reads cost of the hourly quota."""
    rows = list[dict[str, Any]]()
    for name, conditional in (("with ETags", True), ("without", False)):
        with _fake() as github, _ours(github, valkey, conditional=conditional) as calls:
            names = _repositories(github)
            chance = random.Random(3)
            github.forget()
            began = time.perf_counter()
            for number in range(reads):
                if number and number % CHANGES_EVERY == 0:
                    _change(github, chance.choice(names), number)
                operation, arguments = chance.choice(READS)
                calls.do(operation, repo=chance.choice(names), **arguments)
            took_s = time.perf_counter() - began
            rows.append(
                {
                    "kind": name,
                    "reads": reads,
                    "objects": len(names) * len(READS),
                    "requests": len(github.requests),
                    "quota": github.used(ALICE_TOKEN),
                    "ms_per_read": took_s / reads * 1000,
                }
            )
    return rows


def _repositories(github: FakeGithub) -> list[str]:
    names = [f"alice/project-{number}" for number in range(REPOSITORIES)]
    for name in names:
        github.repository(name, {"README.md": f"# {name}\n" * 50})
        github.issue(name, "First")
    return names


def _change(github: FakeGithub, name: str, number: int) -> None:
    github.push(name, {"README.md": f"# Version {number}\n"})
    github.issue(name, f"Issue {number}")


def under_faults(valkey: Valkey, calls: int) -> dict[str, Served]:
    """Calls served and things created twice, under one and the same mix of faults."""
    found = dict[str, Served]()
    with _fake(seed=11) as github, _ours(github, valkey) as opened:
        github.fail(*mix())
        ours = AsWorkersDo(opened)
        found["ours"] = serve(github, calls, create=ours.create, read=ours.read)
    for name, retries in (("PyGithub", True), ("PyGithub, retry=None", False)):
        with _fake(seed=11) as github:
            github.fail(*mix())
            plain = WithPyGithub(github.url, retries=retries)
            found[name] = serve(github, calls, create=plain.create, read=plain.read)
            plain.close()
    return found


def show(console: Console, report: dict[str, Any]) -> None:
    """The three tables."""
    sent = Table(title="requests sent for one operation")
    for heading in ("operation", "ours", "PyGithub", "note"):
        sent.add_column(heading, justify="right" if heading in ("ours", "PyGithub") else "left")
    for row in report["requests"]:
        sent.add_row(row["operation"], str(row["ours"]), str(row["pygithub"]), row["note"])
    total = [str(sum(row[side] for row in report["requests"])) for side in ("ours", "pygithub")]
    sent.add_row("all of them once", *total, "", style="bold")
    console.print(sent)

    used = Table(title="quota used for reads of few objects that seldom change")
    for heading in ("", "reads", "objects", "requests", "quota used", "ms a read"):
        used.add_column(heading, justify="right" if heading else "left")
    for row in report["quota"]:
        figures = [str(row[name]) for name in ("reads", "objects", "requests", "quota")]
        used.add_row(row["kind"], *figures, f"{row['ms_per_read']:.1f}")
    console.print(used)

    served = Table(title="5 % 502 after the effect, 5 % reset, 2 % 429: half reads, half creations")
    for heading in ("", "calls", "served", "creates", "doubled", "untold", "requests", "held s"):
        served.add_column(heading, justify="right" if heading else "left")
    for name, row in report["faults"].items():
        fields = ("calls", "served", "creations", "duplicates", "unreported", "requests")
        served.add_row(name, *(str(row[field]) for field in fields), f"{row['longest_s']:.1f}")
    console.print(served)
    console.print("doubled: created once too often; untold: created, but the call was told that it had failed;")
    console.print("held: the longest that one call kept its slot (ours gives it back while it waits)")


def main(argv: Sequence[str]) -> int:
    """Measure, show and keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.github", description="GitHub: requests, quota, faults.")
    parser.add_argument("--reads", type=int, default=1000, help="reads for the quota (default 1000)")
    parser.add_argument("--calls", type=int, default=1000, help="calls under faults (default 1000)")
    arguments = parser.parse_args(argv)
    logging.getLogger("github").setLevel(logging.ERROR)  # PyGithub tells of each retry
    with Valkey() as valkey:
        report: dict[str, Any] = {
            "at": time.time(),
            "pygithub": version("PyGithub"),
            "requests": requests_per_operation(valkey),
            "quota": quota(valkey, arguments.reads),
            "faults": {name: asdict(row) for name, row in under_faults(valkey, arguments.calls).items()},
        }
    console = Console()
    show(console, report)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"github-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
