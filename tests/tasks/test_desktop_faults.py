"""Many writers at once, killed writers and full disks: the desktop's operations in processes of their own."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.servers.waiting import until
from tests.tasks.desktop_calls import Calls, litter, open_desk
from tests.tasks.fake_run import FakeRun

_PROCESSES = 4
_EDITS = 30

_WORKER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import msgspec
from tests.tasks.desktop_calls import Calls, open_desk
from toolswarm.errors import OperationFailed
def end(calls, call):
    try:
        calls(call["operation"], **call["arguments"])
    except OperationFailed as error:
        return error.failure_code
    return "done"
with ThreadPoolExecutor(8) as threads:
    for line in sys.stdin:
        folder, todo = msgspec.json.decode(line)
        calls = Calls(open_desk(Path(folder)))
        ends = list(threads.map(lambda call: end(calls, call), todo))
        print(msgspec.json.encode(ends).decode(), flush=True)
"""

Processes = list[subprocess.Popen[str]]


@pytest.fixture(scope="module")
def processes() -> Generator[Processes, None, None]:
    """Four processes that make the calls they are given, eight at once each."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for _ in range(_PROCESSES)
    ]
    _in_processes(started, Path(os.devnull), [])  # they have loaded everything
    yield started
    for process in started:
        process.communicate(timeout=20)


def _in_processes(processes: Processes, workspaces: Path, calls: list[dict[str, Any]]) -> list[str]:
    """Make the calls in all processes at once, each its share; how each ended."""
    for number, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode([str(workspaces), calls[number::_PROCESSES]]).decode() + "\n")
    ends: list[str] = []
    for process in processes:
        assert process.stdout is not None
        ends += msgspec.json.decode(process.stdout.readline(), type=list[str])
    return ends


def test_thirty_edits_of_one_file_from_four_processes_are_all_there(processes: Processes, tmp_path: Path) -> None:
    calls = Calls(open_desk(tmp_path))
    calls("write_file", path="file", content="".join(f"line {number} old\n" for number in range(_EDITS)))
    edits = [
        {
            "operation": "edit_file",
            "arguments": {"path": "file", "edits": [{"old": f"line {number} old", "new": f"line {number} new"}]},
        }
        for number in range(_EDITS)
    ]

    ends = _in_processes(processes, tmp_path, edits)

    assert ends == ["done"] * _EDITS
    assert (calls.folder / "file").read_text() == "".join(f"line {number} new\n" for number in range(_EDITS))
    assert litter(calls.folder) == []


def test_edits_that_all_expect_the_same_hash_have_one_winner_and_the_others_are_told(
    processes: Processes, tmp_path: Path
) -> None:
    calls = Calls(open_desk(tmp_path))
    sha256 = calls("write_file", path="file", content="0")["sha256"]
    edits = [
        {
            "operation": "edit_file",
            "arguments": {
                "path": "file",
                "expected_sha256": sha256,
                "edits": [{"old": "0", "new": f"won by {number}"}],
            },
        }
        for number in range(12)
    ]

    ends = _in_processes(processes, tmp_path, edits)

    assert sorted(ends) == ["conflict"] * 11 + ["done"]
    assert (calls.folder / "file").read_text().startswith("won by ")


def test_appends_and_creates_from_four_processes_lose_nothing(processes: Processes, tmp_path: Path) -> None:
    calls = Calls(open_desk(tmp_path))
    appends = [
        {"operation": "append_file", "arguments": {"path": "log", "content": f"{number}\n"}} for number in range(40)
    ]
    creates = [
        {"operation": "write_file", "arguments": {"path": "new", "content": f"by {number}", "mode": "create"}}
        for number in range(8)
    ]

    ends = _in_processes(processes, tmp_path, appends + creates)

    assert sorted((calls.folder / "log").read_text().split()) == sorted(str(number) for number in range(40))
    assert (ends.count("done"), ends.count("exists")) == (41, 7)


def test_atomic_batches_over_the_same_files_never_mix(processes: Processes, tmp_path: Path) -> None:
    calls = Calls(open_desk(tmp_path))
    names = ["a", "b", "c"]
    batches = [
        {
            "operation": "batch",
            "arguments": {
                "atomic": True,
                "operations": [
                    {"operation": "write_file", "arguments": {"path": name, "content": f"of {number}"}}
                    for name in (names if number % 2 else reversed(names))
                ],
            },
        }
        for number in range(12)
    ]

    ends = _in_processes(processes, tmp_path, batches)

    assert ends == ["done"] * 12
    assert len({(calls.folder / name).read_text() for name in names}) == 1
    assert litter(calls.folder) == []


def test_moves_of_one_file_have_one_winner(processes: Processes, tmp_path: Path) -> None:
    calls = Calls(open_desk(tmp_path))
    calls("write_file", path="file", content="x")
    moves = [
        {"operation": "move", "arguments": {"source": "file", "destination": f"to {number}"}} for number in range(12)
    ]

    ends = _in_processes(processes, tmp_path, moves)

    assert sorted(ends) == ["done"] + ["not_found"] * 11
    assert len(os.listdir(calls.folder)) == 1


_ENDLESS = """
import sys
from collections.abc import Generator
from functools import partial
from pathlib import Path
from tests.tasks.desktop_calls import Calls, open_desk
calls = Calls(open_desk(Path(sys.argv[1])))
print("ready", flush=True)
for number in range(1_000_000):
    old, new = "ab"[number % 2] , "ab"[1 - number % 2]
    calls("edit_file", path="file", edits=[{"old": old, "new": new, "count": 300_000}])
    calls("copy", source="tree", destination="copy")
    calls("delete", path="copy", recursive=True)
