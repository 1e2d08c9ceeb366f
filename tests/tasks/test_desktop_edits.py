import hashlib
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.desktop.line_diff import unified_diff
from tasks.desktop.patching import MOST_PLACES, Bounds, CountMismatch, Replacement, patch
from tasks.operation import NOT_DONE
from tests.tasks.desktop_calls import Calls, litter, open_desk, second_attempt
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed

_BOUNDS = Bounds(most_bytes=1 << 20, checkpoint=lambda: None)


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(open_desk(tmp_path / "workspaces"))


def _edit(calls: Calls, *edits: tuple[str, str], **arguments: Any) -> Any:
    return calls("edit_file", path="file", edits=[{"old": old, "new": new} for old, new in edits], **arguments)


def test_only_the_bytes_that_are_named_change(calls: Calls) -> None:
    raw = b"\xef\xbb\xbfone\r\ntwo\nthr\0ee\r\xff caf\xe9 four"
    (calls.folder / "file").write_bytes(raw)

    edited = _edit(calls, ("two", "2"), ("four", "4"))

    assert (calls.folder / "file").read_bytes() == raw.replace(b"two", b"2").replace(b"four", b"4")
    assert edited["sha256"] == hashlib.sha256((calls.folder / "file").read_bytes()).hexdigest()
    assert (edited["changed"], edited["replaced"], edited["newline"]) == (True, [1, 1], "mixed")


@pytest.mark.parametrize("newline", ["\r\n", "\r", "\n"])
def test_a_line_feed_stands_for_the_line_end_that_the_whole_file_has(calls: Calls, newline: str) -> None:
    raw = f"one{newline}two{newline}three"
    (calls.folder / "file").write_bytes((raw + newline).encode())

    _edit(calls, ("one\ntwo", "1\n1.5\n2"), ("three", "3\n4"))

    assert (calls.folder / "file").read_bytes().decode() == f"1{newline}1.5{newline}2{newline}3{newline}4{newline}"


def test_in_a_file_of_mixed_line_ends_a_line_feed_is_a_line_feed(calls: Calls) -> None:
    (calls.folder / "file").write_bytes(b"a\r\nb\nc")

    error = calls.failure("edit_file", path="file", edits=[{"old": "a\nb", "new": "x"}])
    _edit(calls, ("a\r\nb\n", "x"))

    assert error.failure_code == "no_match"
    assert (calls.folder / "file").read_bytes() == b"xc"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8-sig"])
def test_a_file_with_a_byte_order_mark_is_edited_in_its_encoding(calls: Calls, encoding: str) -> None:
    text = "größe\r\nĀ\u0100 zwei\r\n"
    calls("write_file", path="file", content=text, encoding=encoding)

    edited = _edit(calls, ("größe\n", "maß 🎈\n"), ("zwei", "2"))
    dry = _edit(calls, ("2", "II"), dry_run=True)

    read = calls("read_file", path="file")
    assert (read["content"], read["encoding"]) == (text.replace("größe", "maß 🎈").replace("zwei", "2"), encoding)
    assert edited["encoding"] == encoding
    assert "+Ā\u0100 II" in dry["diff"]


def test_bytes_of_utf16_are_matched_at_whole_characters_only(calls: Calls) -> None:
    calls("write_file", path="file", content="\u4100\u0041\u4100", encoding="utf-16-le")

    edited = _edit(calls, ("A", "B"))

    assert edited["replaced"] == [1]
    assert calls("read_file", path="file")["content"] == "\u4100B\u4100"


def test_letters_in_a_file_of_another_encoding_need_its_name(calls: Calls) -> None:
    raw = "für\n".encode("latin-1")
    (calls.folder / "file").write_bytes(raw)

    code = calls.code("edit_file", path="file", edits=[{"old": "r\n", "new": "ü\n"}])
    _edit(calls, ("ü", "ö"), encoding="latin-1")

    assert code == "encoding_mismatch"
    assert (calls.folder / "file").read_bytes() == "för\n".encode("latin-1")


@pytest.mark.parametrize("special", ["$&", "\\1", "\\g<0>", ".*", "[a", "(", "%s", "{0}"])
def test_nothing_in_a_text_is_a_pattern(calls: Calls, special: str) -> None:
    calls("write_file", path="file", content=f"a{special}b")

    _edit(calls, (special, special + special))

    assert calls("read_file", path="file")["content"] == f"a{special}{special}b"


def test_edits_are_applied_in_order_each_to_what_the_one_before_left(calls: Calls) -> None:
    calls("write_file", path="file", content="a b")

    edited = _edit(calls, ("a", "b"), ("b b", "c"))

    assert edited["replaced"] == [1, 1]
    assert calls("read_file", path="file")["content"] == "c"


