"""The demo's calls: real ones, of all kinds, each with what routing decided and how long each part took."""

import time
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from local.demo_targets import DEMO_HOST
from local.up import Setup
from toolswarm import CallHandle, Client, State, ToolResult
from toolswarm.errors import RequestRefused, ToolswarmError
from toolswarm.messages import Context, ErrorInfo, Route

PROJECT = "demo-project"
_REPO = "acme/weather"
_TIMEOUT_S = 30.0
_PLAIN_WIDTH = 160
"""Columns of the table where there is no terminal."""

_FILES = {
    "README.md": "# Demo project\n\nA few files for the demo of Toolswarm to work on.\n",
    "src/greeting.py": 'def greet(name: str) -> str:\n    return f"Hello, {name}!"\n',
    "tests/test_greeting.py": (
        'from greeting import greet\n\n\ndef test_greet() -> None:\n    assert greet("you") == "Hello, you!"\n'
    ),
}


class Cancel(StrEnum):
    """When the demo takes a call back."""

    NEVER = ""
    WAITING = "cancelled while it waits"
    RUNNING = "cancelled while it runs"


class DemoCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the demo, and how it is to end."""

    operation: str
    arguments: dict[str, Any]
    context: Context = Context()
    expected: State = State.SUCCEEDED
    error_code: str = ""
    """The code of its error, when it is not to succeed."""
    cancel: Cancel = Cancel.NEVER


class DemoRow(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it."""

    call: DemoCall
    route: Route | None
    result: ToolResult
    total_s: float

    @property
    def as_expected(self) -> bool:
        """Whether it ended as it was to."""
        code = self.result.error.code if self.result.error else ""
        return self.result.status is self.call.expected and self.call.error_code in ("", code)


def demo_calls() -> Iterator[DemoCall]:
    """The calls, in order."""
    repo = Context(repo=_REPO)
    yield DemoCall(
        operation="write_file", arguments={"path": f"{PROJECT}/notes.txt", "content": f"written at {time.time():.0f}\n"}
    )
    read_test = DemoCall(operation="read_file", arguments={"path": f"{PROJECT}/tests/test_greeting.py"})
    yield read_test
    yield DemoCall(operation="read_file", arguments={"path": "src/app.py"}, context=repo)
    yield DemoCall(operation="read_file", arguments={"path": "config/nginx.conf"})
    yield DemoCall(operation="list_directory", arguments={"path": PROJECT})
    yield DemoCall(operation="search", arguments={"pattern": "greet", "path": PROJECT})
    yield DemoCall(operation="run_command", arguments={"argv": ["wc", "-l", "README.md"], "cwd": PROJECT})
    yield DemoCall(operation="get_repo", arguments={}, context=repo)
    yield DemoCall(operation="search_issues", arguments={"query": f"repo:{_REPO} is:open"})
    yield DemoCall(operation="run", arguments={"argv": ["uname", "-s"]}, context=Context(host=DEMO_HOST))
    yield read_test
    yield DemoCall(
        operation="desktop.read_file",
        arguments={"path": "../../secrets.txt"},
        expected=State.FAILED,
        error_code="path_refused",
    )
    sleep = {"argv": ["sleep", "60"]}
    yield DemoCall(operation="run_command", arguments=sleep, expected=State.CANCELLED, cancel=Cancel.WAITING)
    # A command that was stopped midway may have done some of its work: that is said, not called `cancelled`.
    yield DemoCall(operation="run_command", arguments=sleep, expected=State.UNKNOWN, cancel=Cancel.RUNNING)
    yield DemoCall(operation="read_fil", arguments={"path": "x"}, expected=State.FAILED, error_code="unknown_operation")


def run_calls(setup: Setup, url: str) -> int:
    """Run them one after another and print the table; 1 when one did not end as it was to."""
    seed_workspace(_workspace(setup))
    seed_host(setup.folder.path / "demo")
    configured = setup.configuration.gateway.api_key.reveal()
    key = configured or setup.folder.api_key_file.read_text(encoding="utf-8").strip()
    swarm = Client(url, key, timeout_s=_TIMEOUT_S)
    pool = setup.configuration.pool("desktop")
    rows: list[DemoRow] = []
    for call in demo_calls():
        busy = fill_slots(swarm, pool.concurrency * pool.processes) if call.cancel is Cancel.WAITING else []
        rows.append(run_call(swarm, call))
        for handle in busy:
            handle.outcome(_TIMEOUT_S)
    console = Console(width=None if Console().is_terminal else _PLAIN_WIDTH)
    console.print(_table(rows))
    wrong = [row for row in rows if not row.as_expected]
    for row in wrong:
        shown = row.result.error or row.result.status
        console.print(f"not as expected: {row.call.operation}: {shown}", style="red", markup=False)
    return 1 if wrong else 0


