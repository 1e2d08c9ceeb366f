import os
import unicodedata
from pathlib import Path

import pytest

from tasks.spelling import beneath_root
from tests.tasks.desktop_calls import Calls, open_desk

NFC = unicodedata.normalize("NFC", "für")
NFD = unicodedata.normalize("NFD", "für")


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    opened = Calls(open_desk(tmp_path / "workspaces"))
    (opened.folder / "a" / "b").mkdir(parents=True)
    (opened.folder / "a" / "b" / "file").write_text("content")
    return opened


@pytest.mark.parametrize(
    "path",
    [
        "a/b/file",
        "./a//b/./file",
        "a/x/../b/file",
        "a/b/c/../../b/file",
        "a\\b\\file",
        "a\\b/file",
        ".\\a\\b\\file",
        "a/b/file/",
        "{root}/a/b/file",
        "{root}//a/./b/file",
        "{root}/../default/a/b/file",
    ],
)
def test_every_spelling_means_the_same_file_and_the_result_says_which(calls: Calls, path: str) -> None:
    read = calls("read_file", path=path.replace("{root}", str(calls.folder)))

    assert (read["path"], read["content"]) == ("a/b/file", "content")


@pytest.mark.parametrize("path", [".", "./", "a/..", "{root}", "{root}/", "a/b/../../"])
def test_every_spelling_of_the_root_means_the_root(calls: Calls, path: str) -> None:
    listed = calls("list_directory", path=path.replace("{root}", str(calls.folder)))

    assert (listed["path"], [entry["path"] for entry in listed["entries"]]) == (".", ["a"])


@pytest.mark.parametrize("path", ["..\\x", "a\\..\\..\\x", "\\etc\\passwd", "..", "../default_evil/x", "a/../../x"])
def test_no_spelling_leads_outside(calls: Calls, path: str) -> None:
    assert calls.code("read_file", path=path) == "path_refused"
    assert calls.code("write_file", path=path, content="x") == "path_refused"
    assert calls.code("list_directory", path=path) == "path_refused"
    assert os.listdir(calls.folder) == ["a"]


def test_a_name_with_a_backslash_comes_before_a_folder_of_that_spelling(calls: Calls) -> None:
    (calls.folder / "a\\b").write_text("literal")

    read = calls("read_file", path="a\\b")

    assert (read["path"], read["content"]) == ("a\\b", "literal")


def test_a_new_file_with_backslashes_goes_into_the_folder(calls: Calls) -> None:
    written = calls("write_file", path="a\\b\\new", content="x")

    assert written["path"] == "a/b/new"
    assert (calls.folder / "a/b/new").exists()


@pytest.mark.parametrize(("there", "asked"), [(NFC, NFD), (NFD, NFC)])
def test_a_name_in_another_unicode_form_means_the_one_that_is_there(calls: Calls, there: str, asked: str) -> None:
    (calls.folder / there).mkdir()
    (calls.folder / there / there).write_text("there")

    read = calls("read_file", path=f"{asked}/{asked}")
    written = calls("write_file", path=f"{asked}/{asked}", content="new")
    made = calls("write_file", path=f"{asked}/ü-{asked}", content="new")

    assert (read["content"], read["path"]) == ("there", f"{there}/{there}")
    assert (written["created"], made["path"]) == (False, f"{there}/ü-{asked}")
    assert sorted(os.listdir(calls.folder / there)) == sorted([there, f"ü-{asked}"])


def test_the_exact_unicode_form_comes_first(calls: Calls) -> None:
    (calls.folder / NFC).write_text("composed")
    (calls.folder / NFD).write_text("decomposed")

    assert calls("read_file", path=NFC)["content"] == "composed"
    assert calls("read_file", path=NFD)["content"] == "decomposed"


def test_a_name_that_is_no_utf8_is_spelled_and_found_by_its_spelling(calls: Calls) -> None:
    Path(os.fsdecode(bytes(calls.folder) + b"/a/\xff\xe9 x")).write_bytes(b"bytes")

    listed = calls("list_directory", path="a")
    path = listed["entries"][1]["path"]
    read = calls("read_file", path=path)
    deleted = calls("delete", path=path)

    assert path == "a/\\xff\\xe9 x"
    assert (read["content"], read["path"], deleted["deleted"]) == ("bytes", path, True)
    assert os.listdir(calls.folder / "a") == ["b"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("~/notes", "not a home folder"),
        ("~root/x", "not a home folder"),
        ("https://example.org/x", "nothing is fetched"),
    ],
)
def test_what_looks_like_more_than_a_name_is_a_name_and_the_error_says_so(calls: Calls, path: str, said: str) -> None:
    error = calls.failure("read_file", path=path)

    assert error.failure_code == "not_found"
    assert said in error.message


def test_a_tilde_is_a_name_like_any_other(calls: Calls) -> None:
    calls("write_file", path="~/x", content="tilde", make_parents=True)

    assert (calls.folder / "~" / "x").read_text() == "tilde"


def test_a_root_behind_a_link_may_be_spelled_both_ways(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    calls = Calls(open_desk(tmp_path / "w", roots={"default": str(tmp_path / "link")}))

    for name in ("real", "link"):
        written = calls("write_file", path=f"{tmp_path}/{name}/{name}", content="x")
        assert written["path"] == name


def test_an_absolute_path_never_climbs_above_the_top() -> None:
    assert beneath_root(b"/../../w/root/x", (b"/w/root",)) == b"x"
    with pytest.raises(ValueError, match="outside"):
        beneath_root(b"/w/root_evil/x", (b"/w/root",))
