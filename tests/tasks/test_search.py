import asyncio
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from store.configuration import Configuration
from store.tool_settings import Desktop as DesktopSettings
from tasks.desktop import TOOL
from tasks.desktop.desk import Desk
from tasks.desktop.scan import LARGEST_SEARCHED_FILE_BYTES
from tasks.desktop.search import Matches
from tests.servers.sshd import wait_until
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    opened = Desk.open(Configuration(desktop=DesktopSettings(roots={"default": str(tmp_path)})))
    (tmp_path / "src").mkdir()
    (tmp_path / "src/app.py").write_text("import os\r\nprint('Hello')\n")
    (tmp_path / "src/a(b).txt").write_text("hello a(b\nnothing\nhello again\n")
    (tmp_path / "notes.md").write_text("say hello\n")
    (tmp_path / "binary").write_bytes(b"hello\0\xff")
    (tmp_path / "latin").write_bytes("hello grüße".encode("latin-1"))
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/config").write_text("hello")
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / "link.txt").symlink_to("/etc/passwd")
    return opened


async def _search(desk: Desk, run: FakeRun | None = None, **arguments: Any) -> Matches:
    result = await TOOL.operations["search"].function(desk, run or FakeRun(), **arguments)
    assert isinstance(result, Matches)
    return result


def _found(matches: Matches) -> list[tuple[str, int | None]]:
    return [(match.path, match.line_number) for match in matches.matches]


async def test_a_text_is_found_in_order_in_text_files_only(desk: Desk) -> None:
    matches = await _search(desk, pattern="hello")

    assert _found(matches) == [("latin", 1), ("notes.md", 1), ("src/a(b).txt", 1), ("src/a(b).txt", 3)]
    assert (matches.binary_skipped, matches.truncated) == (1, False)


async def test_a_text_is_not_a_pattern_unless_it_is_said_to_be(desk: Desk) -> None:
    plain = await _search(desk, pattern="a(b")
    regex = await _search(desk, pattern=r"^hello \w+$", regex=True)

    assert _found(plain) == [("src/a(b).txt", 1)]
    assert _found(regex) == [("src/a(b).txt", 3)]


async def test_case_can_be_ignored_and_line_ends_are_left_out(desk: Desk) -> None:
    matches = await _search(desk, pattern="HELLO", ignore_case=True, glob="*.py")
    imports = await _search(desk, pattern="import")

    assert _found(matches) == [("src/app.py", 2)]
    assert imports.matches[0].line == "import os"


async def test_names_are_searched_with_folders_and_links_but_not_through_them(desk: Desk) -> None:
    matches = await _search(desk, pattern="", kind="name", glob="l*")

    assert [(match.path, match.kind) for match in matches.matches] == [
        ("latin", "file"),
        ("link", "symlink"),
        ("link.txt", "symlink"),
    ]


async def test_a_search_begins_in_the_given_folder(desk: Desk) -> None:
    matches = await _search(desk, pattern="hello", path="src", max_results=1)

    assert _found(matches) == [("a(b).txt", 1)]
    assert matches.truncated


async def test_a_link_out_of_the_root_is_not_searched(desk: Desk) -> None:
    with pytest.raises(OperationFailed) as caught:
        await _search(desk, pattern="root", path="link")

    assert caught.value.failure_code == "path_refused"
    assert _found(await _search(desk, pattern="root:")) == []


async def test_a_file_over_the_size_is_counted_and_left_out(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"hello\n" * (LARGEST_SEARCHED_FILE_BYTES // 6 + 1))

    matches = await _search(desk, pattern="hello", glob="large")

    assert (matches.large_skipped, matches.matches) == (1, [])


async def test_an_invalid_pattern_is_named(desk: Desk) -> None:
    with pytest.raises(OperationFailed) as caught:
        await _search(desk, pattern="(", regex=True)

    assert (caught.value.failure_code, caught.value.before_effect) == ("invalid_pattern", True)


async def test_a_pattern_that_takes_for_ever_ends_in_time_and_blocks_nobody(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "trap").write_text("a" * 60 + "!")
    run = FakeRun(limit_s=0.7)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    with pytest.raises(OperationFailed) as caught:
        await _search(desk, run, pattern="(a+)+$", regex=True)
    ticking.cancel()

    assert caught.value.failure_code == "time_limit"
    assert ticks > 10
    assert _searching() == []


async def test_a_cancelled_search_leaves_no_process(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "trap").write_text("a" * 60 + "!")
    searching = asyncio.create_task(_search(desk, pattern="(a+)+$", regex=True))
    began = time.monotonic()
    while not _searching():
        await asyncio.sleep(0.01)
        assert time.monotonic() - began < 10

    searching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await searching

    wait_until(lambda: _searching() == [], "the search runs on")


def _searching() -> list[int]:
    return [
        process.pid
        for process in psutil.Process().children()
        if any(argument.endswith("scan.py") for argument in process.cmdline())
    ]
