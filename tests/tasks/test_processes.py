import asyncio
import base64
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.desktop import TOOL, policy, prepare
from tasks.desktop.desk import Desk
from tasks.desktop.process_states import ProcessOutput, ProcessState, SessionStarted
from tasks.desktop.ring import Ring
from tests.servers.waiting import until, until_async
from tests.tasks.command_calls import call, lives, open_desk, run_argv, watchers
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(prepare, "GRACE_S", 0.3)
    return open_desk(tmp_path)


async def _start(desk: Desk, *argv: str, run: FakeRun | None = None, **arguments: Any) -> str:
    started = await call(desk, "process_start", run, argv=list(argv), **arguments)
    assert isinstance(started, SessionStarted)
    return started.session_id


async def _read(desk: Desk, session_id: str, **arguments: Any) -> ProcessOutput:
    output = await call(desk, "process_read", session_id=session_id, **arguments)
    assert isinstance(output, ProcessOutput)
    return output


async def _read_until(desk: Desk, session_id: str, text: str, **arguments: Any) -> str:
    """All output so far, as soon as the text is in it."""
    seen: list[str] = []

    async def has_come() -> bool:
        seen[:] = [(await _read(desk, session_id, wait_s=1, **arguments)).output]
        return text in seen[0]

    await until_async(has_come, f"{text!r} is written")
    return seen[0]


async def _write(desk: Desk, session_id: str, text: str = "", **arguments: Any) -> Any:
    return await call(desk, "process_write", session_id=session_id, text=text, **arguments)


async def _failure(desk: Desk, name: str, run: FakeRun | None = None, **arguments: Any) -> OperationFailed:
    with pytest.raises(OperationFailed) as caught:
        await call(desk, name, run, **arguments)
    return caught.value


# -- reading and writing ---------------------------------------------------------------------------------------


async def test_a_process_is_talked_to_over_several_calls(desk: Desk) -> None:
    session_id = await _start(desk, "sh", "-c", 'while read -r line; do echo "got $line"; done; echo bye >&2; exit 3')

    await _write(desk, session_id, "one\n")
    first = await _read(desk, session_id, wait_s=10)
    await _write(desk, session_id, "two\n", eof=True)
    await until_async(lambda: _has_ended(desk, session_id), "it has ended")
    rest = await _read(desk, session_id, cursor=first.next_cursor)

    assert (first.output, first.process.running, first.process.ended_by) == ("got one\n", True, None)
    assert rest.output == "got two\nbye\n"
    assert (rest.process.exit_code, rest.process.signal, rest.process.ended_by) == (3, None, "exit")


async def test_reading_takes_nothing_away(desk: Desk) -> None:
    session_id = await _start(desk, "echo", "hello")
    await _read_until(desk, session_id, "hello\n")

    pieces = [await _read(desk, session_id, cursor=cursor) for cursor in (0, 0, 2, 6)]

    assert [piece.output for piece in pieces] == ["hello\n", "hello\n", "llo\n", ""]
    assert {(piece.next_cursor, piece.dropped_bytes) for piece in pieces} == {(6, 0)}


async def test_a_read_waits_for_output_and_no_longer_than_it_should(desk: Desk, tmp_path: Path) -> None:
    session_id = await _start(desk, "sh", "-c", "while [ ! -e go ]; do sleep 0.02; done; echo now; sleep 300")

    nothing = await _read(desk, session_id, wait_s=0.05)
    waiting = asyncio.create_task(_read(desk, session_id, wait_s=20))
    (tmp_path / "go").touch()
    output = await waiting

    assert (nothing.output, nothing.process.running) == ("", True)
    assert output.output == "now\n"


async def test_a_waiting_read_ends_with_the_process(desk: Desk) -> None:
    session_id = await _start(desk, "sleep", "0.05")

    output = await _read(desk, session_id, wait_s=30)

    assert (output.output, output.process.running, output.process.exit_code) == ("", False, 0)


async def test_only_the_newest_output_is_kept_and_what_was_lost_is_counted(tmp_path: Path) -> None:
    desk = open_desk(tmp_path, session_buffer_bytes=10_000)
    session_id = await _start(desk, "sh", "-c", "seq 1 100000; echo the end")
    await until_async(lambda: _has_ended(desk, session_id), "it has ended")

    output = await _read(desk, session_id)

    assert output.dropped_bytes == output.process.output_bytes - 10_000
    assert output.next_cursor == output.process.output_bytes
    assert (len(output.output), output.output[-8:]) == (10_000, "the end\n")


