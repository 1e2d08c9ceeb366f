import asyncio
import base64
import os
from pathlib import Path
from typing import Any

import pytest

from tasks.desktop import prepare
from tasks.desktop.desk import Desk
from tasks.desktop.ring import Ring
from tests.servers.waiting import until_async
from tests.tasks.command_calls import open_desk
from tests.tasks.fake_run import FakeRun
from tests.tasks.session_calls import failure, has_ended, read, read_until, start, write


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(prepare, "GRACE_S", 0.3)
    return open_desk(tmp_path)


# -- reading and writing ---------------------------------------------------------------------------------------


async def test_a_process_is_talked_to_over_several_calls(desk: Desk) -> None:
    session_id = await start(desk, "sh", "-c", 'while read -r line; do echo "got $line"; done; echo bye >&2; exit 3')

    await write(desk, session_id, "one\n")
    first = await read(desk, session_id, wait_s=10)
    await write(desk, session_id, "two\n", eof=True)
    await until_async(lambda: has_ended(desk, session_id), "it has ended")
    rest = await read(desk, session_id, cursor=first.next_cursor)

    assert (first.output, first.process.running, first.process.ended_by) == ("got one\n", True, None)
    assert rest.output == "got two\nbye\n"
    assert (rest.process.exit_code, rest.process.signal, rest.process.ended_by) == (3, None, "exit")


async def test_reading_takes_nothing_away(desk: Desk) -> None:
    session_id = await start(desk, "echo", "hello")
    await read_until(desk, session_id, "hello\n")

    pieces = [await read(desk, session_id, cursor=cursor) for cursor in (0, 0, 2, 6)]

    assert [piece.output for piece in pieces] == ["hello\n", "hello\n", "llo\n", ""]
    assert {(piece.next_cursor, piece.dropped_bytes) for piece in pieces} == {(6, 0)}


async def test_a_read_waits_for_output_and_no_longer_than_it_should(desk: Desk, tmp_path: Path) -> None:
    session_id = await start(desk, "sh", "-c", "while [ ! -e go ]; do sleep 0.02; done; echo now; sleep 300")

    nothing = await read(desk, session_id, wait_s=0.05)
    waiting = asyncio.create_task(read(desk, session_id, wait_s=20))
    (tmp_path / "go").touch()
    output = await waiting

    assert (nothing.output, nothing.process.running) == ("", True)
    assert output.output == "now\n"


async def test_a_waiting_read_ends_with_the_process(desk: Desk) -> None:
    session_id = await start(desk, "sleep", "0.05")

    output = await read(desk, session_id, wait_s=30)

    assert (output.output, output.process.running, output.process.exit_code) == ("", False, 0)


async def test_only_the_newest_output_is_kept_and_what_was_lost_is_counted(tmp_path: Path) -> None:
    desk = open_desk(tmp_path, session_buffer_bytes=10_000)
    session_id = await start(desk, "sh", "-c", "seq 1 100000; echo the end")
    await until_async(lambda: has_ended(desk, session_id), "it has ended")

    output = await read(desk, session_id)

    assert output.dropped_bytes == output.process.output_bytes - 10_000
    assert output.next_cursor == output.process.output_bytes
    assert (len(output.output), output.output[-8:]) == (10_000, "the end\n")


async def test_a_long_output_comes_in_parts_that_fit(desk: Desk) -> None:
    session_id = await start(desk, "sh", "-c", "for i in $(seq 500); do printf 'ü€🎈'; done")
    await until_async(lambda: has_ended(desk, session_id), "it has ended")

    text, cursor = "", 0
    while part := await read(desk, session_id, cursor=cursor, max_bytes=256):
        if not part.output:
            break
        text += part.output
        cursor = part.next_cursor

    assert text == "ü€🎈" * 500


async def test_bytes_can_be_written_and_control_sequences_are_spelled_out_unless_raw(desk: Desk) -> None:
    session_id = await start(desk, "cat")
    data = b"\x1b[31m\xff\x00\n"

    await write(desk, session_id, data_base64=base64.b64encode(data).decode(), eof=True)
    await until_async(lambda: has_ended(desk, session_id), "it has ended")

    assert (await read(desk, session_id)).output == "\\x1b[31m\\xff\\x00\n"
    assert (await read(desk, session_id, raw=True)).output == "\x1b[31m\\xff\0\n"


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
    session_id = await start(desk, "cat")

    error = await failure(desk, "process_write", run, session_id=session_id, **arguments)

    assert (error.failure_code, error.before_effect, run.effects_begun) == (code, True, 0)


async def test_input_that_is_not_taken_is_bounded(desk: Desk) -> None:
    session_id = await start(desk, "sleep", "300")

    first = await write(desk, session_id, "x" * 1_000_000)
    error = await failure(desk, "process_write", session_id=session_id, text="x" * 1_000_000)

    assert (first.written_bytes, first.waiting_bytes > 900_000) == (1_000_000, True)
    assert (error.failure_code, error.failure_retryable) == ("session_busy", True)


async def test_nothing_can_be_written_behind_the_end_of_the_input_or_the_process(desk: Desk) -> None:
    open_session = await start(desk, "sh", "-c", "cat; sleep 300")
    ended_session = await start(desk, "true")
    await write(desk, open_session, "x", eof=True)
    await until_async(lambda: has_ended(desk, ended_session), "it has ended")

    closed = await failure(desk, "process_write", session_id=open_session, text="y")
    ended = await failure(desk, "process_write", session_id=ended_session, text="y")

    assert (closed.failure_code, ended.failure_code) == ("input_closed", "session_ended")


async def test_a_cursor_behind_the_end_is_refused(desk: Desk) -> None:
    session_id = await start(desk, "sleep", "300")

    error = await failure(desk, "process_read", session_id=session_id, cursor=1)

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
    session_id = await start(desk, "sh", "-c", script, pty=True, rows=30, cols=100)

    output = await read_until(desk, session_id, "x\r\n")

    assert output.startswith("30 100\r\n/dev/pts/")


async def test_a_shell_on_a_terminal_echoes_and_can_be_interrupted(desk: Desk) -> None:
    session_id = await start(desk, "sh", "-i", pty=True, env={"PS1": "$ "})
    await read_until(desk, session_id, "$ ")

    await write(desk, session_id, "sleep 31415; echo code $?\n")
    await read_until(desk, session_id, "echo code $?\r\n")
    await until_async(lambda: _sleeps(), "the shell runs it")
    await write(desk, session_id, "\x03")
    await write(desk, session_id, "echo still $((40 + 2))\n")
    output = await read_until(desk, session_id, "still 42")
    await write(desk, session_id, eof=True)
    await until_async(lambda: has_ended(desk, session_id), "Ctrl-D ends it")

    assert "^C" in output
    assert (await read(desk, session_id)).process.ended_by == "exit"


async def test_a_terminals_control_sequences_are_spelled_out(desk: Desk) -> None:
    session_id = await start(desk, "printf", r"\033]52;c;aGk=\007\033[2J", pty=True)

    output = await read_until(desk, session_id, "[2J")

    assert output == "\\x1b]52;c;aGk=\\x07\\x1b[2J"


async def _sleeps() -> bool:
    return any(b"sleep\x0031415\x00" in _command_line(int(name)) for name in os.listdir("/proc") if name.isdigit())


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