def run_call(swarm: Client, call: DemoCall) -> DemoRow:
    """Run one call to its end."""
    began = time.monotonic()
    calls = swarm.options(context=call.context)
    route = None
    try:
        handle = calls.submit(call.operation, **call.arguments)
        if call.cancel is Cancel.RUNNING:
            _wait_for_start(handle)
        if call.cancel is not Cancel.NEVER:
            handle.cancel()
        result = handle.outcome(_TIMEOUT_S)
        total_s = time.monotonic() - began
        route = calls.route(call.operation, **call.arguments)
    except RequestRefused as refused:
        total_s = time.monotonic() - began
        result = _refusal(refused)
    return DemoRow(call=call, route=route, result=result, total_s=total_s)


def fill_slots(swarm: Client, slots: int) -> list[CallHandle]:
    """Give every slot of the pool a short command to run, so that the next call has to wait."""
    handles = [swarm.submit("desktop.run_command", argv=["sleep", "1"]) for _ in range(slots)]
    for handle in handles:
        _wait_for_start(handle)
    return handles


def seed_workspace(root: Path) -> None:
    """Put the demo's project into the workspace, unless it is there."""
    _write_files(root / PROJECT, _FILES)


def seed_host(folder: Path) -> None:
    """Put a server's configuration where the demo's remote host finds it."""
    _write_files(folder, {"config/nginx.conf": "server {\n    listen 80;\n    root /srv/www;\n}\n"})


def _write_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        file = folder / name
        if not file.exists():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")


def _workspace(setup: Setup) -> Path:
    desktop = setup.configuration.desktop
    root = Path(desktop.roots.get("default") or Path(desktop.workspaces) / "default")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return root


def _wait_for_start(handle: CallHandle) -> None:
    limit = time.monotonic() + _TIMEOUT_S
    while handle.status() in (State.ACCEPTED, State.RUNNING) and time.monotonic() < limit:
        time.sleep(0.02)


def _refusal(refused: ToolswarmError) -> ToolResult:
    info = refused.info()
    return ToolResult(
        id="", status=State.FAILED, error=ErrorInfo(code=info.code, message=info.message, details=info.details)
    )


def _table(rows: list[DemoRow]) -> Table:
    title = "What was called, where it went, and how long each part took"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading, width in (("call", 52), ("routed to", None), ("by the rule", None)):
        table.add_column(heading, overflow="ellipsis", no_wrap=True, max_width=width)
    for heading in ("waited ms", "ran ms", "total ms"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    table.add_column("outcome", no_wrap=True, min_width=26)
    for row in rows:
        meta = row.result.meta
        table.add_row(
            Text(_shown_call(row.call)),
            Text(row.route.operation if row.route else "–"),
            Text(row.route.decided_by.rule if row.route else "–"),
            _milliseconds(meta.queued_s),
            _milliseconds(meta.ran_s),
            _milliseconds(row.total_s),
            _outcome(row),
        )
    return table


def _shown_call(call: DemoCall) -> str:
    words = [call.operation]
    for name, value in call.arguments.items():
        text = value.strip() if isinstance(value, str) else msgspec.json.encode(value).decode()
        words.append(f"{name}={text}")
    context = msgspec.to_builtins(call.context)
    words += [f"({name} {value})" for name, value in context.items()]
    if call.cancel is not Cancel.NEVER:
        words.append(f"({call.cancel})")
    return " ".join(words)


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.1f}"


def _outcome(row: DemoRow) -> Text:
    error = row.result.error
    words = str(row.result.status)
    if error is not None and error.code != words:
        words += f": {error.code}"
    if row.result.meta.fallback_from:
        words += f" (fell back from {row.result.meta.fallback_from})"
    return Text(words, style="green" if row.as_expected else "red")
