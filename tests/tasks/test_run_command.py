import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from store.configuration import Configuration
from store.tool_settings import Desktop as DesktopSettings
from tasks.desktop import TOOL, process
from tasks.desktop.commands import CommandResult
from tasks.desktop.desk import Desk
from tests.servers.sshd import wait_until
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk.open(Configuration(desktop=DesktopSettings(roots={"default": str(tmp_path)})))


async def _run(desk: Desk, *argv: str, run: FakeRun | None = None, **arguments: Any) -> CommandResult:
    result = await TOOL.operations["run_command"].function(desk, run or FakeRun(), argv=list(argv), **arguments)
    assert isinstance(result, CommandResult)
    return result


async def test_outputs_and_exit_code_come_back_and_a_failing_command_is_no_failed_call(desk: Desk) -> None:
    run = FakeRun()

    result = await _run(desk, "sh", "-c", "echo out; echo err >&2; exit 3", run=run)

    assert (result.stdout, result.stderr, result.exit_code, result.signal) == ("out\n", "err\n", 3, None)
    assert run.effects_begun == 1
    assert run.places


async def test_a_signal_is_named(desk: Desk) -> None:
    result = await _run(desk, "sh", "-c", "kill -9 $$")

    assert (result.exit_code, result.signal) == (None, "SIGKILL")


@pytest.mark.parametrize("text", ["; id", "$(id)", "`id`", "<(id)", "*", "~", "$HOME", "a\nb", "-n", "'\"\\", ""])
async def test_no_shell_sees_the_arguments(desk: Desk, text: str) -> None:
    result = await _run(desk, "printf", "%s", text)

    assert result.stdout == text


async def test_it_starts_in_the_working_folder_with_its_input(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()

    result = await _run(desk, "sh", "-c", "pwd; cat", cwd="sub", stdin="héllo")

    assert result.stdout == f"{tmp_path}/sub\nhéllo"


async def test_without_input_a_command_that_reads_ends_at_once(desk: Desk) -> None:
    result = await _run(desk, "cat")

    assert (result.exit_code, result.stdout) == (0, "")


async def test_input_that_nobody_reads_is_no_failure(desk: Desk) -> None:
    result = await _run(desk, "true", stdin="x" * 5_000_000)

    assert result.exit_code == 0


async def test_the_workers_secrets_are_not_in_the_environment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_secret")
    monkeypatch.setenv("MCP_API_KEY", "key_secret")

    result = await _run(desk, "env", env={"COLOR": "red"})

    names = {line.partition("=")[0] for line in result.stdout.splitlines()}
    assert "ghp_" not in result.stdout
    assert {"PATH", "HOME", "LANG", "TERM", "COLOR"} <= names
    assert names <= {"PATH", "HOME", "LANG", "TERM", "COLOR", "LC_ALL", "LC_CTYPE", "TZ", "USER", "LOGNAME", "TMPDIR"}


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "PATH", "BASH_ENV", "ENV", "IFS", "GIT_SSH_COMMAND", "PYTHONPATH", "NODE_OPTIONS"]
)
async def test_a_variable_that_makes_other_programs_run_is_refused(desk: Desk, name: str) -> None:
    run = FakeRun()

    with pytest.raises(OperationFailed) as caught:
        await _run(desk, "true", run=run, env={name: "x"})

    assert (caught.value.failure_code, run.effects_begun) == ("env_refused", 0)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"argv": ["no-such-program"]}, "not_found"),
        ({"argv": ["/no/such/program"]}, "not_found"),
        ({"argv": ["./missing.sh"]}, "not_found"),
        ({"argv": ["../outside.sh"]}, "path_refused"),
        ({"argv": ["./plain.txt"]}, "not_executable"),
        ({"argv": ["./bad.sh"]}, "not_executable"),
        ({"argv": ["a\0b"]}, "invalid_command"),
        ({"argv": ["echo", "a\0b"]}, "invalid_command"),
        ({"argv": [""]}, "invalid_command"),
        ({"argv": ["true"], "cwd": "/etc"}, "path_refused"),
        ({"argv": ["true"], "cwd": "missing"}, "not_found"),
        ({"argv": ["true"], "cwd": "plain.txt"}, "not_a_directory"),
        ({"argv": ["true"], "env": {"A=B": "x"}}, "invalid_command"),
        ({"argv": ["true"], "env": {"A": "a\0b"}}, "invalid_command"),
        ({"argv": ["true"], "env": {"A": "x" * 70_000}}, "invalid_command"),
    ],
)
async def test_what_cannot_be_started_is_said_with_nothing_done(
    desk: Desk, tmp_path: Path, arguments: dict[str, Any], code: str
) -> None:
    (tmp_path / "plain.txt").write_text("x")
    (tmp_path / "bad.sh").write_text("#!/no/such/interpreter\n")
    (tmp_path / "bad.sh").chmod(0o755)

    with pytest.raises(OperationFailed) as caught:
        await TOOL.operations["run_command"].function(desk, FakeRun(), **arguments)

    assert (caught.value.failure_code, caught.value.before_effect) == (code, True)


