"""Picks the recordings of real exchanges with api.github.com that our operations are run against.

They are in the npm package `@octokit/fixtures` (MIT), which has replaced ids, times and tokens by fixed values:

    cd /tmp && npm pack @octokit/fixtures@23.1.2 && tar xzf octokit-fixtures-23.1.2.tgz
    python tests/data/github/pick.py /tmp/package/scenarios/api.github.com

It writes `recordings.json` beside itself, one exchange in each line. Of the headers those are kept that a client may
care for.
"""

import json
import sys
from pathlib import Path
from typing import Any

EXCHANGES = {
    "get-repository": (0,),
    "get-content": (0, 1),
    "get-organization": (0,),
    "git-refs": (1, 2, 4),
    "paginate-issues": (0, 1, 4),
    "rename-repository": (1, 2, 3),
    "search-issues": (0,),
    "create-file": (0,),
    "add-labels-to-issue": (0,),
    "branch-protection": (0,),
    "errors": (0,),
    "get-archive": (0,),
}
"""Scenario -> which of its exchanges."""
HEADERS = ("content-type", "etag", "last-modified", "link", "location", "cache-control", "vary", "x-github-media-type")


def main(scenarios: Path, target: Path) -> None:
    """Pick and write."""
    lines = [
        json.dumps(exchange(scenario, recorded[number]), ensure_ascii=False, separators=(",", ":"))
        for scenario, numbers in EXCHANGES.items()
        for recorded in (json.loads((scenarios / scenario / "normalized-fixture.json").read_text(encoding="utf-8")),)
        for number in numbers
    ]
    target.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(f"{target}: {target.stat().st_size} bytes, {len(lines)} exchanges")


def exchange(scenario: str, recorded: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one exchange."""
    headers = {name: str(value) for name, value in recorded["headers"].items()}
    return {
        "scenario": scenario,
        "method": recorded["method"].upper(),
        "path": recorded["path"],
        "accept": recorded["reqheaders"]["accept"],
        "sent": recorded["body"] or None,
        "status": recorded["status"],
        "headers": {name: value for name, value in headers.items() if name in HEADERS or "ratelimit" in name},
        "body": recorded["response"],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("recordings.json"))