async def test_a_long_output_comes_in_parts_that_fit(desk: Desk) -> None:
    session_id = await _start(desk, "sh", "-c", "for i in $(seq 500); do printf 'ü€🎈'; done")
    await until_async(lambda: _has_ended(desk, session_id), "it has ended")

    text, cursor = "", 0
    while part := await _read(desk, session_id, cursor=cursor, max_bytes=256):
        if not part.output:
            break
        text += part.output
        cursor = part.next_cursor

    assert text == "ü€🎈" * 500


async def test_bytes_can_be_written_and_control_sequences_are_spelled_out_unless_raw(desk: Desk) -> None:
    session_id = await _start(desk, "cat")
    data = b"\x1b[31m\xff\x00\n"

    await _write(desk, session_id, data_base64=base64.b64encode(data).decode(), eof=True)
    await until_async(lambda: _has_ended(desk, session_id), "it has ended")

    assert (await _read(desk, session_id)).output == "\\x1b[31m\\xff\\x00\n"
    assert (await _read(desk, session_id, raw=True)).output == "\x1b[31m\\xff\0\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"text": "x", "data_base64": "eA=="}, "invalid_command"),
        ({"data_base64": "?"}, "invalid_command"),
        ({}, "invalid_command"),
    ],
)
async def test_input_that_makes_no_sense_is_refused(desk: Desk, arguments: dict[str, Any], code: str) -> None:
    run = FakeRun()
    session_id = await _start(desk, "cat")

    error = await _failure(desk, "process_write", run, session_id=session_id, **arguments)

    assert (error.failure_code, error.before_effect, run.effects_begun) == (code, True, 0)


async def test_input_that_is_not_taken_is_bounded(desk: Desk) -> None:
    session_id = await _start(desk, "sleep", "300")

    first = await _write(desk, session_id, "x" * 1_000_000)
    error = await _failure(desk, "process_write", session_id=session_id, text="x" * 1_000_000)

    assert (first.written_bytes, first.waiting_bytes > 900_000) == (1_000_000, True)
    assert (error.failure_code, error.failure_retryable) == ("session_busy", True)


async def test_nothing_can_be_written_behind_the_end_of_the_input_or_the_process(desk: Desk) -> None:
    open_session = await _start(desk, "sh", "-c", "cat; sleep 300")
    ended_session = await _start(desk, "true")
    await _write(desk, open_session, "x", eof=True)
    await until_async(lambda: _has_ended(desk, ended_session), "it has ended")

    closed = await _failure(desk, "process_write", session_id=open_session, text="y")
    ended = await _failure(desk, "process_write", session_id=ended_session, text="y")

    assert (closed.failure_code, ended.failure_code) == ("input_closed", "session_ended")


async def test_a_cursor_behind_the_end_is_refused(desk: Desk) -> None:
    session_id = await _start(desk, "sleep", "300")

    error = await _failure(desk, "process_read", session_id=session_id, cursor=1)

    assert error.failure_code == "invalid_cursor"


def test_a_ring_gives_the_same_for_any_chunks() -> None:
    raw = "".join(f"{number}ü\n" for number in range(1000)).encode()
    rings = [Ring(500) for _ in range(3)]

    for ring, size_bytes in zip(rings, (1, 333, len(raw)), strict=True):
        for begin in range(0, len(raw), size_bytes):
            ring.add(raw[begin : begin + size_bytes])
    pieces = [ring.read(0, 10_000, complete=True) for ring in rings]

    assert pieces[0] == pieces[1] == pieces[2]
    assert pieces[0].text.encode("utf-8").endswith(raw[-490:])


# -- terminals -------------------------------------------------------------------------------------------------


async def test_a_terminal_is_a_terminal(desk: Desk) -> None:
    script = "test -t 0 && test -t 1 && test -t 2 && stty size && tty && echo x >/dev/tty"
    session_id = await _start(desk, "sh", "-c", script, pty=True, rows=30, cols=100)

    output = await _read_until(desk, session_id, "x\r\n")

    assert output.startswith("30 100\r\n/dev/pts/")


