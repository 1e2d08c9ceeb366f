import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.desktop import TOOL, policy, prepare
from tasks.desktop.desk import Desk
from tasks.desktop.process_states import ProcessState
from tests.servers.waiting import until, until_async
from tests.tasks.command_calls import call, lives, open_desk, run_argv, watchers
from tests.tasks.fake_run import FakeRun
from tests.tasks.session_calls import failure, has_ended, pids, read, read_until, start
from toolswarm.messages import Effect


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(prepare, "GRACE_S", 0.3)
    return open_desk(tmp_path)


# -- the end ---------------------------------------------------------------------------------------------------

_STUBBORN = (
    "trap '' TERM HUP INT; echo $$ >>pids; (setsid sh -c 'echo $$ >>pids; sleep 300' &); while :; do sleep 1; done"
)


@pytest.mark.parametrize("pty", [False, True])
async def test_stop_leaves_nothing_of_it(desk: Desk, tmp_path: Path, pty: bool) -> None:
    session_id = await start(desk, "sh", "-c", _STUBBORN, pty=pty)
    until(lambda: len(pids(tmp_path)) == 2, "both run")

    first = await call(desk, "process_stop", session_id=session_id)
    again = await call(desk, "process_stop", session_id=session_id)

    assert first == again
    assert (first.running, first.signal, first.ended_by) == (False, "SIGKILL", "stop")
    assert not any(map(lives, pids(tmp_path)))


async def test_a_signal_reaches_the_process(desk: Desk) -> None:
    session_id = await start(desk, "sh", "-c", "trap 'echo usr; exit 7' USR1; echo up; read -r line")
    await read_until(desk, session_id, "up")

    await call(desk, "process_signal", session_id=session_id, signal="USR1")
    await until_async(lambda: has_ended(desk, session_id), "it has ended")
    output = await read(desk, session_id)

    assert (output.output, output.process.exit_code) == ("up\nusr\n", 7)
    assert (await failure(desk, "process_signal", session_id=session_id, signal="KILL")).failure_code == "session_ended"


async def test_a_stopped_process_can_go_on_and_can_be_ended(desk: Desk) -> None:
    session_id = await start(desk, "sh", "-c", "while :; do echo tick; sleep 0.02; done")
    await read_until(desk, session_id, "tick")

    await call(desk, "process_signal", session_id=session_id, signal="STOP")
    state = await call(desk, "process_stop", session_id=session_id)

    assert (state.running, state.signal) == (False, "SIGTERM")


async def test_one_that_is_left_alone_is_ended(desk: Desk) -> None:
    session_id = await start(desk, "sleep", "300", idle_timeout_s=0.2)
    session = desk.sessions.get(session_id, "default")

    await until_async(lambda: _is_over(session), "it is ended")

    assert session.ended_by == "idle_timeout"


async def test_reading_keeps_it_from_being_idle_but_not_from_its_last_hour(desk: Desk) -> None:
    session_id = await start(desk, "sleep", "300", idle_timeout_s=0.3, total_timeout_s=0.9)

    states: list[ProcessState] = []
    while not states or states[-1].running:
        states.append((await read(desk, session_id, wait_s=0.05)).process)

    assert states[-1].ended_by == "total_timeout"


async def test_the_operators_limits_shorten_the_time_outs(tmp_path: Path) -> None:
    desk = open_desk(tmp_path, session_idle_s=5, session_total_s=7)

    started = await call(desk, "process_start", argv=["true"], idle_timeout_s=100, total_timeout_s=100)

    assert (started.idle_timeout_s, started.total_timeout_s) == (5, 7)


async def test_what_a_sessions_process_leaves_behind_is_ended(desk: Desk, tmp_path: Path) -> None:
    session_id = await start(desk, "sh", "-c", "(setsid sh -c 'echo $$ >>pids; sleep 300' &); sleep 0.1")
    until(lambda: len(pids(tmp_path)) == 1, "it runs")

    await until_async(lambda: has_ended(desk, session_id), "it has ended")

    assert not any(map(lives, pids(tmp_path)))


async def test_a_killed_watcher_is_told_and_leaves_nothing(desk: Desk, tmp_path: Path) -> None:
    session_id = await start(desk, "sh", "-c", _STUBBORN)
    until(lambda: len(pids(tmp_path)) == 2, "both run")

    for pid in watchers():
        os.kill(pid, signal.SIGKILL)
    output = await read(desk, session_id, wait_s=10)

    assert (output.process.running, output.process.ended_by) == (False, "lost")
    until(lambda: not any(map(lives, pids(tmp_path))), "nothing of it lives")


