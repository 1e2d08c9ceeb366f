import base64
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from store.configuration import Configuration
from store.tool_settings import Desktop as DesktopSettings
from tasks.desktop import TOOL
from tasks.desktop.desk import Desk
from tasks.desktop.files import FileText, Listing, Written
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import InvalidArguments, OperationFailed


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    opened = TOOL.open(Configuration(desktop=DesktopSettings(workspaces=str(tmp_path / "workspaces"))))
    assert isinstance(opened, Desk)
    return opened


@pytest.fixture
def folder(desk: Desk) -> Path:
    return desk.root("default").root


def _read(desk: Desk, **arguments: Any) -> FileText:
    result = TOOL.operations["read_file"].function(desk, FakeRun(), **arguments)
    assert isinstance(result, FileText)
    return result


def _write(desk: Desk, run: FakeRun | None = None, **arguments: Any) -> Written:
    result = TOOL.operations["write_file"].function(desk, run or FakeRun(), **arguments)
    assert isinstance(result, Written)
    return result


def _list(desk: Desk, **arguments: Any) -> Listing:
    result = TOOL.operations["list_directory"].function(desk, FakeRun(), **arguments)
    assert isinstance(result, Listing)
    return result


@pytest.mark.parametrize(
    "content", ["", "x", "a\r\nb\r\n", "\ufeffmark\n", "mixed\r\n\n\rend", "nul\0byte", "grüße 🎈"]
)
def test_what_was_written_is_read_exactly(desk: Desk, folder: Path, content: str) -> None:
    written = _write(desk, path="file", content=content)

    read = _read(desk, path="file")

    assert read.content == content
    assert (folder / "file").read_bytes() == content.encode()
    assert read.sha256 == written.sha256 == hashlib.sha256(content.encode()).hexdigest()
    assert (read.size_bytes, read.truncated, read.next_offset) == (len(content.encode()), False, None)


def test_a_file_is_read_in_pieces_that_make_up_the_whole(desk: Desk) -> None:
    content = "".join(f"line {number}\n" for number in range(1000)) + "no newline at the end"
    _write(desk, path="file", content=content)
    pieces: list[str] = []
    offset: int | None = 0

    while offset is not None:
        read = _read(desk, path="file", offset=offset, limit=7, max_bytes=40)
        pieces.append(read.content)
        offset = read.next_offset

    assert "".join(pieces) == content


def test_pieces_larger_than_a_chunk_fit_together(desk: Desk, folder: Path) -> None:
    content = b"".join(b"%d" % number + b"x" * (number % 5000) + b"\n" for number in range(1500))
    (folder / "file").write_bytes(content)
    pieces: list[str] = []
    offset: int | None = 0

    while offset is not None:
        read = _read(desk, path="file", offset=offset, limit=900, max_bytes=1_000_000)
        pieces.append(read.content)
        offset = read.next_offset

    assert "".join(pieces).encode() == content


def test_a_line_longer_than_the_limit_is_cut_between_characters_and_says_so(desk: Desk) -> None:
    _write(desk, path="file", content="ü" * 100 + "\nnext\n")

    read = _read(desk, path="file", max_bytes=5)

    assert (read.content, read.line_cut, read.truncated, read.next_offset) == ("üü", True, True, 1)


def test_content_that_is_no_utf8_is_base64_and_not_guessed(desk: Desk, folder: Path) -> None:
    (folder / "latin").write_bytes("grüße".encode("latin-1"))

    read = _read(desk, path="latin")

    assert read.encoding == "base64"
    assert base64.b64decode(read.content) == "grüße".encode("latin-1")


def test_an_offset_past_the_end_is_empty(desk: Desk) -> None:
    _write(desk, path="file", content="one\n")

    read = _read(desk, path="file", offset=5)

    assert (read.content, read.truncated, read.next_offset) == ("", False, None)


def test_a_huge_file_is_refused_before_it_is_read(desk: Desk, folder: Path) -> None:
    with (folder / "huge").open("wb") as file:
        file.truncate((1 << 30) + 1)

    with pytest.raises(OperationFailed) as caught:
        _read(desk, path="huge")

    assert caught.value.failure_code == "too_large"


def test_a_stale_hash_is_a_conflict_and_changes_nothing(desk: Desk, folder: Path) -> None:
    first = _write(desk, path="file", content="first")
    _write(desk, path="file", content="second")

    with pytest.raises(OperationFailed) as caught:
        _write(desk, path="file", content="third", expected_sha256=first.sha256)

    error = caught.value
    assert (error.failure_code, error.before_effect) == ("conflict", True)
    assert (folder / "file").read_text() == "second"
    assert "second" not in str(error.info())


