"""The notes of what calls were about to change, after power cuts and among many writers."""

import os
from pathlib import Path

import pytest

from tasks.desktop import journal
from tests.tasks.desktop_calls import Calls, open_desk, second_attempt
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed
from toolswarm.messages import ToolCall


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(open_desk(tmp_path))


def _code_of_probe(calls: Calls, operation: str, run: FakeRun, **arguments: object) -> str:
    with pytest.raises(OperationFailed) as caught:
        calls.probe(operation, second_attempt(run), **arguments)
    return caught.value.failure_code


def _overdue(tenant: str) -> FakeRun:
    run = FakeRun(tenant=tenant)
    run.call = ToolCall(id=run.call.id, operation="test", tenant=tenant, deadline=1.0)
    return run


def test_torn_progress_of_a_batch_leaves_its_outcome_unknown(calls: Calls, tmp_path: Path) -> None:
    run = FakeRun()
    operations = [{"operation": "append_file", "arguments": {"path": "log", "content": "one\n"}}]
    calls("batch", run, operations=operations)
    (tmp_path / ".journal" / "default" / f"{run.call.id}.progress").write_bytes(b"")

    code = _code_of_probe(calls, "batch", run, operations=operations)

    assert code == "outcome_unknown"


@pytest.mark.parametrize("left", [b"", b"[{", b'[{"place":"\xff\xff'])
def test_a_torn_mark_of_a_batch_does_not_keep_its_tenant_out(calls: Calls, tmp_path: Path, left: bytes) -> None:
    marks = tmp_path / ".journal" / "default" / "open"
    marks.mkdir(parents=True)
    (marks / "x.open").write_bytes(left)

    written = calls("write_file", path="file", content="x")

    assert written["created"]
    assert os.listdir(marks) == []


def test_a_change_whose_note_a_power_cut_took_is_not_told_as_not_done(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FakeRun()
    calls("append_file", run, path="log", content="one\n")
    (tmp_path / ".journal" / "default" / f"{run.call.id}.note").unlink()
    monkeypatch.setattr(journal, "machine_started_at", lambda: 1e12)

    code = _code_of_probe(calls, "append_file", run, path="log", content="one\n")

    assert code == "outcome_unknown"


def test_a_sweep_removes_what_a_killed_writer_left(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = calls.desk.journal.folder("default")
    (folder / ".call.note.1").write_bytes(b"half")
    os.utime(folder / ".call.note.1", (1, 1))
    monkeypatch.setattr(journal, "_WRITTEN_WITHIN_S", 0.0)

    calls.desk.journal.sweep(folder)

    assert os.listdir(folder) == []


def test_the_notes_of_every_tenant_are_swept_whoever_else_writes(calls: Calls, tmp_path: Path) -> None:
    notes = calls.desk.journal
    notes.keep(FakeRun().call, "note", b"first")

    for _ in range(600):
        notes.keep(_overdue("busy").call, "note", b"x")
        notes.keep(_overdue("other").call, "note", b"x")

    assert len(os.listdir(tmp_path / ".journal" / "busy")) < 512
    assert len(os.listdir(tmp_path / ".journal" / "other")) < 512
