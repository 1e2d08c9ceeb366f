"""The anchors at work: each row of the benchmark as calls to their tools, with what the answer must hold."""

import json
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.anchors.install import COMMANDER, FILESYSTEM, installed, node
from benchmarks.anchors.mcp_stdio import StdioServer
from benchmarks.desktop_work import NEEDLE, NEEDLES, Action, Files
from benchmarks.measure import BenchmarkFailed

_SESSION = re.compile(r"session: (\S+)")
_PATIENCE_MS = 30_000


@contextmanager
def filesystem(root: Path, scratch: Path) -> Generator[dict[str, Action]]:
    """The reference server for files; it finds names only, and starts no commands."""
    argv = [node(), str(installed() / FILESYSTEM / "dist" / "index.js"), str(root)]
    files = Files(root / "filesystem")
    with StdioServer(argv, environment=_environment(scratch), log=scratch / "filesystem.log") as server:
        yield {
            "read": lambda _: server.call("read_text_file", path=str(files.read)),
            "write": lambda turn: server.call("write_file", path=str(files.write), content=files.content(turn)),
            "edit": lambda turn: server.call(
                "edit_file",
                path=str(files.edit),
                edits=[{"oldText": files.line(turn - 1), "newText": files.line(turn)}],
            ),
        }


@contextmanager
def commander(root: Path, scratch: Path) -> Generator[dict[str, Action]]:
    """Desktop Commander, with telemetry off in its settings and by its environment."""
    settings = scratch / ".claude-server-commander" / "config.json"
    settings.parent.mkdir()
    off = {
        "telemetryEnabled": False,
        "allowedDirectories": [str(root)],
        "blockedCommands": [],
        "defaultShell": "/bin/sh",
    }
    settings.write_text(json.dumps(off))
    argv = [node(), str(installed() / COMMANDER / "dist" / "index.js"), "--no-onboarding"]
    files = Files(root / "commander")
    with StdioServer(argv, environment=_environment(scratch), log=scratch / "commander.log") as server:
        yield {
            "read": lambda _: server.call("read_file", path=str(files.read)),
            "write": lambda turn: server.call(
                "write_file", path=str(files.write), content=files.content(turn), mode="rewrite"
            ),
            "edit": lambda turn: server.call(
                "edit_block", file_path=str(files.edit), old_string=files.line(turn - 1), new_string=files.line(turn)
            ),
            "search": lambda _: _commander_search(server, root / "tree"),
            "command": lambda _: server.call("start_process", command="true", timeout_ms=_PATIENCE_MS),
        }


def _commander_search(server: StdioServer, tree: Path) -> str:
    """A search there is a session that is asked for its results until it is done; here without any pause."""
    started = server.call(
        "start_search",
        path=str(tree),
        pattern=NEEDLE,
        searchType="content",
        literalSearch=True,
        ignoreCase=False,
        includeHidden=True,
        contextLines=0,
    )
    session = _SESSION.search(started)
    if session is None:
        raise BenchmarkFailed(f"start_search named no session: {started[:500]}")
    while True:
        answer = server.call("get_more_search_results", sessionId=session[1], length=NEEDLES + 10)
        if "Status: COMPLETED" in answer:
            return answer
        if "Status: IN PROGRESS" not in answer and "RUNNING" not in answer:
            raise BenchmarkFailed(f"the search has failed: {answer[:500]}")


def _environment(scratch: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(scratch),
        "DESKTOP_COMMANDER_DISABLE_TELEMETRY": "1",
        "DC_FLAG_URL": "http://127.0.0.1:9/",  # its feature flags: from nowhere
    }
