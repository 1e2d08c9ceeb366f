import os
from pathlib import Path
from typing import Any

import pytest

from tasks.operation import NOT_DONE
from tests.tasks.desktop_calls import Calls, litter, open_desk, second_attempt
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    opened = Calls(open_desk(tmp_path / "workspaces"))
    (opened.folder / "tree" / "inner").mkdir(parents=True)
    (opened.folder / "tree" / "inner" / "file").write_text("deep")
    (opened.folder / "tree" / "link").symlink_to("../../outside")
    (opened.folder / "file").write_text("content")
    return opened


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# -- make_directory --------------------------------------------------------------------------------------------


def test_a_folder_is_made_with_those_above_it_and_may_be_there_already(calls: Calls) -> None:
    first = calls("make_directory", path="new/deep/")
    again = calls("make_directory", path="new/deep")

    assert (first, again) == ({"path": "new/deep", "created": True}, {"path": "new/deep", "created": False})
    assert calls("make_directory", path=".") == {"path": ".", "created": False}
    assert (calls.folder / "new" / "deep").is_dir()


def test_a_folder_is_not_made_over_something_else_or_without_parents(calls: Calls) -> None:
    assert calls.code("make_directory", path="file") == "exists"
    assert calls.code("make_directory", path="tree/link") == "exists"
    assert calls.code("make_directory", path="x/y", make_parents=False) == "not_found"
    assert calls.code("make_directory", path="file/y") == "not_a_directory"


# -- move ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["file", "tree", "tree/link", "tree/inner/"])
def test_anything_is_moved_as_it_is(calls: Calls, source: str) -> None:
    inode = os.lstat(calls.folder / source).st_ino

    moved = calls("move", source=source, destination="to/there", make_parents=True)

    assert os.lstat(calls.folder / "to" / "there").st_ino == inode
    assert not os.path.lexists(calls.folder / source)
    assert (moved["source"], moved["path"], moved["replaced"]) == (source.rstrip("/"), "to/there", False)
    assert litter(calls.folder) == []


def test_a_move_never_replaces_unless_it_is_told_to_and_never_a_folder(calls: Calls) -> None:
    (calls.folder / "other").write_text("other")
    (calls.folder / "empty").mkdir()

    assert calls.code("move", source="file", destination="other") == "exists"
    for overwrite in (False, True):
        assert calls.code("move", source="file", destination="empty", overwrite=overwrite) == "exists"
        assert calls.code("move", source="tree", destination="other", overwrite=overwrite) == "exists"
        assert calls.code("move", source="tree", destination="empty", overwrite=overwrite) == "exists"
    moved = calls("move", source="file", destination="other", overwrite=True)

    assert moved["replaced"]
    assert (calls.folder / "other").read_text() == "content"
    assert not (calls.folder / "file").exists()


@pytest.mark.parametrize(
    ("source", "destination", "code"),
    [
        (".", "x", "path_refused"),
        ("tree", ".", "path_refused"),
        ("tree", "tree/inner/x", "path_refused"),
        ("missing", "x", "not_found"),
        ("file", "missing/x", "not_found"),
        ("file", "../x", "path_refused"),
        ("../x", "y", "path_refused"),
        ("file", "tree/link/x", "path_refused"),
    ],
)
def test_a_move_that_makes_no_sense_or_leads_outside_is_refused(
    calls: Calls, source: str, destination: str, code: str
) -> None:
    before = _names(calls.folder)

    error = calls.failure("move", source=source, destination=destination)

    assert (error.failure_code, error.before_effect) == (code, True)
    assert _names(calls.folder) == before


def test_a_move_to_the_same_place_changes_nothing(calls: Calls) -> None:
    for overwrite in (False, True):
        if not overwrite:
            assert calls("move", source="tree", destination="./tree/")["path"] == "tree"
        moved = calls("move", source="file", destination="./file", overwrite=overwrite)
        assert not moved["replaced"]
    assert (calls.folder / "file").read_text() == "content"


