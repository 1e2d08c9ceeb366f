"""A desk for tests, calls of its operations as a worker makes them, and the processes behind."""

import os
import shutil
from pathlib import Path
from typing import Any

import psutil
import pytest

from store.configuration import Configuration
from store.tool_settings import Desktop as DesktopSettings
from tasks.desktop import TOOL
from tasks.desktop.commands import CommandResult
from tasks.desktop.desk import Desk
from tasks.desktop.keeping import keeper_pid
from tests.tasks.fake_run import FakeRun


def open_desk(roots: Path | dict[str, Path], **settings: Any) -> Desk:
    """A desk with one root for the tenant `default`, or one for each tenant."""
    folders = {"default": roots} if isinstance(roots, Path) else roots
    named = {tenant: str(folder) for tenant, folder in folders.items()}
    first = next(iter(folders.values()))
    workspaces = str(first.parent / f"{first.name}-workspaces")
    return Desk.open(Configuration(desktop=DesktopSettings(workspaces=workspaces, roots=named, **settings)))


async def call(desk: Desk, name: str, run: FakeRun | None = None, **arguments: Any) -> Any:
    """Call an operation as a worker does."""
    declared = TOOL.operations[name]
    return await declared.function(desk, run or FakeRun(), **declared.convert(arguments))


async def run_argv(desk: Desk, *argv: str, run: FakeRun | None = None, **arguments: Any) -> CommandResult:
    """Run a command."""
    result = await call(desk, "run_command", run, argv=list(argv), **arguments)
    assert isinstance(result, CommandResult)
    return result


def watchers() -> list[int]:
    """The watchers of commands that run now."""
    keeper = keeper_pid()
    return [] if keeper is None else [child.pid for child in psutil.Process(keeper).children()]


def lives(pid: int) -> bool:
    """Whether the process is more than a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def needs_program(program: str) -> str:
    """A program of the system; skips (or fails, if all is required) where there is none."""
    found = shutil.which(program, path="/usr/local/bin:/usr/bin:/bin")
    if found is None:
        if os.environ.get("TOOLSWARM_REQUIRE_ALL") == "1":
            pytest.fail(f"needs {program} of the system, and TOOLSWARM_REQUIRE_ALL is set")
        pytest.skip(f"needs {program} of the system")
    return found
