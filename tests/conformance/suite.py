"""The official suite `@modelcontextprotocol/conformance` (npm), where `make conformance` puts it."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv" / "conformance"
SCRIPT = FOLDER / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
_OLDEST_NODE = 22


def run_suite(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run it against a server; skips the test where it is not there: `make test` leaves npm alone."""
    node = _node()
    if node is None or not SCRIPT.exists():
        pytest.skip(f"needs Node {_OLDEST_NODE} or newer and the conformance suite: make conformance")
    return subprocess.run(
        [node, SCRIPT, "server", "--url", url, "--suite", "all", *arguments],
        capture_output=True,
        text=True,
        timeout=110,
    )


def _node() -> str | None:
    for found in (FOLDER / "bin" / "node", shutil.which("node")):
        if found is not None and Path(found).exists():
            version = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
            if int(version.lstrip("v").partition(".")[0] or 0) >= _OLDEST_NODE:
                return str(found)
    return None
