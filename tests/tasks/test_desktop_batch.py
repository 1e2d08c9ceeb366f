import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasks.atomic import Draft, draft
from tasks.desktop.undo import UNDO_SUFFIX
from tasks.operation import NOT_DONE
from tests.tasks.desktop_calls import Calls, litter, open_desk, second_attempt
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(open_desk(tmp_path / "workspaces"))


def _items(*items: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"operation": operation, "arguments": arguments} for operation, arguments in items]


def _write(path: str, content: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return ("write_file", {"path": path, "content": content, **more})


def _contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir()) if path.is_file()}


def test_operations_run_in_order_each_with_its_own_result(calls: Calls) -> None:
    run = FakeRun()

    done = calls(
        "batch",
        run,
        operations=_items(
            ("make_directory", {"path": "d"}),
            _write("d/a", "one"),
            ("edit_file", {"path": "d/a", "edits": [{"old": "one", "new": "two"}]}),
            ("copy", {"source": "d/a", "destination": "d/b"}),
            ("read_files", {"paths": ["d/a", "d/b"]}),
        ),
    )

    assert (done["done"], done["failed"], done["skipped"]) == (5, 0, 0)
    assert [item["file"]["content"] for item in done["items"][4]["value"]["items"]] == ["two", "two"]
    assert run.effects_begun == 1


@pytest.mark.parametrize("stop_on_error", [True, False])
def test_what_comes_after_a_failure_is_skipped_or_not(calls: Calls, stop_on_error: bool) -> None:
    done = calls(
        "batch",
        operations=_items(_write("a", "1"), ("read_file", {"path": "missing"}), _write("b", "2")),
        stop_on_error=stop_on_error,
    )

    states = [item["state"] for item in done["items"]]
    assert states == ["done", "failed", "skipped" if stop_on_error else "done"]
    assert done["items"][1]["error"]["code"] == "not_found"
    assert sorted(_contents(calls.folder)) == (["a"] if stop_on_error else ["a", "b"])


@pytest.mark.parametrize("bad", [("write_file", {"path": "b"}), ("read_file", {"path": "b", "x": 1})])
@pytest.mark.parametrize("atomic", [True, False])
def test_arguments_are_all_checked_before_the_first_operation_runs(calls: Calls, bad: Any, atomic: bool) -> None:
    error = calls.failure("batch", operations=_items(_write("a", "1"), bad), atomic=atomic)

    assert (error.failure_code, error.details["item"], error.before_effect) == ("invalid_batch", 1, True)
    assert _contents(calls.folder) == {}


def test_a_batch_does_what_its_operations_may_do_and_no_more(calls: Calls) -> None:
    done = calls(
        "batch",
        operations=_items(_write("../x", "1"), ("delete", {"path": ".", "recursive": True}), _write("/etc/x", "1")),
        stop_on_error=False,
    )

    assert [item["error"]["code"] for item in done["items"]] == ["path_refused"] * 3


# -- all or none -----------------------------------------------------------------------------------------------


def test_an_atomic_batch_changes_several_files(calls: Calls) -> None:
    calls("write_file", path="a", content="a old")
    calls("write_file", path="gone", content="x")
    (calls.folder / "a").chmod(0o640)
    run = FakeRun()

    done = calls(
        "batch",
        run,
        operations=_items(
            ("edit_file", {"path": "a", "edits": [{"old": "old", "new": "new"}]}),
            ("append_file", {"path": "./a", "content": "!"}),
            _write("d/b", "b", make_parents=True),
            ("delete", {"path": "gone"}),
            ("delete", {"path": "never", "missing_ok": True}),
        ),
        atomic=True,
    )

    assert done["done"] == 5
    assert _contents(calls.folder) == {"a": "a new!"}
    assert (calls.folder / "d" / "b").read_text() == "b"
    assert (calls.folder / "a").stat().st_mode & 0o7777 == 0o640
    assert run.effects_begun == 1
    assert litter(calls.folder) == []
    assert done["items"][1]["value"]["sha256"] == calls("read_file", path="a")["sha256"]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (("edit_file", {"path": "a", "edits": [{"old": "not there", "new": "x"}]}), "no_match"),
        (("write_file", {"path": "a", "content": "x", "expected_sha256": "0" * 64}), "conflict"),
        (("write_file", {"path": "a", "content": "x", "mode": "create"}), "exists"),
        (("write_file", {"path": "../x", "content": "x"}), "path_refused"),
        (("write_file", {"path": "link", "content": "x"}), "path_refused"),
        (("write_file", {"path": "folder", "content": "x"}), "is_a_directory"),
        (("write_file", {"path": "missing/x", "content": "x"}), "not_found"),
        (("delete", {"path": "missing"}), "not_found"),
        (("append_file", {"path": "new", "content": "x", "expected_sha256": "0" * 64}), "conflict"),
    ],
)
def test_when_the_third_operation_cannot_be_done_none_is(calls: Calls, bad: Any, code: str) -> None:
    calls("write_file", path="a", content="a")
    (calls.folder / "link").symlink_to("a")
    (calls.folder / "folder").mkdir()
    run = FakeRun()

    error = calls.failure("batch", run, operations=_items(_write("b", "b"), _write("a", "new"), bad), atomic=True)

    assert (error.failure_code, error.details["item"], error.before_effect) == (code, 2, True)
    assert sorted(os.listdir(calls.folder)) == ["a", "folder", "link"]
    assert (calls.folder / "a").read_text() == "a"
    assert run.effects_begun == 0


