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

from tasks.desktop import prepare
from tasks.desktop.desk import Desk
from tasks.desktop.keeping import keeper_pid
from tests.servers.waiting import until, until_async
from tests.tasks.command_calls import call, lives, open_desk, run_argv, watchers
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return open_desk(tmp_path)


async def test_outputs_and_exit_code_come_back_and_a_failing_command_is_no_failed_call(desk: Desk) -> None:
    run = FakeRun()

    result = await run_argv(desk, "sh", "-c", "echo out; echo err >&2; exit 3", run=run)

    assert (result.stdout, result.stderr, result.exit_code, result.signal) == ("out\n", "err\n", 3, None)
    assert run.effects_begun == 1
    assert run.places


async def test_a_signal_is_named(desk: Desk) -> None:
    result = await run_argv(desk, "sh", "-c", "kill -9 $$")

    assert (result.exit_code, result.signal) == (None, "SIGKILL")


@pytest.mark.parametrize("text", ["; id", "$(id)", "`id`", "<(id)", "*", "~", "$HOME", "a\nb", "-n", "'\"\\", ""])
async def test_no_shell_sees_the_arguments(desk: Desk, text: str) -> None:
    result = await run_argv(desk, "printf", "%s", text)

    assert result.stdout == text


async def test_it_starts_in_the_working_folder_with_its_input(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()

    result = await run_argv(desk, "sh", "-c", "pwd; cat", cwd="sub", stdin="héllo")

    assert result.stdout == f"{tmp_path}/sub\nhéllo"


async def test_without_input_a_command_that_reads_ends_at_once(desk: Desk) -> None:
    result = await run_argv(desk, "cat")

    assert (result.exit_code, result.stdout) == (0, "")


async def test_input_that_nobody_reads_is_no_failure(desk: Desk) -> None:
    result = await run_argv(desk, "true", stdin="x" * 5_000_000)

    assert result.exit_code == 0


_CEILING = "GIT_CEILING_DIRECTORIES"


async def test_the_workers_secrets_are_not_in_the_environment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_secret")
    monkeypatch.setenv("MCP_API_KEY", "key_secret")

    result = await run_argv(desk, "env", env={"COLOR": "red"})

    names = {line.partition("=")[0] for line in result.stdout.splitlines()}
    assert "ghp_" not in result.stdout
    assert {"PATH", "HOME", "LANG", "TERM", "COLOR"} <= names
    assert names <= {
        "PATH",
        "HOME",
        "LANG",
        "TERM",
        "COLOR",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "USER",
        "LOGNAME",
        "TMPDIR",
        _CEILING,
    }


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "PATH", "BASH_ENV", "ENV", "IFS", "GIT_SSH_COMMAND", "PYTHONPATH", "NODE_OPTIONS"]
)
async def test_a_variable_that_makes_other_programs_run_is_refused(desk: Desk, name: str) -> None:
    run = FakeRun()

    with pytest.raises(OperationFailed) as caught:
        await run_argv(desk, "true", run=run, env={name: "x"})

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
        ({"argv": ["echo", "x" * 140_000]}, "invalid_command"),
        ({"argv": ["echo", *["x" * 100_000] * 20]}, "invalid_command"),
        ({"argv": ["echo", "\ud800"]}, "invalid_command"),
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
        await call(desk, "run_command", **arguments)

    assert (caught.value.failure_code, caught.value.before_effect) == (code, True)