def test_a_second_name_of_the_same_file_is_not_taken_for_another(calls: Calls) -> None:
    os.link(calls.folder / "file", calls.folder / "second")

    for overwrite in (False, True):
        assert calls.code("move", source="file", destination="second", overwrite=overwrite) == "path_refused"
        assert calls.code("copy", source="file", destination="second", overwrite=overwrite) in (
            "exists",
            "path_refused",
        )


def test_the_next_attempt_finds_out_whether_something_was_moved(calls: Calls) -> None:
    for source in ("file", "tree"):
        run, other = FakeRun(), FakeRun()
        arguments = {"source": source, "destination": "to"}
        assert calls.probe("move", second_attempt(other), **arguments) is NOT_DONE

        result = calls("move", run, **arguments)
        told = calls.probe("move", second_attempt(run), **arguments)

        assert told == result
        assert run.effects_begun == 1
        calls("delete", path="to", recursive=True)


def test_a_moved_file_whose_old_name_was_used_again_is_known_as_moved(calls: Calls) -> None:
    run = FakeRun()
    arguments = {"source": "file", "destination": "to"}
    result = calls("move", run, **arguments)
    calls("write_file", path="file", content="another")

    assert calls.probe("move", second_attempt(run), **arguments) == result


# -- delete ----------------------------------------------------------------------------------------------------


