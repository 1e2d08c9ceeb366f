import base64
import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from store.configuration import Configuration
from store.tool_settings import Desktop as DesktopSettings
from tasks.desktop import TOOL
from tasks.desktop.desk import Desk
from tests.tasks.desktop_calls import Calls, open_desk
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import InvalidArguments, OperationFailed


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(open_desk(tmp_path / "workspaces"))


def _pieces(calls: Calls, **arguments: Any) -> list[dict[str, Any]]:
    """The file, read part by part."""
    pieces: list[dict[str, Any]] = []
    offset: int | None = 0
    while offset is not None:
        pieces.append(calls("read_file", path="file", offset=offset, **arguments))
        assert offset != pieces[-1]["next_offset"]
        offset = pieces[-1]["next_offset"]
    return pieces


@pytest.mark.parametrize(
    "content", ["", "x", "a\r\nb\r\n", "mixed\r\n\n\rend", "nul\0byte", "grüße 🎈", "a\u2028b\x85c"]
)
def test_what_was_written_is_read_exactly(calls: Calls, content: str) -> None:
    written = calls("write_file", path="file", content=content)

    read = calls("read_file", path="file")

    assert read["content"] == content
    assert (calls.folder / "file").read_bytes() == content.encode()
    assert read["sha256"] == written["sha256"] == hashlib.sha256(content.encode()).hexdigest()
    assert (read["size_bytes"], read["truncated"], read["next_offset"]) == (len(content.encode()), False, None)


@pytest.mark.parametrize(
    ("raw", "newline"),
    [
        (b"", "none"),
        (b"one", "none"),
        (b"a\nb\n", "\n"),
        (b"a\r\nb\r\n", "\r\n"),
        (b"a\rb\r", "\r"),
        (b"a\r\nb\n", "mixed"),
        ("a\r\nb\r\n".encode("utf-16"), "\r\n"),
        (b"x" * ((1 << 20) - 1) + b"\r\ny\r\n", "\r\n"),
    ],
)
def test_the_kind_of_line_end_is_told(calls: Calls, raw: bytes, newline: str) -> None:
    (calls.folder / "file").write_bytes(raw)

    assert calls("read_file", path="file")["newline"] == newline


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be"])
def test_a_byte_order_mark_says_the_encoding_and_is_put_back_by_a_write(calls: Calls, encoding: str) -> None:
    text = "grüße 🎈\r\nzwei\r\n"
    calls("write_file", path="file", content=text, encoding=encoding)
    raw = (calls.folder / "file").read_bytes()

    read = calls("read_file", path="file")
    calls("write_file", path="copy", content=read["content"], encoding=read["encoding"])

    assert (read["content"], read["encoding"], read["newline"]) == (text, encoding, "\r\n")
    assert raw.decode({"utf-8-sig": "utf-8-sig"}.get(encoding, "utf-16")) == text
    assert (calls.folder / "copy").read_bytes() == raw


def test_content_that_is_no_utf8_is_base64_and_not_guessed(calls: Calls) -> None:
    raw = "grüße".encode("latin-1")
    (calls.folder / "file").write_bytes(raw)

    read = calls("read_file", path="file")

    assert (read["encoding"], base64.b64decode(read["content"])) == ("base64", raw)
    assert calls("read_file", path="file", encoding="latin-1")["content"] == "grüße"
    assert calls.code("read_file", path="file", encoding="utf-8") == "invalid_text"


@pytest.mark.parametrize("raw", [b"\xff\xfe\0\xd8", b"\xff\xfea", b"\xff\xfe\0\0a\0\0\0"])
def test_what_only_looks_like_utf16_is_base64(calls: Calls, raw: bytes) -> None:
    (calls.folder / "file").write_bytes(raw)

    read = calls("read_file", path="file")

    assert (read["encoding"], base64.b64decode(read["content"])) == ("base64", raw)


