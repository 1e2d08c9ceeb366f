"""Installing the other MCP servers from PyPI, each into a venv of its own outside git, exactly pinned."""

import subprocess
import sys

from benchmarks.contenders.contract import ROOT
from benchmarks.measure import BenchmarkFailed

PEERS = {
    "fastmcp": ("fastmcp==4.2.3", "httptools"),
    # As installed by itself mcpo 0.0.20 does not start: it needs the SDK and FastAPI of its own time.
    "mcpo": ("mcpo==0.0.20", "mcp==1.30.0", "fastapi==0.128.0", "httptools"),
}
CACHE = ROOT / ".toolswarm" / "bench" / "mcp"
_INSTALL_TIMEOUT_S = 600.0


def python_of(name: str) -> str:
    """The Python that has this server; installs it the first time.

    Raises:
        BenchmarkFailed: it cannot be installed.
    """
    folder, wanted = CACHE / name, "\n".join(PEERS[name])
    python, note = folder / "bin" / "python", folder / "installed"
    if note.exists() and note.read_text(encoding="utf-8") == wanted:
        return str(python)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS[name]],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False)
        if done.returncode:
            raise BenchmarkFailed(f"{name} could not be installed:\n{done.stderr[-2000:]}")
    note.write_text(wanted, encoding="utf-8")
    return str(python)