"""


def _is_another(file: Path, inode: int) -> bool:
    return file.stat().st_ino != inode


def test_a_writer_killed_anywhere_leaves_old_or_new_and_no_litter_for_long(tmp_path: Path) -> None:
    calls = Calls(open_desk(tmp_path))
    calls("write_file", path="tree/x", content="x", make_parents=True)
    for attempt in range(4):
        calls("write_file", path="file", content="a" * 300_000)
        first_inode = (calls.folder / "file").stat().st_ino
        calls("delete", path="copy", recursive=True, missing_ok=True)
        with subprocess.Popen([sys.executable, "-c", _ENDLESS, tmp_path], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            if attempt:
                file = calls.folder / "file"
                until(partial(_is_another, file, first_inode), "it has written once")
            writer.send_signal(signal.SIGKILL)
        assert (calls.folder / "file").read_bytes() in (b"a" * 300_000, b"b" * 300_000)
        assert {entry["path"] for entry in calls("list_directory")["entries"]} <= {"file", "tree", "copy"}
        if (calls.folder / "copy").exists():
            assert os.listdir(calls.folder / "copy") in ([], ["x"])

    calls("write_file", path="file", content="next")
    calls("delete", path="copy", recursive=True, missing_ok=True)
    calls("copy", source="tree", destination="copy")

    assert litter(calls.folder) == []


def _write(path: str, content: str, **more: Any) -> dict[str, Any]:
    return {"operation": "write_file", "arguments": {"path": path, "content": content, **more}}


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("write_file", {"path": "file", "content": "x" * 200_000}),
        ("append_file", {"path": "file", "content": "x" * 200_000}),
        ("edit_file", {"path": "file", "edits": [{"old": "old", "new": "x" * 200_000}]}),
        ("copy", {"source": "large", "destination": "new"}),
        ("copy", {"source": "large", "destination": "file", "overwrite": True}),
        ("copy", {"source": "tree", "destination": "new"}),
        ("batch", {"operations": [_write("new", "n"), _write("file", "x" * 200_000)], "atomic": True}),
    ],
)  # fmt: skip
def test_no_room_in_the_middle_of_a_write_leaves_what_was_there(
    tmp_path: Path, operation: str, arguments: dict[str, Any]
) -> None:
    calls = Calls(open_desk(tmp_path))
    calls("write_file", path="file", content="old")
    calls("write_file", path="tree/large", content="x" * 200_000, make_parents=True)
    calls("write_file", path="large", content="x" * 200_000)
    run = FakeRun()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # Python ignores SIGXFSZ: writes fail with EFBIG

    try:
        error = calls.failure(operation, run, **arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert (error.failure_code, error.before_effect) == ("no_space", True)
    assert sorted(os.listdir(calls.folder)) == ["file", "large", "tree"]
    assert (calls.folder / "file").read_text() == "old"
    assert run.effects_begun == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        calls = Calls(open_desk(tmp_path / "w", roots={"default": str(small)}))
        calls("write_file", path="file", content="old")

        codes = [
            calls.code("write_file", path="file", content="x" * 400_000),
            calls.code("append_file", path="file", content="x" * 400_000),
            calls.code("write_file", path="new", content="x" * 400_000),
        ]

        assert codes == ["no_space"] * 3
        assert (os.listdir(small), (small / "file").read_text()) == (["file"], "old")
        assert Calls(calls.desk).code("move", source="file", destination="../x") == "path_refused"
        del calls
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_journal_that_cannot_be_written_stops_the_change_before_it_is_made(tmp_path: Path) -> None:
    calls = Calls(open_desk(tmp_path / "w"))
    (calls.folder / "file").write_text("old")
    (tmp_path / "w" / ".journal").write_text("in the way")

    error = calls.failure("append_file", path="file", content="more")

    assert (error.failure_code, error.before_effect) == ("journal_failed", True)
    assert (calls.folder / "file").read_text() == "old"
    assert litter(calls.folder) == []