@pytest.mark.parametrize(
    "item",
    [
        ("read_file", {"path": "a"}),
        ("move", {"source": "a", "destination": "b"}),
        ("delete", {"path": "a", "recursive": True}),
    ],
)
def test_what_cannot_be_made_ready_beforehand_is_no_part_of_an_atomic_batch(calls: Calls, item: Any) -> None:
    assert calls.code("batch", operations=_items(item), atomic=True) == "invalid_batch"


def test_an_atomic_batch_that_fails_in_the_middle_puts_back_what_it_has_renamed(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        calls("write_file", path=name, content=f"{name} old")
    inodes = {name: (calls.folder / name).stat().st_ino for name in "abc"}
    real = Draft.put

    def put(draft: Draft) -> None:
        if draft.name == b"c":
            raise OSError(28, "")
        real(draft)

    monkeypatch.setattr(Draft, "put", put)

    error = calls.failure(
        "batch",
        operations=_items(_write("a", "new"), _write("new", "new"), ("delete", {"path": "b"}), _write("c", "new")),
        atomic=True,
    )

    assert (error.failure_code, error.before_effect) == ("no_space", True)
    assert _contents(calls.folder) == {name: f"{name} old" for name in "abc"}
    assert {name: (calls.folder / name).stat().st_ino for name in "abc"} == inodes
    assert litter(calls.folder) == []


def test_what_somebody_else_has_changed_meanwhile_is_not_put_back_and_that_is_said(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls("write_file", path="a", content="a old")
    real = Draft.put

    def put(draft: Draft) -> None:
        if draft.name == b"b":
            (calls.folder / "a").write_text("of a stranger")
            raise OSError(28, "")
        real(draft)

    monkeypatch.setattr(Draft, "put", put)

    error = calls.failure("batch", operations=_items(_write("a", "new"), _write("b", "new")), atomic=True)

    assert (error.failure_code, error.before_effect) == ("partly_done", False)
    assert error.details["paths"] == ["a", "b"]
    assert _contents(calls.folder) == {"a": "of a stranger"}


def test_the_next_attempt_finds_out_whether_an_atomic_batch_was_done(calls: Calls) -> None:
    arguments: dict[str, Any] = {"operations": _items(_write("a", "1"), _write("b", "2")), "atomic": True}
    run, other = FakeRun(), FakeRun()
    result = calls("batch", run, **arguments)

    assert calls.probe("batch", second_attempt(run), **arguments) == result
    assert calls.probe("batch", second_attempt(other), **arguments) is NOT_DONE


_KILLED = """
import os, signal, sys
from pathlib import Path
import msgspec
from tasks.desktop import staged
from tests.tasks.desktop_calls import Calls, open_desk
from tests.tasks.fake_run import FakeRun
from toolswarm.messages import ToolCall

def kill_at(number):
    steps = iter(range(1, 1000))
    def counted(function):
        def call(*arguments, **more):
            if next(steps) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **more)
        return call
    staged.Draft.put = counted(staged.Draft.put)
    staged.keep_second_name = counted(staged.keep_second_name)
    staged.forget_second_name = counted(staged.forget_second_name)
    os.unlink, os.link, os.replace = counted(os.unlink), counted(os.link), counted(os.replace)

for line in sys.stdin:
    folder, number, call, arguments = msgspec.json.decode(line)
    child = os.fork()
    if child == 0:
        kill_at(number)
        run = FakeRun()
        run.call = msgspec.convert(call, ToolCall)
        Calls(open_desk(Path(folder)))("batch", run, **arguments)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def killer() -> Generator[subprocess.Popen[str], None, None]:
    """A process that makes calls in children of its own, and kills them at a step."""
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as started:
        yield started
        assert started.stdin is not None
        started.stdin.close()


def _end(killer: subprocess.Popen[str], *request: Any) -> int:
    assert killer.stdin is not None
    assert killer.stdout is not None
    killer.stdin.write(msgspec.json.encode(request).decode() + "\n")
    return int(killer.stdout.readline())


@pytest.mark.parametrize("number", range(1, 31))
def test_a_batch_killed_anywhere_is_put_right_by_the_next_attempt(
    killer: subprocess.Popen[str], tmp_path: Path, number: int
) -> None:
    calls = Calls(open_desk(tmp_path))
    old = {"a": "a old", "b": "b old", "c": "c old"}
    new = {"a": "a new", "c": "c new", "d": "d new"}
    for name, content in old.items():
        calls("write_file", path=name, content=content)
    items = _items(_write("a", "a new"), ("delete", {"path": "b"}), _write("c", "c new"), _write("d", "d new"))
    arguments: dict[str, Any] = {"operations": items, "atomic": True}
    run = FakeRun()

    ended = _end(killer, str(tmp_path), number, run.call, arguments)
    fresh = Calls(open_desk(tmp_path))
    told = fresh.probe("batch", second_attempt(run), **arguments)
    if told is NOT_DONE:
        assert {name: text for name, text in _contents(calls.folder).items() if not name.endswith("-tmp")} == old
        told = fresh("batch", second_attempt(run), **arguments)

    assert ended in (0, -signal.SIGKILL)
    assert told["done"] == 4
    assert {name: text for name, text in _contents(calls.folder).items() if not name.endswith("-tmp")} == new
    for name in "abcd":  # an empty lock may stay behind, until somebody writes that name
        calls("write_file", path=name, content="next")
    assert litter(calls.folder) == []
    assert list((tmp_path / ".journal" / "default" / "open").glob("[!.]*")) == []


def test_a_batch_that_was_done_stays_done_although_a_file_of_it_was_changed_since(
    killer: subprocess.Popen[str], tmp_path: Path
) -> None:
    calls = Calls(open_desk(tmp_path))
    arguments: dict[str, Any] = {"operations": _items(_write("a", "a new"), _write("b", "b new")), "atomic": True}
    run = FakeRun()
    number = 0
    while sorted(_contents(calls.folder)) != ["a", "b"]:
        number += 1
        assert _end(killer, str(tmp_path), number, run.call, arguments) == -signal.SIGKILL
    calls("append_file", path="a", content=", and more")

    told = Calls(open_desk(tmp_path)).probe("batch", second_attempt(run), **arguments)

    assert told["done"] == 2
    assert _contents(calls.folder) == {"a": "a new, and more", "b": "b new"}


def test_a_live_batch_is_not_undone_by_a_worker_that_starts(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls("write_file", path="a", content="old")
    real = Draft.put

    def put(draft: Draft) -> None:
        real(draft)
        other = Calls(open_desk(tmp_path / "workspaces"))
        assert other("read_file", path="a")["content"] == "new"

    monkeypatch.setattr(Draft, "put", put)

    calls("batch", operations=_items(_write("a", "new")), atomic=True)

    assert _contents(calls.folder) == {"a": "new"}


# -- going on after a lost attempt ------------------------------------------------------------------------------


class _Lost(Exception):
    pass


def test_a_batch_that_was_lost_goes_on_where_it_was(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {
        "operations": _items(
            _write("log", "0\n"),
            ("append_file", {"path": "log", "content": "1\n"}),
            ("append_file", {"path": "log", "content": "2\n"}),
            ("read_file", {"path": "log"}),
            ("append_file", {"path": "log", "content": "3\n"}),
        )
    }
    for lost_at in range(5):
        run = FakeRun()
        calls("delete", path="log", missing_ok=True)
        keep = calls.desk.journal.keep

        def keep_some(*given: Any, lost_at: int = lost_at, keep: Any = keep) -> None:
            if given[1] == "progress" and given[2].count(b'"operation"') == lost_at + 1:
                raise _Lost  # done, but nobody has written that down
            keep(*given)

        with monkeypatch.context() as patched:
            patched.setattr(calls.desk.journal, "keep", keep_some)
            if lost_at < 4:
                with pytest.raises(_Lost):
                    calls("batch", run, **arguments)
            else:
                calls("batch", run, **arguments)
        again = second_attempt(run)

        assert calls.probe("batch", again, **arguments) is NOT_DONE
        result = calls("batch", again, **arguments)

        assert (calls.folder / "log").read_text() == "0\n1\n2\n3\n"
        assert result["done"] == 5


def test_a_batch_lost_in_an_operation_that_nobody_can_tell_of_is_unknown(calls: Calls) -> None:
    arguments: dict[str, Any] = {"operations": _items(("append_file", {"path": "log", "content": "1\n"}))}
    run = FakeRun()
    item = FakeRun()
    item.call = type(run.call)(id=f"{run.call.id}.0", operation="test")
    calls("append_file", item, path="log", content="1\n")
    calls("append_file", path="log", content="of another call\n")

    with pytest.raises(OperationFailed) as caught:
        calls.probe("batch", second_attempt(run), **arguments)

    assert caught.value.failure_code == "outcome_unknown"


def test_a_stopped_batch_says_whether_it_has_changed_anything(calls: Calls) -> None:
    class StoppedAfter(FakeRun):
        def stop_requested(self) -> bool:
            return (calls.folder / "a").exists()

    error = calls.failure("batch", StoppedAfter(), operations=_items(_write("a", "1"), _write("b", "2")))

    assert (error.failure_code, error.before_effect) == ("stopped", False)
    assert _contents(calls.folder) == {"a": "1"}


# -- a recovery that somebody is in the way of ------------------------------------------------------------------


def _half_done(killer: subprocess.Popen[str], tmp_path: Path) -> tuple[Calls, FakeRun, dict[str, Any]]:
    """A batch that was killed when `a` had its new content, and `b` its old one."""
    calls = Calls(open_desk(tmp_path))
    arguments: dict[str, Any] = {"operations": _items(_write("a", "a new"), _write("b", "b new")), "atomic": True}
    run = FakeRun()
    number = 0
    while not (calls.folder / "a").exists() or (calls.folder / "a").read_text() != "a new":
        number += 1
        for name in "ab":
            calls("write_file", path=name, content=f"{name} old")
        assert _end(killer, str(tmp_path), number, run.call, arguments) == -signal.SIGKILL
    assert (calls.folder / "b").read_text() == "b old"
    return calls, run, arguments


def test_a_batch_whose_names_are_held_at_its_recovery_is_put_right_later(
    killer: subprocess.Popen[str], tmp_path: Path
) -> None:
    calls, run, arguments = _half_done(killer, tmp_path)
    fresh = Calls(open_desk(tmp_path))
    folder_fd = os.open(calls.folder, os.O_RDONLY)

    with draft(folder_fd, b"a", "a"):  # by a writer who takes his time
        seen_meanwhile = fresh("read_file", path="a")["content"]
    seen_later = fresh("read_file", path="a")["content"]

    os.close(folder_fd)
    assert (seen_meanwhile, seen_later) == ("a new", "a old")
    assert fresh.probe("batch", second_attempt(run), **arguments) is NOT_DONE
    assert [(calls.folder / name).read_text() for name in "ab"] == ["a old", "b old"]
    assert list((tmp_path / ".journal" / "default" / "open").glob("[!.]*")) == []


def test_a_batch_that_cannot_be_undone_keeps_its_mark_and_the_old_content(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        calls("write_file", path=name, content=f"{name} old")
    real = os.replace

    def replace(source: Any, target: Any, **more: Any) -> None:
        if target == b"b" or (target == b"a" and source.endswith(UNDO_SUFFIX)):
            raise OSError(5, "")
        real(source, target, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        error = calls.failure("batch", operations=_items(_write("a", "new"), _write("b", "new")), atomic=True)
    seen = Calls(open_desk(tmp_path / "workspaces"))("read_file", path="a")["content"]

    assert (error.failure_code, error.before_effect) == ("partly_done", False)
    assert seen == "a old"


def test_the_recovery_of_one_tenant_does_not_keep_another_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_desk(tmp_path)
    begun, go_on = threading.Event(), threading.Event()

    def slow(_journal: Any, tenant: str, *_arguments: Any) -> bool:
        if tenant == "slow":
            begun.set()
            go_on.wait(30)
        return True

    monkeypatch.setattr("tasks.desktop.desk.put_right", slow)
    recovering = threading.Thread(target=desk.root, args=("slow",))
    recovering.start()
    begun.wait(30)

    other = desk.root("other")

    is_waiting = recovering.is_alive()
    go_on.set()
    recovering.join()
    assert (other.root.name, is_waiting) == ("other", True)


def test_a_file_that_a_stranger_changes_while_the_ledger_is_asked_is_not_overwritten(calls: Calls) -> None:
    for name in "ab":
        calls("write_file", path=name, content=f"{name} old")

    class Slow(FakeRun):
        def begin_effect(self) -> None:
            (calls.folder / "b").write_text("of a stranger")

    error = calls.failure("batch", Slow(), operations=_items(_write("a", "new"), _write("b", "new")), atomic=True)

    assert (error.failure_code, error.failure_retryable) == ("conflict", True)
    assert _contents(calls.folder) == {"a": "a old", "b": "of a stranger"}
