import base64
import hashlib
import os
from pathlib import Path

import pytest

from tasks.atomic import Draft
from tasks.desktop import journal
from tasks.desktop.writes import write_file
from tasks.operation import NOT_DONE
from tests.tasks.desktop_calls import Calls, litter, open_desk, second_attempt
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed, ToolswarmError
from toolswarm.messages import ToolCall


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(open_desk(tmp_path / "workspaces"))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("content", "encoding", "raw"),
    [
        ("grüße\r\n", "utf-8", "grüße\r\n".encode()),
        ("grüße", "latin-1", b"gr\xfc\xdfe"),
        ("a", "utf-8-sig", b"\xef\xbb\xbfa"),
        ("a", "utf-16-le", b"\xff\xfea\0"),
        (base64.b64encode(b"\0\xff").decode(), "base64", b"\0\xff"),
    ],
)
def test_content_is_written_in_the_encoding_that_is_asked_for(
    calls: Calls, content: str, encoding: str, raw: bytes
) -> None:
    written = calls("write_file", path="file", content=content, encoding=encoding)

    assert (calls.folder / "file").read_bytes() == raw
    assert (written["sha256"], written["size_bytes"]) == (_sha256(raw), len(raw))


@pytest.mark.parametrize(("content", "encoding"), [("€", "latin-1"), ("?", "base64"), ("a", "base64")])
def test_content_that_the_encoding_cannot_hold_is_refused(calls: Calls, content: str, encoding: str) -> None:
    assert calls.code("write_file", path="file", content=content, encoding=encoding) == "invalid_text"
    assert os.listdir(calls.folder) == []


def test_half_a_surrogate_pair_is_refused(calls: Calls) -> None:
    with pytest.raises(OperationFailed) as caught:
        write_file.function(calls.desk, FakeRun(), path="file", content="\ud800")

    assert caught.value.failure_code == "invalid_text"


def test_a_stale_hash_is_a_conflict_and_changes_nothing(calls: Calls) -> None:
    first = calls("write_file", path="file", content="first")
    calls("write_file", path="file", content="second")

    error = calls.failure("write_file", path="file", content="third", expected_sha256=first["sha256"])

    assert (error.failure_code, error.before_effect) == ("conflict", True)
    assert (calls.folder / "file").read_text() == "second"
    assert "second" not in str(error.info())


def test_a_hash_of_a_file_that_is_gone_is_a_conflict(calls: Calls) -> None:
    for operation in ("write_file", "append_file"):
        assert calls.code(operation, path="file", content="x", expected_sha256="0" * 64) == "conflict"


def test_a_create_never_overwrites_and_bears_being_repeated(calls: Calls) -> None:
    first = calls("write_file", path="file", content="one", mode="create")
    again = calls("write_file", path="file", content="one", mode="create")

    assert (first["created"], first["changed"], again["created"], again["changed"]) == (True, True, False, False)
    for other in ("two", "other length"):
        assert calls.code("write_file", path="file", content=other, mode="create") == "exists"
    assert (calls.folder / "file").read_text() == "one"


def test_a_repeated_write_whose_first_attempt_succeeded_succeeds(calls: Calls) -> None:
    before = calls("write_file", path="file", content="old")
    first = calls("write_file", path="file", content="new", expected_sha256=before["sha256"])

    second = calls("write_file", path="file", content="new", expected_sha256=before["sha256"])

    assert (first["changed"], second["changed"]) == (True, False)
    assert second["sha256"] == first["sha256"]


def test_missing_folders_are_made_only_when_asked(calls: Calls) -> None:
    refused = calls.code("write_file", path="a/b/file", content="x")

    written = calls("write_file", path="a/b/file", content="x", make_parents=True)

    assert refused == "not_found"
    assert (written["created"], written["path"]) == (True, "a/b/file")
    assert (calls.folder / "a/b/file").read_text() == "x"


def test_a_name_with_a_slash_behind_it_is_no_place_for_a_file(calls: Calls) -> None:
    assert calls.code("write_file", path="new/", content="x") == "is_a_directory"
    assert os.listdir(calls.folder) == []


def test_names_kept_for_temporary_files_are_refused(calls: Calls) -> None:
    assert calls.code("write_file", path=".x.toolswarm-tmp", content="x") == "path_refused"
    assert calls.code("make_directory", path="a.toolswarm-tmp") == "path_refused"