async def test_a_script_in_the_working_folder_runs(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/run.sh").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "sub/run.sh").chmod(0o755)

    result = await _run(desk, "./run.sh", cwd="sub")

    assert result.stdout == "ran\n"


async def test_a_call_that_was_lost_before_its_effect_starts_nothing(desk: Desk, tmp_path: Path) -> None:
    run = FakeRun()
    run.lost = RuntimeError("lease lost")

    with pytest.raises(RuntimeError, match="lease lost"):
        await _run(desk, "touch", "witness", run=run)

    assert not (tmp_path / "witness").exists()
    assert _watchers() == []


_STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("pids", "a").write(f"{os.getpid()}\\n")
        while True: time.sleep(0.05)
    os._exit(0)
open("pids", "a").write(f"{os.getpid()}\\n")
print("begun", flush=True)
while True: time.sleep(0.05)
"""


async def test_at_the_time_limit_even_what_left_the_group_and_ignores_sigterm_is_killed(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE_S", 0.3)

    with pytest.raises(OperationFailed) as caught:
        await _run(desk, sys.executable, "-c", _STUBBORN, timeout_s=1)

    error = caught.value
    assert (error.failure_code, error.before_effect) == ("time_limit", False)
    assert (error.details["stdout"], error.details["signal"], error.details["timed_out"]) == (
        "begun\n",
        "SIGKILL",
        True,
    )
    assert len(_pids(tmp_path)) == 2
    assert not any(map(psutil.pid_exists, _pids(tmp_path)))


async def test_a_command_that_heeds_sigterm_can_say_goodbye(desk: Desk) -> None:
    with pytest.raises(OperationFailed) as caught:
        await _run(
            desk, "sh", "-c", "trap 'echo bye; exit 7' TERM; echo hi; while :; do sleep 0.02; done", timeout_s=0.4
        )

    assert (caught.value.details["stdout"], caught.value.details["exit_code"]) == ("hi\nbye\n", 7)


async def test_what_a_finished_command_leaves_behind_is_ended(desk: Desk, tmp_path: Path) -> None:
    began = time.monotonic()

    result = await _run(desk, "sh", "-c", "sleep 300 & echo $! >pids; setsid sleep 300 & echo done")

    assert (result.exit_code, result.stdout) == (0, "done\n")
    assert time.monotonic() - began < 5
    assert not any(map(psutil.pid_exists, _pids(tmp_path)))
    assert _watchers() == []


async def test_a_cancelled_call_kills_its_command_and_stays_cancelled(desk: Desk, tmp_path: Path) -> None:
    running = asyncio.create_task(_run(desk, "sh", "-c", "echo $$ >pids; sleep 300"))
    await _until_written(tmp_path / "pids")

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert not any(map(psutil.pid_exists, _pids(tmp_path)))
    assert _watchers() == []


async def test_a_killed_watcher_leaves_no_command_and_an_open_outcome(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(OperationFailed) as caught:
        await _run(desk, "sh", "-c", "echo $$ >pids; kill -9 $PPID; sleep 300")

    assert (caught.value.failure_code, caught.value.before_effect) == ("watcher_lost", False)
    wait_until(lambda: not any(map(_lives, _pids(tmp_path))), "the command survived")


_WORKER = """
import asyncio, sys
sys.path[:0] = sys.argv[2:]
from store.configuration import Configuration
from store.tool_settings import Desktop
from tasks.desktop import TOOL
from tests.tasks.fake_run import FakeRun
desk = TOOL.open(Configuration(desktop=Desktop(roots={"default": sys.argv[1]})))
script = "trap '' TERM; echo $$ >>pids; (setsid sh -c 'echo $$ >>pids; sleep 300' &); sleep 300"
asyncio.run(TOOL.operations["run_command"].function(desk, FakeRun(), argv=["sh", "-c", script]))
"""


async def test_a_killed_worker_takes_its_command_with_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _WORKER, tmp_path, *sys.path]) as worker:
        await _until_written(tmp_path / "pids", lines=2)

        worker.send_signal(signal.SIGKILL)

    wait_until(lambda: not any(map(_lives, _pids(tmp_path))), "the command outlived its worker")


async def test_thirty_megabytes_of_output_keep_head_and_tail_in_little_memory(desk: Desk) -> None:
    script = "echo first; head -c 30000000 /dev/zero | tr '\\0' x; echo; echo last"
    before_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    result = await _run(desk, "sh", "-c", script, max_output_bytes=10_000)

    after_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert result.stdout.startswith("first\nxxx")
    assert result.stdout.endswith("xxx\nlast\n")
    assert result.stdout_truncated
    assert result.stdout_dropped_bytes == 30_000_012 - 10_000
    assert len(result.stdout) < 11_000
    assert after_bytes - before_bytes < 8_000_000


async def test_control_sequences_are_spelled_out(desk: Desk) -> None:
    result = await _run(desk, "printf", r"\033]0;pwn\007 100%%\rdone\n\tü\377\n")

    assert result.stdout == "\\x1b]0;pwn\\x07 100%\\x0ddone\n\tü\\xff\n"


async def test_forty_commands_at_once_leave_no_descriptor_open(desk: Desk) -> None:
    await _run(desk, "true")
    before = len(os.listdir("/proc/self/fd"))

    results = await asyncio.gather(*(_run(desk, "sh", "-c", f"exit {number}") for number in range(40)))

    assert [result.exit_code for result in results] == list(range(40))
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_the_attempts_own_time_bounds_the_commands(desk: Desk) -> None:
    with pytest.raises(OperationFailed) as caught:
        await _run(desk, "sleep", "60", run=FakeRun(limit_s=4.3))

    assert caught.value.failure_code == "time_limit"


def _pids(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "pids").read_text().split()]


async def _until_written(file: Path, lines: int = 1) -> None:
    give_up_at = time.monotonic() + 10
    while not file.exists() or len(file.read_text().splitlines()) < lines:
        await asyncio.sleep(0.01)
        assert time.monotonic() < give_up_at


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _watchers() -> list[int]:
    return [child.pid for child in psutil.Process().children() if "watcher.py" in " ".join(child.cmdline())]