_WORKER = """
import asyncio, sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from tests.tasks.command_calls import call, open_desk
async def main():
    desk = open_desk(Path(sys.argv[1]))
    await call(desk, "process_start", argv=["sh", "-c", sys.argv[2]], pty=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_a_killed_worker_takes_its_sessions_with_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _WORKER, tmp_path, _STUBBORN, *sys.path]) as worker:
        until(lambda: len(pids(tmp_path)) == 2, "both run")

        worker.send_signal(signal.SIGKILL)

    until(lambda: not any(map(lives, pids(tmp_path))), "nothing of it lives")


# -- starting, and whose they are --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"argv": ["no-such-program"]}, "not_found"),
        ({"argv": ["./bad.sh"]}, "not_executable"),
        ({"argv": ["true"], "cwd": ".."}, "path_refused"),
        ({"argv": ["true"], "env": {"LD_PRELOAD": "x"}}, "env_refused"),
    ],
)
async def test_what_cannot_be_started_leaves_no_session(
    desk: Desk, tmp_path: Path, arguments: dict[str, Any], code: str
) -> None:
    (tmp_path / "bad.sh").write_text("#!/no/such/interpreter\n")
    (tmp_path / "bad.sh").chmod(0o755)

    error = await failure(desk, "process_start", **arguments)

    assert (error.failure_code, error.before_effect) == (code, True)
    assert (await call(desk, "process_list")).processes == ()
    until(lambda: watchers() == [], "no watcher is left")


async def test_a_call_that_was_lost_before_its_effect_starts_nothing(desk: Desk, tmp_path: Path) -> None:
    run = FakeRun()
    run.lost = RuntimeError("lease lost")

    with pytest.raises(RuntimeError, match="lease lost"):
        await start(desk, "touch", "witness", run=run)

    until(lambda: watchers() == [], "no watcher is left")
    assert not (tmp_path / "witness").exists()


async def test_a_session_runs_in_the_sandbox(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    started = await call(desk, "process_start", argv=["cat", "/etc/shadow"], pty=True)
    output = await read_until(desk, started.session_id, "denied")
    monkeypatch.setitem(policy.LEAST_ABI, "landlock", 99)

    error = await failure(open_desk(desk.root("default").root), "process_start", argv=["true"])

    assert (started.sandbox.profile, started.sandbox.network) == ("landlock", "none")
    assert "Permission denied" in output
    assert error.failure_code == "sandbox_unavailable"


@pytest.mark.parametrize("name", ["process_read", "process_write", "process_signal", "process_stop"])
async def test_another_tenants_session_is_like_one_that_never_was(tmp_path: Path, name: str) -> None:
    roots = {tenant: tmp_path / tenant for tenant in ("alice", "bob")}
    for folder in roots.values():
        folder.mkdir()
    desk = open_desk(roots)
    alice, bob = (FakeRun(tenant=tenant) for tenant in roots)
    session_id = await start(desk, "sleep", "300", run=alice)
    extra: dict[str, Any] = {"process_write": {"text": "x"}, "process_signal": {"signal": "INT"}}.get(name, {})

    others = await failure(desk, name, bob, session_id=session_id, **extra)
    never = await failure(desk, name, alice, session_id="worker-1.never", **extra)

    assert (others.failure_code, never.failure_code) == ("session_lost", "session_lost")
    assert others.message.replace(session_id, "") == never.message.replace("worker-1.never", "")
    assert (await call(desk, "process_list", bob)).processes == ()
    assert (await call(desk, "process_list", alice)).processes[0].process.running


async def test_a_list_has_the_tenants_sessions_of_this_worker(desk: Desk) -> None:
    first = await start(desk, "sleep", "300")
    second = await start(desk, "echo", "a\x1bb", pty=True)
    await until_async(lambda: has_ended(desk, second), "it has ended")

    listed = await call(desk, "process_list")

    assert listed.worker == "worker-1"
    assert [entry.process.session_id for entry in listed.processes] == [first, second]
    assert [(entry.argv, entry.pty) for entry in listed.processes] == [
        (("sleep", "300"), False),
        (("echo", "a\\x1bb"), True),
    ]
    assert [entry.process.running for entry in listed.processes] == [True, False]


async def test_the_sessions_of_a_tenant_are_bounded(tmp_path: Path) -> None:
    desk = open_desk(tmp_path, sessions=2)
    sessions = await asyncio.gather(start(desk, "sleep", "300"), start(desk, "sleep", "300"))

    error = await failure(desk, "process_start", argv=["sleep", "300"])
    await call(desk, "process_stop", session_id=sessions[0])
    third = await start(desk, "sleep", "300")

    assert (error.failure_code, error.failure_retryable, error.before_effect) == ("too_many_sessions", True, True)
    assert third.startswith("worker-1.")


async def test_ended_sessions_are_forgotten_the_oldest_first(tmp_path: Path) -> None:
    desk = open_desk(tmp_path, sessions=2)
    sessions: list[str] = []
    for _ in range(3):
        sessions.append(await start(desk, "true"))
        await until_async(lambda: has_ended(desk, sessions[-1]), "it has ended")

    error = await failure(desk, "process_read", session_id=sessions[0])

    assert error.failure_code == "session_lost"
    assert not (await read(desk, sessions[1])).process.running


async def test_ended_sessions_leave_no_descriptor_open(desk: Desk) -> None:
    await run_argv(desk, "true")
    before = len(os.listdir("/proc/self/fd"))

    for pty in (False, True):
        session_id = await start(desk, "cat", pty=pty)
        await call(desk, "process_stop", session_id=session_id)

    await until_async(lambda: _at_most(before), "all are closed")


def test_each_operation_says_what_it_does_to_the_world() -> None:
    declared = {name: operation for name, operation in TOOL.operations.items() if name.startswith("process_")}

    assert {name: operation.effect for name, operation in declared.items()} == {
        "process_start": Effect.ONCE,
        "process_read": Effect.READ,
        "process_write": Effect.ONCE,
        "process_signal": Effect.ONCE,
        "process_stop": Effect.IDEMPOTENT,
        "process_list": Effect.READ,
    }
    assert {name for name, operation in declared.items() if operation.session_argument == "session_id"} == {
        *("process_read", "process_write", "process_signal", "process_stop"),
    }


async def _is_over(session: Any) -> bool:
    return not session.running


async def _at_most(descriptors: int) -> bool:
    return len(os.listdir("/proc/self/fd")) <= descriptors
