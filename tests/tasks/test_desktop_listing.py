import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.desktop_calls import Calls, open_desk


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(open_desk(tmp_path / "workspaces"))


@pytest.fixture
def tree(calls: Calls) -> Calls:
    for path in ("b/two", "b/deep/three", "a.txt", ".hidden/x", "b.c", "b/.dot"):
        calls("write_file", path=path, content=path, make_parents=True)
    (calls.folder / "link").symlink_to("/etc")
    os.mkfifo(calls.folder / "pipe")
    (calls.folder / ".0123.toolswarm-tmp").write_text("of a write that goes on")
    return calls


def _paths(listing: dict[str, Any]) -> list[str]:
    return [entry["path"] for entry in listing["entries"]]


def test_a_folder_is_listed_in_order_with_the_kind_of_each(tree: Calls) -> None:
    listed = tree("list_directory")

    assert [(entry["path"], entry["kind"]) for entry in listed["entries"]] == [
        (".hidden", "directory"),
        ("a.txt", "file"),
        ("b", "directory"),
        ("b.c", "file"),
        ("link", "symlink"),
        ("pipe", "other"),
    ]
    assert listed["entries"][1]["size_bytes"] == 5
    assert (listed["truncated"], listed["next_cursor"]) == (False, None)


def test_a_folders_own_entries_follow_it_to_the_depth_that_is_asked_for(tree: Calls) -> None:
    assert _paths(tree("list_directory", depth=2, include_hidden=False)) == [
        *("a.txt", "b", "b/deep", "b/two", "b.c", "link", "pipe")
    ]
    assert _paths(tree("list_directory", path="b", depth=9)) == ["b/.dot", "b/deep", "b/deep/three", "b/two"]


@pytest.mark.parametrize("max_entries", [1, 2, 3, 100])
@pytest.mark.parametrize("hidden", [True, False])
def test_pages_make_up_the_whole(tree: Calls, max_entries: int, hidden: bool) -> None:
    whole = _paths(tree("list_directory", depth=9, include_hidden=hidden))
    pages: list[str] = []
    cursor = None

    while True:
        page = tree("list_directory", depth=9, include_hidden=hidden, max_entries=max_entries, cursor=cursor)
        pages += _paths(page)
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert pages == whole


def test_a_page_goes_on_where_its_last_entry_was_although_that_is_gone(tree: Calls) -> None:
    first = tree("list_directory", depth=9, max_entries=5)
    last = first["entries"][-1]["path"]
    tree("delete", path=last, recursive=True)

    second = tree("list_directory", depth=9, cursor=first["next_cursor"])

    assert last == "b/.dot"
    assert _paths(second) == ["b/deep", "b/deep/three", "b/two", "b.c", "link", "pipe"]


@pytest.mark.parametrize("cursor", ["?", "ü", "a"])
def test_a_cursor_that_no_list_gave_is_refused(tree: Calls, cursor: str) -> None:
    assert tree.code("list_directory", cursor=cursor) == "invalid_cursor"


def test_a_folder_that_is_none_is_said_to_be_none(tree: Calls) -> None:
    assert tree.code("list_directory", path="a.txt") == "not_a_directory"
    assert tree.code("list_directory", path="link") == "path_refused"
    assert tree.code("list_directory", path="missing") == "not_found"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_marked(tree: Calls) -> None:
    (tree.folder / "b").chmod(0)

    listed = tree("list_directory", depth=2)
    (tree.folder / "b").chmod(0o700)

    assert [entry["path"] for entry in listed["entries"] if entry.get("unreadable")] == ["b"]


def test_a_file_is_described(tree: Calls) -> None:
    (tree.folder / "a.txt").chmod(0o640)
    os.link(tree.folder / "a.txt", tree.folder / "second")

    plain = tree("file_info", path="a.txt")
    hashed = tree("file_info", path="./a.txt", sha256=True)

    assert (plain["kind"], plain["size_bytes"], plain["mode"], plain["hard_links"]) == ("file", 5, "0640", 2)
    assert (plain["sha256"], hashed["sha256"]) == (None, hashlib.sha256(b"a.txt").hexdigest())
    assert (plain["path"], hashed["path"], plain["link_target"]) == ("a.txt", "a.txt", None)
    assert plain["modified_at"] == (tree.folder / "a.txt").stat().st_mtime


def test_a_link_is_described_as_it_is_stored_and_not_followed(tree: Calls) -> None:
    (tree.folder / "dangling").symlink_to("../nowhere")

    told = [tree("file_info", path=path, sha256=True) for path in ("link", "dangling")]

    assert [(one["kind"], one["link_target"], one["sha256"]) for one in told] == [
        ("symlink", "/etc", None),
        ("symlink", "../nowhere", None),
    ]


@pytest.mark.parametrize(("path", "kind"), [(".", "directory"), ("b", "directory"), ("pipe", "other")])
def test_folders_and_fifos_are_described(tree: Calls, path: str, kind: str) -> None:
    assert tree("file_info", path=path, sha256=True)["kind"] == kind


@pytest.mark.parametrize(
    ("path", "code"), [("missing", "not_found"), ("a.txt/x", "not_a_directory"), ("link/passwd", "path_refused")]
)
def test_what_is_not_there_is_an_error(tree: Calls, path: str, code: str) -> None:
    assert tree.code("file_info", path=path) == code


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter everything")
def test_what_is_in_a_folder_that_may_be_listed_but_not_entered_is_named(calls: Calls) -> None:
    (calls.folder / "shut" / "inner").mkdir(parents=True)
    (calls.folder / "shut" / "file").write_text("x")
    (calls.folder / "shut").chmod(0o444)

    listed = calls("list_directory", path="shut", depth=2)

    (calls.folder / "shut").chmod(0o755)
    assert [(entry["path"], entry["kind"], entry["unreadable"]) for entry in listed["entries"]] == [
        ("shut/file", "file", True),
        ("shut/inner", "directory", True),
    ]