@pytest.mark.parametrize("operation", ["write_file", "append_file", "make_directory", "delete"])
def test_a_stopped_attempt_changes_nothing(calls: Calls, operation: str) -> None:
    (calls.folder / "there").write_text("x")
    path = "there" if operation == "delete" else "new"
    content = {"content": "x"} if operation in ("write_file", "append_file") else {}
    run = FakeRun()
    run.stop = True

    error = calls.failure(operation, run, path=path, **content)

    assert (error.failure_code, error.before_effect) == ("stopped", True)
    assert os.listdir(calls.folder) == ["there"]


class _Leaseholder(FakeRun):
    """An attempt that loses its lease while its content is being written."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def stop_requested(self) -> bool:
        self.looks += 1
        return self.looks > 1


def test_an_older_attempt_that_lost_its_lease_in_the_middle_does_not_write_over_the_newer_one(calls: Calls) -> None:
    calls("write_file", path="file", content="of the newer attempt")

    error = calls.failure("write_file", _Leaseholder(), path="file", content="of the older")

    assert error.failure_code == "stopped"
    assert (calls.folder / "file").read_text() == "of the newer attempt"
    assert litter(calls.folder) == []


def test_an_append_adds_to_what_is_there(calls: Calls) -> None:
    run = FakeRun()
    created = calls("append_file", run, path="log", content="one\n")

    added = calls("append_file", path="log", content="zwei ü\n")

    assert (calls.folder / "log").read_text() == "one\nzwei ü\n"
    assert (created["created"], added["created"]) == (True, False)
    assert added["sha256"] == _sha256("one\nzwei ü\n".encode())
    assert run.effects_begun == 1


def test_an_append_keeps_mode_and_bytes_that_are_no_text(calls: Calls) -> None:
    file = calls.folder / "file"
    file.write_bytes(b"\xff\0")
    file.chmod(0o640)

    calls("append_file", path="file", content="x")

    assert file.read_bytes() == b"\xff\0x"
    assert file.stat().st_mode & 0o7777 == 0o640


def test_nothing_added_changes_nothing(calls: Calls) -> None:
    calls("write_file", path="file", content="x")

    added = calls("append_file", path="file", content="")

    assert (added["changed"], added["sha256"], added["size_bytes"]) == (False, _sha256(b"x"), 1)


def test_an_append_over_the_operators_limit_is_refused(tmp_path: Path) -> None:
    calls = Calls(open_desk(tmp_path, max_file_bytes=10))
    calls("write_file", path="file", content="12345678")

    assert calls.code("append_file", path="file", content="9ab") == "too_large"
    assert (calls.folder / "file").read_text() == "12345678"


def test_the_next_attempt_finds_out_that_an_append_was_made(calls: Calls) -> None:
    run = FakeRun()
    arguments = {"path": "log", "content": "one\n"}
    result = calls("append_file", run, **arguments)

    told = calls.probe("append_file", second_attempt(run), **arguments)

    assert told == result


def test_the_next_attempt_finds_out_that_an_append_was_not_made(calls: Calls) -> None:
    calls("write_file", path="log", content="zero\n")
    never_begun, lost = FakeRun(), FakeRun()
    lost.lost = ToolswarmError("the lease is lost")
    arguments = {"path": "log", "content": "one\n"}

    with pytest.raises(ToolswarmError, match="the lease is lost"):
        calls("append_file", lost, **arguments)

    assert calls.probe("append_file", second_attempt(lost), **arguments) is NOT_DONE
    assert calls.probe("append_file", second_attempt(never_begun), **arguments) is NOT_DONE
    assert (calls.folder / "log").read_text() == "zero\n"
    assert litter(calls.folder) == []


def test_an_append_noted_but_not_made_is_made_by_the_next_attempt(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls("write_file", path="log", content="zero\n")
    run = FakeRun()
    with monkeypatch.context() as patched:
        patched.setattr(Draft, "put", _die)
        with pytest.raises(KeyboardInterrupt):
            calls("append_file", run, path="log", content="one\n")

    told = calls.probe("append_file", second_attempt(run), path="log", content="one\n")

    assert told is NOT_DONE


def _die(_draft: object) -> None:
    raise KeyboardInterrupt


def test_a_probe_does_not_guess_when_somebody_else_has_changed_the_file_since(calls: Calls) -> None:
    run = FakeRun()
    calls("append_file", run, path="log", content="one\n")
    calls("append_file", path="log", content="two\n")

    with pytest.raises(OperationFailed) as caught:
        calls.probe("append_file", second_attempt(run), path="log", content="one\n")

    assert caught.value.failure_code == "outcome_unknown"
    assert caught.value.details["paths"] == ["log"]


def test_a_probe_does_not_guess_after_the_machine_was_started_anew(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FakeRun()
    monkeypatch.setattr(journal, "machine_started_at", lambda: 1e12)

    with pytest.raises(OperationFailed) as caught:
        calls.probe("append_file", second_attempt(run), path="log", content="one\n")

    assert caught.value.failure_code == "outcome_unknown"


def test_notes_lie_outside_of_every_root_and_go_when_their_calls_are_over(tmp_path: Path) -> None:
    calls = Calls(open_desk(tmp_path / "w"))
    run = FakeRun()
    run.call = ToolCall(id=run.call.id, operation="test", tenant="default", deadline=1.0)
    calls("append_file", run, path="log", content="one\n")
    folder = tmp_path / "w" / ".journal" / "default"
    noted = os.listdir(folder)

    calls.desk.journal.sweep(folder)

    assert noted == []  # the first note of a process sweeps, and the deadline of this call is long over
    assert os.listdir(folder) == []
    assert folder.parent.stat().st_mode & 0o777 == 0o700


def test_a_note_that_was_torn_by_a_power_cut_is_not_guessed_from(calls: Calls) -> None:
    run = FakeRun()
    calls("append_file", run, path="log", content="one\n")
    (calls.desk.journal.place("default") / f"{run.call.id}.note").write_bytes(b"")

    with pytest.raises(OperationFailed) as caught:
        calls.probe("append_file", second_attempt(run), path="log", content="one\n")

    assert caught.value.failure_code == "outcome_unknown"


def test_a_sweep_leaves_a_note_that_is_being_written(calls: Calls) -> None:
    folder = calls.desk.journal.folder("default")
    (folder / ".fresh.note.1").write_bytes(b"{}")

    calls.desk.journal.sweep(folder)

    assert ".fresh.note.1" in os.listdir(folder)


def test_the_notes_of_a_tenant_who_writes_no_more_go_with_those_of_others(tmp_path: Path) -> None:
    quiet = Calls(open_desk(tmp_path / "w"), tenant="quiet")
    run = FakeRun(tenant="quiet")
    quiet("append_file", run, path="log", content="one\n")
    note = quiet.desk.journal.place("quiet") / f"{run.call.id}.note"
    os.utime(note, (1, 1))

    Calls(open_desk(tmp_path / "w"), tenant="busy")("append_file", path="log", content="one\n")

    assert not note.exists()


@pytest.mark.parametrize("mode", ["replace", "create"])
def test_the_next_attempt_of_a_write_does_not_write_over_what_came_after_it(calls: Calls, mode: str) -> None:
    run = FakeRun()
    arguments = {"path": "file", "content": "first", "mode": mode}
    written = calls("write_file", run, **arguments)
    told = calls.probe("write_file", second_attempt(run), **arguments)
    calls("write_file", path="file", content="of somebody else")

    with pytest.raises(OperationFailed) as caught:
        calls.probe("write_file", second_attempt(run), **arguments)

    assert (told, told["created"]) == (written, True)
    assert caught.value.failure_code == "outcome_unknown"
    assert (calls.folder / "file").read_text() == "of somebody else"


def test_a_write_begins_its_effect_only_when_there_is_one(calls: Calls) -> None:
    first, second = FakeRun(), FakeRun()

    calls("write_file", first, path="file", content="x")
    calls("write_file", second, path="file", content="x")

    assert (first.effects_begun, second.effects_begun) == (1, 0)


def test_a_write_over_the_operators_limit_is_refused(tmp_path: Path) -> None:
    calls = Calls(open_desk(tmp_path, max_file_bytes=10))

    assert calls.code("write_file", path="file", content="12345678901") == "too_large"
    assert os.listdir(calls.folder) == []