def test_a_hash_of_a_file_that_is_gone_is_a_conflict(desk: Desk) -> None:
    with pytest.raises(OperationFailed) as caught:
        _write(desk, path="file", content="x", expected_sha256="0" * 64)

    assert caught.value.failure_code == "conflict"


def test_a_repeated_write_whose_first_attempt_succeeded_succeeds(desk: Desk) -> None:
    before = _write(desk, path="file", content="old")
    first = _write(desk, path="file", content="new", expected_sha256=before.sha256)

    second = _write(desk, path="file", content="new", expected_sha256=before.sha256)

    assert (first.changed, second.changed) == (True, False)
    assert second.sha256 == first.sha256


def test_missing_folders_are_made_only_when_asked(desk: Desk, folder: Path) -> None:
    with pytest.raises(OperationFailed) as caught:
        _write(desk, path="a/b/file", content="x")
    written = _write(desk, path="a/b/file", content="x", make_parents=True)

    assert caught.value.failure_code == "not_found"
    assert written.created
    assert (folder / "a/b/file").read_text() == "x"


def test_a_stopped_attempt_writes_nothing(desk: Desk, folder: Path) -> None:
    run = FakeRun()
    run.stop = True

    with pytest.raises(OperationFailed) as caught:
        _write(desk, run, path="file", content="x")

    assert (caught.value.failure_code, caught.value.before_effect) == ("stopped", True)
    assert os.listdir(folder) == []


def test_half_a_surrogate_pair_is_refused(desk: Desk) -> None:
    with pytest.raises(OperationFailed) as caught:
        _write(desk, path="file", content="\ud800")

    assert caught.value.failure_code == "invalid_text"


def test_a_folder_is_listed_in_order_and_to_its_depth(desk: Desk, folder: Path) -> None:
    for path in ("b/two", "b/deep/three", "a.txt"):
        _write(desk, path=path, content=path, make_parents=True)
    (folder / "link").symlink_to("/etc")
    os.mkfifo(folder / "pipe")

    flat = _list(desk)
    deep = _list(desk, depth=2)

    assert [(entry.path, entry.kind) for entry in flat.entries] == [
        ("a.txt", "file"),
        ("b", "directory"),
        ("link", "symlink"),
        ("pipe", "other"),
    ]
    assert [entry.path for entry in deep.entries] == ["a.txt", "b", "b/deep", "b/two", "link", "pipe"]


def test_a_long_listing_is_cut_and_says_so(desk: Desk) -> None:
    for number in range(5):
        _write(desk, path=f"f{number}", content="")

    listing = _list(desk, max_entries=3)

    assert ([entry.path for entry in listing.entries], listing.truncated) == (["f0", "f1", "f2"], True)
    assert not _list(desk, max_entries=5).truncated


def test_a_name_that_is_no_utf8_is_spelled_out(desk: Desk, folder: Path) -> None:
    (Path(os.fsdecode(bytes(folder) + b"/\xff"))).write_bytes(b"")

    listing = _list(desk)

    assert msgspec.json.decode(msgspec.json.encode(listing))["entries"][0]["path"] == "\\xff"


def test_tenants_see_only_their_own_folder(desk: Desk) -> None:
    function = TOOL.operations["write_file"].function
    function(desk, FakeRun(tenant="alice"), path="secret", content="a")

    with pytest.raises(OperationFailed) as caught:
        TOOL.operations["read_file"].function(desk, FakeRun(tenant="bob"), path="../alice/secret")

    assert caught.value.failure_code == "path_refused"
    assert desk.root("alice").root.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("tenant", ["..", "a/b", "", "A", "x" * 65, "a\n", "a\0"])
def test_a_tenant_whose_name_is_no_folders_is_refused(desk: Desk, tenant: str) -> None:
    with pytest.raises(OperationFailed) as caught:
        desk.root(tenant)

    assert caught.value.failure_code == "path_refused"


def test_a_configured_root_that_is_missing_is_not_made(tmp_path: Path) -> None:
    roots = {"alice": str(tmp_path / "typo")}
    desk = Desk.open(Configuration(desktop=DesktopSettings(roots=roots)))

    with pytest.raises(OperationFailed, match=r"desktop\.roots\.alice") as caught:
        desk.root("alice")

    assert caught.value.failure_code == "root_missing"
    assert not (tmp_path / "typo").exists()


def test_a_root_that_was_removed_and_made_again_works(desk: Desk, folder: Path) -> None:
    _write(desk, path="file", content="x")
    shutil.rmtree(folder)

    written = _write(desk, path="file", content="x")

    assert written.created


def test_arguments_out_of_range_are_refused() -> None:
    read_file = TOOL.operations["read_file"]

    for arguments in ({"path": "x", "offset": -1}, {"path": "x", "limit": 0}, {"path": 1}, {}, {"path": "x", "y": 1}):
        with pytest.raises(InvalidArguments):
            read_file.convert(arguments)
