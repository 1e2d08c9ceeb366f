"""Installing the anchors from npm into a folder outside git, exactly pinned, with their install scripts off."""

import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.contenders.contract import ROOT
from benchmarks.measure import BenchmarkFailed

FILESYSTEM = "@modelcontextprotocol/server-filesystem"
COMMANDER = "@wonderwhy-er/desktop-commander"
VERSIONS = {FILESYSTEM: "2026.8.31", COMMANDER: "0.2.52"}
CACHE = ROOT / ".toolswarm" / "bench" / "anchors"
OLDEST_NODE = 20
_INSTALL_TIMEOUT_S = 600.0


def node() -> str:
    """The Node.js of this machine.

    Raises:
        BenchmarkFailed: there is none that is new enough.
    """
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        raise BenchmarkFailed(f"no Node.js with npm here: the anchors are left out (they need version {OLDEST_NODE})")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < OLDEST_NODE:
        raise BenchmarkFailed(f"Node.js is {version}: the anchors are left out (they need version {OLDEST_NODE})")
    return found


def installed() -> Path:
    """The folder with the anchors in it; installs what is missing or has another version.

    Raises:
        BenchmarkFailed: npm could not install them.
    """
    modules = CACHE / "node_modules"
    if all(_version(modules / name) == version for name, version in VERSIONS.items()):
        return modules
    CACHE.mkdir(parents=True, exist_ok=True)
    wanted = [f"{name}@{version}" for name, version in VERSIONS.items()]
    flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--prefix", str(CACHE)]
    done = subprocess.run(
        ["npm", "install", *flags, *wanted],
        capture_output=True,
        text=True,
        timeout=_INSTALL_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise BenchmarkFailed(f"npm could not install {', '.join(wanted)}:\n{done.stderr[-2000:]}")
    return modules


def _version(package: Path) -> str | None:
    file = package / "package.json"
    return str(json.loads(file.read_text())["version"]) if file.exists() else None