async def test_a_script_in_the_working_folder_runs(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/run.sh").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "sub/run.sh").chmod(0o755)

    result = await run_argv(desk, "./run.sh", cwd="sub")

    assert result.stdout == "ran\n"


async def test_a_call_that_was_lost_before_its_effect_starts_nothing(desk: Desk, tmp_path: Path) -> None:
    run = FakeRun()
    run.lost = RuntimeError("lease lost")

    with pytest.raises(RuntimeError, match="lease lost"):
        await run_argv(desk, "touch", "witness", run=run)

    assert not (tmp_path / "witness").exists()
    until(lambda: watchers() == [], "no watcher is left")


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
    monkeypatch.setattr(prepare, "GRACE_S", 0.3)

    with pytest.raises(OperationFailed) as caught:
        await run_argv(desk, "python3", "-c", _STUBBORN, timeout_s=1)

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
        await run_argv(
            desk, "sh", "-c", "trap 'echo bye; exit 7' TERM; echo hi; while :; do sleep 0.02; done", timeout_s=0.4
        )

    assert (caught.value.details["stdout"], caught.value.details["exit_code"]) == ("hi\nbye\n", 7)


async def test_what_a_finished_command_leaves_behind_is_ended(desk: Desk, tmp_path: Path) -> None:
    began = time.monotonic()

    result = await run_argv(desk, "sh", "-c", "sleep 300 & echo $! >pids; setsid sleep 300 & echo done")

    assert (result.exit_code, result.stdout) == (0, "done\n")
    assert time.monotonic() - began < 5
    assert not any(map(psutil.pid_exists, _pids(tmp_path)))
    until(lambda: watchers() == [], "no watcher is left")


async def test_a_cancelled_call_kills_its_command_and_stays_cancelled(desk: Desk, tmp_path: Path) -> None:
    running = asyncio.create_task(run_argv(desk, "sh", "-c", "echo $$ >pids; sleep 300"))
    await _until_written(tmp_path / "pids")

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert not any(map(psutil.pid_exists, _pids(tmp_path)))
    until(lambda: watchers() == [], "no watcher is left")


async def test_a_command_cannot_kill_its_watcher(desk: Desk) -> None:
    result = await run_argv(desk, "sh", "-c", "kill -9 $PPID; echo $?")

    assert result.stdout == "1\n"


_TREE = "trap '' TERM; echo $$ >>pids; (setsid sh -c 'echo $$ >>pids; sleep 300' &); sleep 300"
"""Two processes, one of them in another session and without a parent, and both with no ear for SIGTERM."""


async def test_a_killed_watcher_leaves_no_command_and_an_open_outcome(desk: Desk, tmp_path: Path) -> None:
    running = asyncio.create_task(run_argv(desk, "sh", "-c", f"echo $TMPDIR >tmpdir; {_TREE}"))
    await _until_written(tmp_path / "pids", lines=2)

    for pid in watchers():
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(OperationFailed) as caught:
        await running

    assert (caught.value.failure_code, caught.value.before_effect) == ("watcher_lost", False)
    until(lambda: not any(map(lives, _pids(tmp_path))), "the command has ended")
    until(lambda: not Path((tmp_path / "tmpdir").read_text().strip()).exists(), "its temporary folder is removed")


async def test_a_killed_keeper_does_no_harm_to_what_runs_and_another_takes_its_place(
    desk: Desk, tmp_path: Path
) -> None:
    running = asyncio.create_task(run_argv(desk, "sh", "-c", "echo $$ >pids; while [ ! -e go ]; do sleep 0.02; done"))
    await _until_written(tmp_path / "pids")
    first = keeper_pid()
    assert first is not None

    os.kill(first, signal.SIGKILL)
    other = await run_argv(desk, "echo", "other")
    (tmp_path / "go").touch()
    result = await running

    assert (other.stdout, result.exit_code) == ("other\n", 0)
    assert keeper_pid() != first


async def test_when_a_keeper_is_killed_with_a_request_nothing_is_lost(desk: Desk) -> None:
    await run_argv(desk, "true")
    pid = keeper_pid()
    assert pid is not None

    os.kill(pid, signal.SIGSTOP)
    running = asyncio.create_task(run_argv(desk, "echo", "once"))
    await asyncio.wait((running,), timeout=0.1)  # by now the request lies with the keeper
    os.kill(pid, signal.SIGKILL)

    assert (await running).stdout == "once\n"


_WORKER = """
import asyncio, sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from tests.tasks.command_calls import open_desk, run_argv
asyncio.run(run_argv(open_desk(Path(sys.argv[1])), "sh", "-c", sys.argv[2]))
"""


async def test_a_killed_worker_takes_its_command_with_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _WORKER, tmp_path, _TREE, *sys.path]) as worker:
        await _until_written(tmp_path / "pids", lines=2)

        worker.send_signal(signal.SIGKILL)

    until(lambda: not any(map(lives, _pids(tmp_path))), "the command has ended with its worker")


async def test_a_hundred_megabytes_of_output_keep_head_and_tail_in_little_memory(desk: Desk) -> None:
    script = "echo first; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo last"
    before_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    result = await run_argv(desk, "sh", "-c", script, max_output_bytes=10_000)

    after_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert result.stdout.startswith("first\nxxx")
    assert result.stdout.endswith("xxx\nlast\n")
    assert result.stdout_truncated
    assert result.stdout_dropped_bytes == 100_000_012 - 10_000
    assert len(result.stdout) < 11_000
    assert after_bytes - before_bytes < 20_000_000