async def test_a_shell_on_a_terminal_echoes_and_can_be_interrupted(desk: Desk) -> None:
    session_id = await _start(desk, "sh", "-i", pty=True, env={"PS1": "$ "})
    await _read_until(desk, session_id, "$ ")

    await _write(desk, session_id, "sleep 31415; echo code $?\n")
    await _read_until(desk, session_id, "echo code $?\r\n")
    await until_async(lambda: _sleeps(), "the shell runs it")
    await _write(desk, session_id, "\x03")
    await _write(desk, session_id, "echo still $((40 + 2))\n")
    output = await _read_until(desk, session_id, "still 42")
    await _write(desk, session_id, eof=True)
    await until_async(lambda: _has_ended(desk, session_id), "Ctrl-D ends it")

    assert "^C" in output
    assert (await _read(desk, session_id)).process.ended_by == "exit"


async def test_a_terminals_control_sequences_are_spelled_out(desk: Desk) -> None:
    session_id = await _start(desk, "printf", r"\033]52;c;aGk=\007\033[2J", pty=True)

    output = await _read_until(desk, session_id, "[2J")

    assert output == "\\x1b]52;c;aGk=\\x07\\x1b[2J"


# -- the end ---------------------------------------------------------------------------------------------------

_STUBBORN = (
    "trap '' TERM HUP INT; echo $$ >>pids; (setsid sh -c 'echo $$ >>pids; sleep 300' &); while :; do sleep 1; done"
)


@pytest.mark.parametrize("pty", [False, True])
async def test_stop_leaves_nothing_of_it(desk: Desk, tmp_path: Path, pty: bool) -> None:
    session_id = await _start(desk, "sh", "-c", _STUBBORN, pty=pty)
    until(lambda: len(_pids(tmp_path)) == 2, "both run")

    first = await call(desk, "process_stop", session_id=session_id)
    again = await call(desk, "process_stop", session_id=session_id)

    assert first == again
    assert (first.running, first.signal, first.ended_by) == (False, "SIGKILL", "stop")
    assert not any(map(lives, _pids(tmp_path)))


async def test_a_signal_reaches_the_process(desk: Desk) -> None:
    session_id = await _start(desk, "sh", "-c", "trap 'echo usr; exit 7' USR1; echo up; read -r line")
    await _read_until(desk, session_id, "up")

    await call(desk, "process_signal", session_id=session_id, signal="USR1")
    await until_async(lambda: _has_ended(desk, session_id), "it has ended")
    output = await _read(desk, session_id)

    assert (output.output, output.process.exit_code) == ("up\nusr\n", 7)
    assert (
        await _failure(desk, "process_signal", session_id=session_id, signal="KILL")
    ).failure_code == "session_ended"


async def test_a_stopped_process_can_go_on_and_can_be_ended(desk: Desk) -> None:
    session_id = await _start(desk, "sh", "-c", "while :; do echo tick; sleep 0.02; done")
    await _read_until(desk, session_id, "tick")

    await call(desk, "process_signal", session_id=session_id, signal="STOP")
    state = await call(desk, "process_stop", session_id=session_id)

    assert (state.running, state.signal) == (False, "SIGTERM")


async def test_one_that_is_left_alone_is_ended(desk: Desk) -> None:
    session_id = await _start(desk, "sleep", "300", idle_timeout_s=0.2)
    session = desk.sessions.get(session_id, "default")

    await until_async(lambda: _is_over(session), "it is ended")

    assert session.ended_by == "idle_timeout"


async def test_reading_keeps_it_from_being_idle_but_not_from_its_last_hour(desk: Desk) -> None:
    session_id = await _start(desk, "sleep", "300", idle_timeout_s=0.3, total_timeout_s=0.9)

    states: list[ProcessState] = []
    while not states or states[-1].running:
        states.append((await _read(desk, session_id, wait_s=0.05)).process)

    assert states[-1].ended_by == "total_timeout"


async def test_the_operators_limits_shorten_the_time_outs(tmp_path: Path) -> None:
    desk = open_desk(tmp_path, session_idle_s=5, session_total_s=7)

    started = await call(desk, "process_start", argv=["true"], idle_timeout_s=100, total_timeout_s=100)

    assert (started.idle_timeout_s, started.total_timeout_s) == (5, 7)


async def test_what_a_sessions_process_leaves_behind_is_ended(desk: Desk, tmp_path: Path) -> None:
    session_id = await _start(desk, "sh", "-c", "(setsid sh -c 'echo $$ >>pids; sleep 300' &); sleep 0.1")
    until(lambda: len(_pids(tmp_path)) == 1, "it runs")

    await until_async(lambda: _has_ended(desk, session_id), "it has ended")

    assert not any(map(lives, _pids(tmp_path)))