def test_a_text_must_be_there_as_often_as_it_is_said(calls: Calls) -> None:
    calls("write_file", path="file", content="x\nx y\nz x\n")

    error = calls.failure("edit_file", path="file", edits=[{"old": "z", "new": "Z"}, {"old": "x", "new": "X"}])
    three = calls("edit_file", path="file", edits=[{"old": "x", "new": "X", "count": 3}])
    every = calls("edit_file", path="file", edits=[{"old": "X", "new": "Y", "count": None}])

    assert (error.failure_code, error.before_effect) == ("match_count", True)
    assert error.details == {"edit": 1, "expected": 1, "found": 3, "lines": [1, 2, 3]}
    assert (three["replaced"], every["replaced"]) == ([3], [3])
    assert calls("read_file", path="file")["content"] == "Y\nY y\nz Y\n"


def test_a_miss_reports_the_most_similar_lines_and_changes_nothing(calls: Calls) -> None:
    content = "".join(f"def function_{number}(a, b):\n    return a * {number} + b\n\n" for number in range(300))
    calls("write_file", path="file", content=content)
    wrong = "def function_123(a, b):\n    return a * 123 - b\n"

    error = calls.failure("edit_file", path="file", edits=[{"old": wrong, "new": "x"}])

    closest = error.details["closest"]
    assert (error.failure_code, error.details["edit"], closest["first_line"]) == ("no_match", 0, 370)
    assert closest["similarity"] > 0.9
    assert "-    return a * 123 - b\n+    return a * 123 + b\n" in closest["diff"]
    assert calls("read_file", path="file", max_bytes=1_000_000)["content"] == content


def test_a_miss_by_white_space_alone_says_so(calls: Calls) -> None:
    calls("write_file", path="file", content="if a:\n\treturn b\n")

    error = calls.failure("edit_file", path="file", edits=[{"old": "if a:\n    return b", "new": "x"}])

    assert error.details["closest"]["only_white_space_differs"]


def test_a_miss_without_anything_similar_reports_nothing(calls: Calls) -> None:
    calls("write_file", path="file", content="completely different words\n")

    error = calls.failure("edit_file", path="file", edits=[{"old": "zzzz 0000 qqqq", "new": "x"}])

    assert error.details == {"edit": 0}


@pytest.mark.parametrize(
    ("content", "old"),
    [
        ("".join(f"some line number {number} of a file of this size\n" for number in range(4000)), "line {} of\n" * 12),
        ("same line\n" * 16_000, "same lime\n" * 150),
        ("x" * 160_000, "y" + "x" * 2000),
        ("\n" * 160_000, "a\nb"),
    ],
)
def test_the_search_for_similar_lines_is_quick_whatever_the_file(calls: Calls, content: str, old: str) -> None:
    calls("write_file", path="file", content=content)
    calls.code("edit_file", path="file", edits=[{"old": old, "new": "x"}])  # loads the library

    taken_s: list[float] = []
    for _ in range(3):
        began = time.thread_time()
        calls.code("edit_file", path="file", edits=[{"old": old, "new": "x"}])
        taken_s.append(time.thread_time() - began)

    assert min(taken_s) < 0.05


def test_a_dry_run_shows_the_difference_and_writes_nothing(calls: Calls) -> None:
    before = calls("write_file", path="file", content="".join(f"{number}\n" for number in range(1, 21)))
    run = FakeRun()

    dry = calls(
        "edit_file",
        run,
        path="file",
        edits=[{"old": "\n5\n", "new": "\nfive\n"}, {"old": "20\n", "new": "20"}],
        dry_run=True,
    )
    wet = _edit(calls, ("\n5\n", "\nfive\n"), ("20\n", "20"))

    assert dry["diff"] == (
        "--- file\n+++ file\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n"
        "@@ -17,4 +17,4 @@\n 17\n 18\n 19\n-20\n+20\n\\ No newline at end of file\n"
    )
    assert (dry["sha256"], dry["changed"], wet["diff"]) == (wet["sha256"], True, None)
    assert run.effects_begun == 0
    assert before["sha256"] != dry["sha256"]


def test_a_long_difference_is_cut_and_says_so(calls: Calls) -> None:
    calls("write_file", path="file", content="x\n" * 50_000)

    dry = calls("edit_file", path="file", edits=[{"old": "x", "new": "y", "count": None}], dry_run=True)

    assert dry["diff_truncated"]
    assert len(dry["diff"]) < 70_000