async def test_control_sequences_are_spelled_out(desk: Desk) -> None:
    result = await run_argv(desk, "printf", r"\033]0;pwn\007 100%%\rdone\n\tü\377\n")

    assert result.stdout == "\\x1b]0;pwn\\x07 100%\\x0ddone\n\tü\\xff\n"


async def test_endless_output_ends_with_the_time(desk: Desk) -> None:
    before_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    with pytest.raises(OperationFailed) as caught:
        await run_argv(desk, "sh", "-c", "tr -d '\\n' </dev/zero & yes", timeout_s=0.5, max_output_bytes=1000)

    after_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert caught.value.failure_code == "time_limit"
    assert caught.value.details["stdout_dropped_bytes"] > 1_000_000
    assert after_bytes - before_bytes < 20_000_000


async def test_a_working_folder_may_be_removed_meanwhile(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()

    result = await run_argv(desk, "sh", "-c", 'rmdir "$HOME/sub"; echo still here', cwd="sub")

    assert result.stdout == "still here\n"


async def test_no_secret_of_a_call_is_in_an_error_or_in_the_list_of_processes(desk: Desk, tmp_path: Path) -> None:
    secret = "s3cret-in-env"
    running = asyncio.create_task(run_argv(desk, "sh", "-c", _TREE, env={"KEY": secret}, stdin=secret))
    await _until_written(tmp_path / "pids", lines=2)

    command_lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    with pytest.raises(OperationFailed) as caught:
        await run_argv(desk, "true", env={"KEY": secret + "\0"})
    running.cancel()
    await asyncio.wait((running,))

    assert not any(secret in line for line in command_lines)
    assert secret not in str(caught.value) + repr(caught.value.details)


async def test_raw_output_keeps_its_control_sequences(desk: Desk) -> None:
    result = await run_argv(desk, "printf", r"\033[31mred\r\377\n", raw=True)

    assert result.stdout == "\x1b[31mred\r\\xff\n"


async def test_output_is_told_while_it_comes_and_characters_are_whole(desk: Desk, tmp_path: Path) -> None:
    run = FakeRun()
    script = r"printf 'a\303'; printf '\274\033'; echo err >&2; while [ ! -e go ]; do sleep 0.02; done; echo end"
    running = asyncio.create_task(run_argv(desk, "sh", "-c", script, run=run))

    await until_async(lambda: _says(run, "stderr", "err\n"), "the output is told")
    early = _told(run, "stdout")
    (tmp_path / "go").touch()
    result = await running

    assert early == "aü\\x1b"
    assert _told(run, "stdout") == result.stdout == "aü\\x1bend\n"


async def test_no_more_is_told_than_the_result_may_hold(desk: Desk) -> None:
    run = FakeRun()

    await run_argv(desk, "head", "-c", "1000000", "/dev/zero", run=run, max_output_bytes=1000, raw=True)

    assert len(_told(run, "stdout")) == 1000


async def test_forty_commands_at_once_leave_no_descriptor_open(desk: Desk) -> None:
    await run_argv(desk, "true")
    before = len(os.listdir("/proc/self/fd"))

    results = await asyncio.gather(*(run_argv(desk, "sh", "-c", f"exit {number}") for number in range(40)))

    assert [result.exit_code for result in results] == list(range(40))
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_the_attempts_own_time_bounds_the_commands(desk: Desk) -> None:
    with pytest.raises(OperationFailed) as caught:
        await run_argv(desk, "sleep", "60", run=FakeRun(limit_s=4.3))

    assert caught.value.failure_code == "time_limit"


def _told(run: FakeRun, stream: str) -> str:
    return "".join(output["text"] for output in run.told if output["stream"] == stream)


async def _says(run: FakeRun, stream: str, text: str) -> bool:
    return _told(run, stream) == text


def _pids(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "pids").read_text().split()]


async def _until_written(file: Path, lines: int = 1) -> None:
    give_up_at = time.monotonic() + 10
    while not file.exists() or len(file.read_text().splitlines()) < lines:
        await asyncio.sleep(0.01)
        assert time.monotonic() < give_up_at
