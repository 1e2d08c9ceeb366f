import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tasks.desktop.read_cache import CLOCK_GRANULARITY_NS
from tests.servers.waiting import until
from tests.tasks.desktop_calls import Calls, open_desk


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(open_desk(tmp_path / "workspaces"))


def _settle(file: Path) -> None:
    """Wait until one more change of the file could not bear the time of the last one."""
    changed_ns = max(file.stat().st_mtime_ns, file.stat().st_ctime_ns)
    until(lambda: time.time_ns() - changed_ns > CLOCK_GRANULARITY_NS, "the file is old enough to be kept")


def _hits(calls: Calls) -> int:
    return calls.desk.read_cache.hits


def test_a_file_that_is_as_it_was_is_not_read_again(calls: Calls) -> None:
    calls("write_file", path="file", content="x")
    _settle(calls.folder / "file")

    first = calls("read_file", path="file")
    second = calls("read_file", path="file")

    assert first == second
    assert _hits(calls) == 1


def test_a_file_changed_within_the_clocks_granularity_is_not_kept(calls: Calls) -> None:
    calls("write_file", path="file", content="x")
    file = calls.folder / "file"
    ahead_ns = time.time_ns() + 10**9
    os.utime(file, ns=(ahead_ns, ahead_ns))
    _settle_change_time(file)

    calls("read_file", path="file")

    assert calls.desk.read_cache.used_bytes == 0


def _settle_change_time(file: Path) -> None:
    until(lambda: time.time_ns() - file.stat().st_ctime_ns > CLOCK_GRANULARITY_NS, "only the mtime is young")


def test_a_change_in_place_with_the_old_time_and_size_is_seen(calls: Calls) -> None:
    file = calls.folder / "file"
    file.write_text("one")
    _settle(file)
    before = file.stat()
    calls("read_file", path="file")

    with file.open("r+") as opened:
        opened.write("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert calls("read_file", path="file")["content"] == "two"


def test_own_writes_and_deletes_are_forgotten(calls: Calls) -> None:
    steps: list[tuple[str, dict[str, Any]]] = [
        ("write_file", {"content": "new"}),
        ("append_file", {"content": "new"}),
        ("edit_file", {"edits": [{"old": "x", "new": "y"}]}),
        ("delete", {}),
    ]
    for operation, arguments in steps:
        (calls.folder / "file").write_text("x")
        _settle(calls.folder / "file")
        calls("read_file", path="file")
        kept_bytes = calls.desk.read_cache.used_bytes

        calls(operation, path="file", **arguments)

        assert (kept_bytes > 0, calls.desk.read_cache.used_bytes) == (True, 0), operation


def test_memory_is_bounded_and_what_was_read_last_stays(tmp_path: Path) -> None:
    calls = Calls(open_desk(tmp_path, read_cache_bytes=10_000))
    for number in range(10):
        (calls.folder / str(number)).write_text("x" * 3000)
    _settle(calls.folder / "9")

    for number in range(10):
        calls("read_file", path=str(number))
        assert calls.desk.read_cache.used_bytes <= 10_000
    before = _hits(calls)
    calls("read_file", path="9")
    calls("read_file", path="0")

    assert _hits(calls) - before == 1


def test_the_hash_of_a_large_file_is_kept_without_its_content(calls: Calls) -> None:
    (calls.folder / "file").write_bytes(b"line\n" * 500_000)
    _settle(calls.folder / "file")

    first = calls("read_file", path="file", limit=3)
    second = calls("read_file", path="file", offset=400_000, limit=3)

    assert first["sha256"] == second["sha256"]
    assert (second["content"], second["next_offset"]) == ("line\n" * 3, 400_003)
    assert _hits(calls) == 1
    assert calls.desk.read_cache.used_bytes < 10_000


def test_an_operation_without_a_time_to_live_keeps_nothing(tmp_path: Path) -> None:
    calls = Calls(open_desk(tmp_path, read_ttl_s={"file_info": 10.0}))
    (calls.folder / "file").write_text("x")
    _settle(calls.folder / "file")

    calls("read_file", path="file")
    without = calls.desk.read_cache.used_bytes
    calls("file_info", path="file", sha256=True)

    assert without == 0
    assert calls.desk.read_cache.used_bytes > 0


def test_what_was_kept_goes_when_its_time_is_over(tmp_path: Path) -> None:
    calls = Calls(open_desk(tmp_path, read_ttl_s={"read_file": 0.05}))
    (calls.folder / "file").write_text("x")
    _settle(calls.folder / "file")
    calls("read_file", path="file")
    kept_until = time.monotonic() + 0.05
    until(lambda: time.monotonic() > kept_until, "the time to live is over")

    calls("read_file", path="file")

    assert _hits(calls) == 0


def test_with_and_without_a_cache_every_answer_is_the_same(tmp_path: Path) -> None:
    choose = random.Random(7)
    (tmp_path / "root").mkdir()
    roots = {"default": str(tmp_path / "root")}
    cached = Calls(open_desk(tmp_path / "one", roots=roots))
    plain = Calls(open_desk(tmp_path / "two", roots=roots, read_cache_bytes=0))
    names = ["a", "b", "c"]

    for _ in range(600):
        name = choose.choice(names)
        _change(choose, cached, tmp_path / "root", name)
        arguments: dict[str, Any] = {"path": choose.choice(names), "offset": choose.randrange(3), "limit": 2}
        assert _answer(cached, arguments) == _answer(plain, arguments)

    assert _hits(cached) > 50
    assert _hits(plain) == 0


def _change(choose: random.Random, calls: Calls, folder: Path, name: str) -> None:
    what = choose.randrange(12)
    text = "".join(choose.choice("ab\n") for _ in range(8))
    if what == 0:
        calls("write_file", path=name, content=text)
    elif what == 1:
        (folder / name).write_text(text)
    elif what == 2:
        calls("delete", path=name, missing_ok=True)
    elif what == 3 and (folder / name).exists():
        _settle(folder / name)


def _answer(calls: Calls, arguments: dict[str, Any]) -> Any:
    if (calls.folder / arguments["path"]).exists():
        return calls("read_file", **arguments)
    return calls.code("read_file", **arguments)