async def test_a_killed_watcher_is_told_and_leaves_nothing(desk: Desk, tmp_path: Path) -> None:
    session_id = await _start(desk, "sh", "-c", _STUBBORN)
    until(lambda: len(_pids(tmp_path)) == 2, "both run")

    for pid in watchers():
        os.kill(pid, signal.SIGKILL)
    output = await _read(desk, session_id, wait_s=10)

    assert (output.process.running, output.process.ended_by) == (False, "lost")
    until(lambda: not any(map(lives, _pids(tmp_path))), "nothing of it lives")


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
        until(lambda: len(_pids(tmp_path)) == 2, "both run")

        worker.send_signal(signal.SIGKILL)

    until(lambda: not any(map(lives, _pids(tmp_path))), "nothing of it lives")


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

    error = await _failure(desk, "process_start", **arguments)

    assert (error.failure_code, error.before_effect) == (code, True)
    assert (await call(desk, "process_list")).processes == ()
    until(lambda: watchers() == [], "no watcher is left")


async def test_a_call_that_was_lost_before_its_effect_starts_nothing(desk: Desk, tmp_path: Path) -> None:
    run = FakeRun()
    run.lost = RuntimeError("lease lost")

    with pytest.raises(RuntimeError, match="lease lost"):
        await _start(desk, "touch", "witness", run=run)

    until(lambda: watchers() == [], "no watcher is left")
    assert not (tmp_path / "witness").exists()


async def test_a_session_runs_in_the_sandbox(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    started = await call(desk, "process_start", argv=["cat", "/etc/shadow"], pty=True)
    output = await _read_until(desk, started.session_id, "denied")
    monkeypatch.setitem(policy.LEAST_ABI, "landlock", 99)

    error = await _failure(open_desk(desk.root("default").root), "process_start", argv=["true"])

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
    session_id = await _start(desk, "sleep", "300", run=alice)
    extra: dict[str, Any] = {"process_write": {"text": "x"}, "process_signal": {"signal": "INT"}}.get(name, {})

    others = await _failure(desk, name, bob, session_id=session_id, **extra)
    never = await _failure(desk, name, alice, session_id="worker-1.never", **extra)

    assert (others.failure_code, never.failure_code) == ("session_lost", "session_lost")
    assert others.message.replace(session_id, "") == never.message.replace("worker-1.never", "")
    assert (await call(desk, "process_list", bob)).processes == ()
    assert (await call(desk, "process_list", alice)).processes[0].process.running


async def test_a_list_has_the_tenants_sessions_of_this_worker(desk: Desk) -> None:
    first = await _start(desk, "sleep", "300")
    second = await _start(desk, "echo", "a\x1bb", pty=True)
    await until_async(lambda: _has_ended(desk, second), "it has ended")

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
    sessions = await asyncio.gather(_start(desk, "sleep", "300"), _start(desk, "sleep", "300"))

    error = await _failure(desk, "process_start", argv=["sleep", "300"])
    await call(desk, "process_stop", session_id=sessions[0])
    third = await _start(desk, "sleep", "300")

    assert (error.failure_code, error.failure_retryable, error.before_effect) == ("too_many_sessions", True, True)
    assert third.startswith("worker-1.")


async def test_ended_sessions_are_forgotten_the_oldest_first(tmp_path: Path) -> None:
    desk = open_desk(tmp_path, sessions=2)
    sessions: list[str] = []
    for _ in range(3):
        sessions.append(await _start(desk, "true"))
        await until_async(lambda: _has_ended(desk, sessions[-1]), "it has ended")

    error = await _failure(desk, "process_read", session_id=sessions[0])

    assert error.failure_code == "session_lost"
    assert not (await _read(desk, sessions[1])).process.running


async def test_ended_sessions_leave_no_descriptor_open(desk: Desk) -> None:
    await run_argv(desk, "true")
    before = len(os.listdir("/proc/self/fd"))

    for pty in (False, True):
        session_id = await _start(desk, "cat", pty=pty)
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


async def _has_ended(desk: Desk, session_id: str) -> bool:
    return not (await _read(desk, session_id, wait_s=1)).process.running


async def _is_over(session: Any) -> bool:
    return not session.running


async def _sleeps() -> bool:
    return any(b"sleep\x0031415\x00" in _command_line(int(name)) for name in os.listdir("/proc") if name.isdigit())


async def _at_most(descriptors: int) -> bool:
    return len(os.listdir("/proc/self/fd")) <= descriptors


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _pids(folder: Path) -> list[int]:
    file = folder / "pids"
    return [int(line) for line in file.read_text().split()] if file.exists() else []