def test_a_stale_hash_a_missing_file_and_a_link_are_refused(calls: Calls) -> None:
    calls("write_file", path="file", content="a")
    (calls.folder / "link").symlink_to("file")

    for dry_run in (True, False):
        arguments: dict[str, Any] = {"edits": [{"old": "a", "new": "b"}], "dry_run": dry_run}
        assert calls.code("edit_file", path="file", expected_sha256="0" * 64, **arguments) == "conflict"
        assert calls.code("edit_file", path="missing", **arguments) == "not_found"
        assert calls.code("edit_file", path="link", **arguments) == "path_refused"
        assert calls.code("edit_file", path=".", **arguments) == "is_a_directory"
    assert calls("read_file", path="file")["content"] == "a"
    assert litter(calls.folder) == []


def test_a_file_over_the_operators_limit_is_not_edited(tmp_path: Path) -> None:
    calls = Calls(open_desk(tmp_path, max_edit_bytes=10))
    calls("write_file", path="file", content="x" * 11)

    assert calls.code("edit_file", path="file", edits=[{"old": "x", "new": "", "count": None}]) == "too_large"


def test_an_edit_that_changes_nothing_writes_nothing(calls: Calls) -> None:
    calls("write_file", path="file", content="a")
    inode = (calls.folder / "file").stat().st_ino
    run = FakeRun()

    edited = calls("edit_file", run, path="file", edits=[{"old": "a", "new": "a"}])

    assert (edited["changed"], run.effects_begun) == (False, 0)
    assert (calls.folder / "file").stat().st_ino == inode


def test_an_edit_is_made_on_what_a_stranger_has_written_in_the_meantime(calls: Calls) -> None:
    calls("write_file", path="file", content="a b")

    class Disturbed(FakeRun):
        def begin_effect(self) -> None:
            if not self.effects_begun:  # an editor that takes no lock, just before the rename
                (calls.folder / "file").write_text("a b, one more")
            super().begin_effect()

    run = Disturbed()

    calls("edit_file", run, path="file", edits=[{"old": "a", "new": "A"}])

    assert calls("read_file", path="file")["content"] == "A b, one more"
    assert run.effects_begun == 1


def test_the_next_attempt_finds_out_whether_an_edit_was_made(calls: Calls) -> None:
    calls("write_file", path="file", content="a")
    edits = [{"old": "a", "new": "aa"}]
    run, other = FakeRun(), FakeRun()
    result = calls("edit_file", run, path="file", edits=edits)

    told = calls.probe("edit_file", second_attempt(run), path="file", edits=edits)

    assert told == result
    assert calls.probe("edit_file", second_attempt(other), path="file", edits=edits) is NOT_DONE


def test_a_probe_does_not_guess_when_the_file_has_gone(calls: Calls) -> None:
    calls("write_file", path="file", content="a")
    edits = [{"old": "a", "new": "aa"}]
    run = FakeRun()
    calls("edit_file", run, path="file", edits=edits)
    os.unlink(calls.folder / "file")

    with pytest.raises(OperationFailed) as caught:
        calls.probe("edit_file", second_attempt(run), path="file", edits=edits)

    assert caught.value.failure_code == "outcome_unknown"


_SMALL = st.text("ab\nc", max_size=30).map(str.encode)
_PIECE = st.text("ab\nc", min_size=1, max_size=3).map(str.encode)


@given(_SMALL, st.lists(st.tuples(_PIECE, st.text("ab\nX", max_size=4).map(str.encode)), min_size=1, max_size=4))
def test_a_patch_is_what_replace_does_and_knows_what_it_has_left(
    content: bytes, pairs: list[tuple[bytes, bytes]]
) -> None:
    expected = content
    wanted: list[Replacement] = []
    for old, new in pairs:
        if old in expected:
            expected = expected.replace(old, new)
            wanted.append(Replacement(old, new, None))

    patched = patch(content, wanted, _BOUNDS, with_kept=True)

    assert patched.content == expected
    assert patched.kept is not None
    for run in patched.kept:
        assert content[run.origin : run.origin + run.length] == expected[run.now : run.now + run.length]