@pytest.mark.parametrize("unit", ["lines", "bytes"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le"])
def test_a_file_is_read_in_pieces_that_make_up_the_whole(calls: Calls, unit: str, encoding: str) -> None:
    content = "".join(f"linie {number} ü🎈\n" for number in range(400)) + "no newline at the end"
    calls("write_file", path="file", content=content, encoding=encoding)

    pieces = _pieces(calls, unit=unit, limit=7 if unit == "lines" else 33, max_bytes=60)

    assert "".join(piece["content"] for piece in pieces) == content
    assert {piece["encoding"] for piece in pieces} == {encoding}


def test_pieces_larger_than_a_chunk_fit_together(calls: Calls) -> None:
    content = b"".join(b"%d" % number + b"x" * (number % 5000) + b"\n" for number in range(1500))
    (calls.folder / "file").write_bytes(content)

    pieces = _pieces(calls, limit=900, max_bytes=1_000_000)

    assert "".join(piece["content"] for piece in pieces).encode() == content
    assert {piece["sha256"] for piece in pieces} == {hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-be"])
def test_a_line_longer_than_the_limit_is_cut_between_characters_and_its_rest_can_be_read(
    calls: Calls, encoding: str
) -> None:
    calls("write_file", path="file", content="first\n" + "ü" * 100 + "\nnext\n", encoding=encoding)

    cut = calls("read_file", path="file", offset=1, max_bytes=5)
    rest = calls("read_file", path="file", unit="bytes", offset=cut["rest_offset_bytes"])
    after = calls("read_file", path="file", offset=cut["next_offset"])

    assert (cut["content"], cut["line_cut"], cut["truncated"], cut["next_offset"]) == ("üü", True, True, 2)
    assert rest["content"] == "ü" * 98 + "\nnext\n"
    assert after["content"] == "next\n"


def test_bytes_that_cut_a_character_at_both_ends_lose_none(calls: Calls) -> None:
    calls("write_file", path="file", content="aüb")

    first = calls("read_file", path="file", unit="bytes", limit=2)
    half = calls("read_file", path="file", unit="bytes", offset=2, limit=1)
    single = calls("read_file", path="file", unit="bytes", offset=1, limit=1)

    assert (first["content"], first["next_offset"]) == ("a", 1)
    assert (half["encoding"], base64.b64decode(half["content"])) == ("base64", b"\xbc")
    assert (single["encoding"], base64.b64decode(single["content"]), single["next_offset"]) == ("base64", b"\xc3", 2)


@pytest.mark.parametrize("unit", ["lines", "bytes"])
def test_an_offset_past_the_end_is_empty(calls: Calls, unit: str) -> None:
    calls("write_file", path="file", content="one\n")

    read = calls("read_file", path="file", offset=50, unit=unit)

    assert (read["content"], read["truncated"], read["next_offset"]) == ("", False, None)


def test_a_file_over_the_operators_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    calls = Calls(open_desk(tmp_path, max_file_bytes=1000))
    with (calls.folder / "huge").open("wb") as file:
        file.truncate(1001)

    assert calls.code("read_file", path="huge") == "too_large"


def test_several_files_are_read_and_one_that_cannot_be_does_not_stop_the_others(calls: Calls) -> None:
    calls("write_file", path="a", content="1\n2\n3\n")
    calls("write_file", path="b", content="b")

    read = calls("read_files", paths=["b", "missing", {"path": "a", "offset": 1, "limit": 1}, "../x"])

    assert [item["file"] and item["file"]["content"] for item in read["items"]] == ["b", None, "2\n", None]
    assert [item["error"] and item["error"]["code"] for item in read["items"]] == [
        *(None, "not_found", None, "path_refused")
    ]
    assert (read["failed"], read["truncated"]) == (2, False)


def test_several_files_together_are_cut_at_the_cap(calls: Calls) -> None:
    for name in "abc":
        calls("write_file", path=name, content="12345\n12345\n")

    read = calls("read_files", paths=["a", "b", "c"], max_total_bytes=18)

    assert [item["file"] and item["file"]["content"] for item in read["items"]] == ["12345\n12345\n", "12345\n", None]
    assert read["items"][2]["error"]["code"] == "total_cap"
    assert read["truncated"]


def test_tenants_see_only_their_own_folder(calls: Calls) -> None:
    alice, bob = Calls(calls.desk, "alice"), Calls(calls.desk, "bob")
    alice("write_file", path="secret", content="a")

    assert bob.code("read_file", path="../alice/secret") == "path_refused"
    assert bob.code("read_file", path=f"{alice.folder}/secret") == "path_refused"
    assert alice.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("tenant", ["..", "a/b", "", "A", "x" * 65, "a\n", "a\0", ".journal"])
def test_a_tenant_whose_name_is_no_folders_is_refused(calls: Calls, tenant: str) -> None:
    with pytest.raises(OperationFailed) as caught:
        calls.desk.root(tenant)

    assert caught.value.failure_code == "path_refused"


def test_a_configured_root_that_is_missing_is_not_made(tmp_path: Path) -> None:
    roots = {"alice": str(tmp_path / "typo")}
    desk = Desk.open(Configuration(desktop=DesktopSettings(roots=roots)))

    with pytest.raises(OperationFailed, match=r"desktop\.roots\.alice") as caught:
        desk.root("alice")

    assert caught.value.failure_code == "root_missing"
    assert not (tmp_path / "typo").exists()


def test_a_root_that_was_removed_and_made_again_works(calls: Calls) -> None:
    calls("write_file", path="file", content="x")
    shutil.rmtree(calls.folder)

    written = calls("write_file", path="file", content="x")

    assert written["created"]


def test_the_allowed_roots_are_told_with_their_limits(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    calls = Calls(open_desk(tmp_path / "w", roots={"alice": str(tmp_path / "own")}, max_file_bytes=1000), "alice")

    told = calls("allowed_roots")

    assert [(root["path"], root["kind"], root["writable"]) for root in told["roots"]] == [
        (str(tmp_path / "own"), "configured", True)
    ]
    assert told["max_file_bytes"] == 1000
    assert Calls(calls.desk)("allowed_roots")["roots"][0]["kind"] == "workspace"


def test_no_operation_changes_a_limit_or_reads_an_address() -> None:
    names = set(TOOL.operations)

    arguments = {name for each in TOOL.describe() for name in each.parameters["properties"]}

    assert not {name for name in names if "config" in name or "limit" in name or "set_" in name}
    assert not {name for name in arguments if "url" in name or "root" in name}


def test_arguments_out_of_range_are_refused() -> None:
    read_file = TOOL.operations["read_file"]

    for arguments in ({"path": "x", "offset": -1}, {"path": "x", "limit": 0}, {"path": 1}, {}, {"path": "x", "y": 1}):
        with pytest.raises(InvalidArguments):
            read_file.convert(arguments)


def test_a_stopped_read_says_so(calls: Calls) -> None:
    calls("write_file", path="file", content="x")
    run = FakeRun()
    run.stop = True

    assert calls.code("read_file", run, path="file") == "stopped"