def test_files_links_and_folders_are_deleted_and_what_links_lead_to_is_not(calls: Calls, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (calls.folder / "tree" / "out").symlink_to(outside)
    (calls.folder / "to_folder").symlink_to(outside)
    os.mkfifo(calls.folder / "tree" / "pipe")

    link = calls("delete", path="to_folder", recursive=True)
    file = calls("delete", path="file")
    tree = calls("delete", path="tree", recursive=True)

    assert (link["kind"], file["kind"], tree["kind"]) == ("symlink", "file", "directory")
    assert (file["files"], tree["files"], tree["folders"]) == (1, 4, 2)
    assert os.listdir(calls.folder) == []
    assert os.listdir(outside) == ["kept"]


def test_a_folder_with_something_in_it_is_only_deleted_when_that_is_said(calls: Calls) -> None:
    (calls.folder / "empty").mkdir()

    code = calls.code("delete", path="tree")
    deleted = calls("delete", path="empty")

    assert (code, deleted["deleted"]) == ("not_empty", True)
    assert (calls.folder / "tree" / "inner" / "file").exists()


def test_a_folder_that_only_looks_empty_is_deleted_with_its_litter(calls: Calls) -> None:
    folder = calls.folder / "empty"
    (folder / ".0.tree.toolswarm-tmp" / "x").mkdir(parents=True)
    (folder / ".1.toolswarm-tmp").write_text("of a killed writer")

    deleted = calls("delete", path="empty")

    assert deleted["deleted"]
    assert not folder.exists()


@pytest.mark.parametrize("path", [".", "./", "tree/..", "{root}", "{root}/"])
def test_the_root_itself_is_never_deleted(calls: Calls, path: str) -> None:
    given = path.replace("{root}", str(calls.folder))

    assert calls.code("delete", path=given, recursive=True) == "path_refused"
    assert calls.code("delete", path="..", recursive=True) == "path_refused"
    assert calls.code("delete", path=str(calls.folder.parent), recursive=True) == "path_refused"
    assert calls.folder.exists()


def test_nothing_to_delete_is_an_error_unless_that_is_fine(calls: Calls) -> None:
    assert calls.code("delete", path="missing") == "not_found"
    assert calls("delete", path="missing", missing_ok=True) == {
        **{"path": "missing", "kind": None, "deleted": False},
        **{"files": 0, "folders": 0},
    }
    assert calls.code("delete", path="../x", missing_ok=True) == "path_refused"


class _StoppedLater(FakeRun):
    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def stop_requested(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def test_a_delete_stopped_in_the_middle_says_so_and_the_next_attempt_goes_on(calls: Calls) -> None:
    for number in range(20):
        (calls.folder / "tree" / str(number)).write_text("x")
    run = _StoppedLater(8)
    arguments: dict[str, Any] = {"path": "tree", "recursive": True}

    error = calls.failure("delete", run, **arguments)
    told = calls.probe("delete", second_attempt(run), **arguments)
    left = len(_names(calls.folder / "tree"))
    calls("delete", second_attempt(run), **arguments)

    assert (error.failure_code, error.before_effect) == ("stopped", False)
    assert told is NOT_DONE
    assert 0 < left < 23
    assert not (calls.folder / "tree").exists()


def test_the_next_attempt_finds_out_that_something_was_deleted(calls: Calls) -> None:
    for path in ("file", "tree"):
        run = FakeRun()
        result = calls("delete", run, path=path, recursive=True)

        told = calls.probe("delete", second_attempt(run), path=path, recursive=True)

        assert (told["deleted"], told["kind"]) == (True, result["kind"])
    (calls.folder / "tree").mkdir()  # made anew since: it is not to be deleted
    assert calls.probe("delete", second_attempt(run), path="tree", recursive=True)["deleted"]


# -- copy ------------------------------------------------------------------------------------------------------


def test_a_file_is_copied_with_its_mode_and_without_setuid(calls: Calls) -> None:
    (calls.folder / "file").chmod(0o4711)

    copied = calls("copy", source="file", destination="new/copy", make_parents=True)

    copy = calls.folder / "new" / "copy"
    assert (copy.read_text(), copy.stat().st_mode & 0o7777) == ("content", 0o711)
    assert (copied["kind"], copied["files"], copied["size_bytes"], copied["replaced"]) == ("file", 1, 7, False)


def test_a_copy_never_replaces_unless_it_is_told_to_and_never_a_folder(calls: Calls) -> None:
    (calls.folder / "other").write_text("other")
    (calls.folder / "other").chmod(0o600)

    assert calls.code("copy", source="file", destination="other") == "exists"
    assert calls.code("copy", source="file", destination="tree", overwrite=True) == "is_a_directory"
    assert calls.code("copy", source="tree", destination="other", overwrite=True) == "exists"
    copied = calls("copy", source="file", destination="other", overwrite=True)

    assert copied["replaced"]
    assert (calls.folder / "other").read_text() == "content"
    assert (calls.folder / "other").stat().st_mode & 0o7777 == 0o600


def test_a_folder_is_copied_with_modes_and_links_as_they_are_stored(calls: Calls) -> None:
    (calls.folder / "tree" / "inner").chmod(0o2750)
    (calls.folder / "tree" / ".1.toolswarm-tmp").write_text("of a write that goes on")

    copied = calls("copy", source="tree", destination="copy")

    copy = calls.folder / "copy"
    assert _names(copy) == ["inner", "inner/file", "link"]
    assert os.readlink(copy / "link") == "../../outside"
    assert (copy / "inner").stat().st_mode & 0o7777 == 0o750
    assert (copied["files"], copied["folders"], copied["size_bytes"]) == (2, 2, 4)


def test_a_folder_is_not_copied_into_itself_or_over_something(calls: Calls) -> None:
    before = _names(calls.folder)

    for destination, code in (("tree/inner/x", "path_refused"), ("tree/x", "path_refused"), ("file", "exists")):
        assert calls.code("copy", source="tree", destination=destination) == code
    assert calls.code("copy", source=".", destination="tree/x") == "path_refused"
    assert calls.code("copy", source="tree", destination=".") == "path_refused"

    assert _names(calls.folder) == before


def test_a_folder_with_a_fifo_in_it_is_not_copied_and_leaves_nothing(calls: Calls) -> None:
    os.mkfifo(calls.folder / "tree" / "inner" / "pipe")
    before = _names(calls.folder)

    code = calls.code("copy", source="tree", destination="copy")

    assert code == "path_refused"
    assert _names(calls.folder) == before


def test_a_tree_over_the_operators_limit_is_not_copied_and_leaves_nothing(tmp_path: Path) -> None:
    calls = Calls(open_desk(tmp_path, max_tree_entries=5))
    for number in range(6):
        calls("write_file", path=f"tree/{number}", content="x", make_parents=True)

    code = calls.code("copy", source="tree", destination="copy")

    assert code == "too_large"
    assert os.listdir(calls.folder) == ["tree"]


def test_what_a_killed_copy_left_behind_is_cleared_by_the_next(calls: Calls) -> None:
    run = _StoppedLater(3)
    calls.code("copy", run, source="tree", destination="copy")
    made = calls.folder / _staging(calls)
    (made / "half").mkdir(parents=True)

    calls("copy", source="tree", destination="copy")

    assert _names(calls.folder / "copy") == ["inner", "inner/file", "link"]
    assert litter(calls.folder) == []


def _staging(calls: Calls) -> str:
    """The name of the folder that a copy to `copy` is made in."""
    seen: list[str] = []

    class Looking(FakeRun):
        def stop_requested(self) -> bool:
            seen.extend(name for name in litter(calls.folder) if ".tree." in name)
            return bool(seen)

    calls.code("copy", Looking(), source="tree", destination="copy")
    return seen[0]


def test_the_next_attempt_finds_out_whether_something_was_copied(calls: Calls) -> None:
    for source in ("file", "tree"):
        run, other = FakeRun(), FakeRun()
        arguments = {"source": source, "destination": f"copy of {source}"}
        assert calls.probe("copy", second_attempt(other), **arguments) is NOT_DONE

        result = calls("copy", run, **arguments)

        assert calls.probe("copy", second_attempt(run), **arguments) == result
        assert run.effects_begun == 1


def test_a_probe_does_not_guess_about_a_copy_that_was_edited_since(calls: Calls) -> None:
    run = FakeRun()
    calls("copy", run, source="file", destination="copy")
    calls("write_file", path="copy", content="edited")

    with pytest.raises(OperationFailed) as caught:
        calls.probe("copy", second_attempt(run), source="file", destination="copy")

    assert caught.value.failure_code == "outcome_unknown"


@pytest.mark.parametrize(
    ("operation", "source"), [("move", "file"), ("move", "folder"), ("copy", "folder")], ids=lambda value: str(value)
)
def test_a_folder_that_cannot_be_seen_on_the_disk_after_the_rename_is_told_as_begun(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, operation: str, source: str
) -> None:
    (calls.folder / "file").write_text("x")
    (calls.folder / "folder").mkdir()

    def fsync(_: int) -> None:
        if (calls.folder / "new").exists():
            raise OSError(5, "")

    monkeypatch.setattr(os, "fsync", fsync)

    error = calls.failure(operation, source=source, destination="new")

    assert (error.failure_code, error.before_effect) == ("input_output", False)


def test_no_folder_is_made_whose_name_is_kept_for_temporary_files(calls: Calls) -> None:
    codes = [
        calls.code("write_file", path="a/b.toolswarm-tmp/c", content="x", make_parents=True),
        calls.code("make_directory", path="a/b.toolswarm-tmp/c"),
        calls.code("make_directory", path="b.toolswarm-tmp"),
    ]

    assert codes == ["path_refused"] * 3
    assert not {"a", "b.toolswarm-tmp"} & set(os.listdir(calls.folder))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
@pytest.mark.parametrize("operation", ["move", "copy"])
def test_a_file_that_may_not_be_written_is_not_overwritten(calls: Calls, operation: str) -> None:
    (calls.folder / "new").write_text("new")
    (calls.folder / "kept").write_text("kept")
    (calls.folder / "kept").chmod(0o444)

    code = calls.code(operation, source="new", destination="kept", overwrite=True)

    assert code == "permission"
    assert (calls.folder / "kept").read_text() == "kept"