@given(_SMALL, _SMALL, st.booleans())
def test_a_difference_makes_the_new_of_the_old(old: bytes, new: bytes, known: bool) -> None:
    if known and old:
        patched = (
            patch(old, [Replacement(old[: len(old) // 2 + 1], new, 1)], _BOUNDS, with_kept=True) if _once(old) else None
        )
        diff = unified_diff("f", old, patched.content, patched.kept) if patched else None
        new = patched.content if patched else new
    else:
        diff = None
    text = (diff or unified_diff("f", old, new)).text

    assert _applied(old, text) == new


def _once(old: bytes) -> bool:
    return old.count(old[: len(old) // 2 + 1]) == 1


def _applied(old: bytes, diff: str) -> bytes:
    """What a reader of the diff makes of the old content."""
    source = old.decode().split("\n")
    lines = [line + "\n" for line in source[:-1]] + ([source[-1]] if source[-1] else [])
    result: list[str] = []
    at = 0
    last = ""
    for line in diff.split("\n")[2:-1]:
        if line.startswith("@@"):
            first, _, length = line.split()[1][1:].partition(",")
            start = int(first) - (0 if length == "0" else 1)
            result += lines[at:start]
            at = start
        elif line.startswith("\\"):
            if last != "-":
                result[-1] = result[-1][:-1]
        else:
            last = line[0]
            if last in " -":
                assert lines[at].removesuffix("\n") == line[1:]
                at += 1
            if last in " +":
                result.append(line[1:] + "\n")
    return "".join(result + lines[at:]).encode()


def test_a_missing_text_is_told_with_what_the_ones_before_it_left() -> None:
    with pytest.raises(CountMismatch) as caught:
        patch(b"abc", [Replacement(b"a", b"x", 1), Replacement(b"a", b"y", 1)], _BOUNDS)

    assert (caught.value.index, caught.value.content, caught.value.found) == (1, b"xbc", [])


# -- within bounds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("atomic", [False, True])
def test_edits_that_would_make_a_file_too_large_are_refused_before_it_is_made(tmp_path: Path, atomic: bool) -> None:
    calls = Calls(open_desk(tmp_path / "workspaces", max_edit_bytes=1000))
    (calls.folder / "file").write_bytes(b"a")
    edits = [{"old": "a", "new": "aa", "count": None}] * 60  # 2 ** 60 bytes

    if atomic:
        item = {"operation": "edit_file", "arguments": {"path": "file", "edits": edits}}
        error = calls.failure("batch", operations=[item], atomic=True)
    else:
        error = calls.failure("edit_file", path="file", edits=edits)

    assert (error.failure_code, error.details["limit_bytes"]) == ("too_large", 1000)
    assert error.details["size_bytes"] == 1024
    assert (calls.folder / "file").read_bytes() == b"a"


def test_an_edit_of_too_many_places_is_refused(calls: Calls) -> None:
    (calls.folder / "file").write_bytes(b"a" * (MOST_PLACES + 1))

    error = calls.failure("edit_file", path="file", edits=[{"old": "a", "new": "b", "count": None}])

    assert (error.failure_code, error.details["limit_places"]) == ("too_large", MOST_PLACES)


def test_an_edit_of_many_places_takes_no_more_memory_than_the_settings_say(calls: Calls) -> None:
    size_bytes = 16 << 20
    (calls.folder / "file").write_bytes(b"ab" * (MOST_PLACES // 2) + b"c" * size_bytes)
    tracemalloc.start()

    calls(
        "edit_file",
        path="file",
        edits=[{"old": "a", "new": "x", "count": None}, {"old": "b", "new": "y" * 9, "count": None}],
    )

    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 3 * (size_bytes + 5 * MOST_PLACES) + (64 << 20)


def test_a_dry_run_of_a_file_with_millions_of_lines_says_that_its_diff_is_left_out(calls: Calls) -> None:
    (calls.folder / "file").write_bytes(b"\n" * 1_500_000 + b"end")

    edited = calls("edit_file", path="file", edits=[{"old": "end", "new": "END"}], dry_run=True)

    assert (edited["diff"], edited["diff_truncated"]) == ("--- file\n+++ file\n", True)


class _StopsLater(FakeRun):
    """Asked to stop at the n-th look."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.left = looks

    def stop_requested(self) -> bool:
        self.left -= 1
        return self.left <= 0


def test_an_edit_is_stopped_between_its_replacements(calls: Calls) -> None:
    (calls.folder / "file").write_bytes(b"0")
    edits = [{"old": str(number), "new": str(number + 1)} for number in range(900)]

    error = calls.failure("edit_file", run := _StopsLater(100), path="file", edits=edits)

    assert (error.failure_code, error.before_effect, run.left) == ("stopped", True, 0)
    assert (calls.folder / "file").read_bytes() == b"0"


def test_the_search_for_the_most_similar_lines_is_stopped(calls: Calls) -> None:
    (calls.folder / "file").write_text("".join(f"the line number {number}\n" for number in range(100)))

    error = calls.failure("edit_file", _StopsLater(5), path="file", edits=[{"old": "the line numbers 7", "new": ""}])

    assert error.failure_code == "stopped"
