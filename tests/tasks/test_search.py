import asyncio
import base64
import ctypes
import re
import threading
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from store.configuration import Configuration
from store.tool_settings import Desktop as DesktopSettings
from tasks.desktop import globs, ripgrep
from tasks.desktop.desk import Desk
from tasks.desktop.finders import FINDERS
from tasks.desktop.finding import MOST_ANSWER_BYTES
from tasks.desktop.search import Matches, search
from tests.servers.waiting import until
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import InvalidArguments, OperationFailed


@pytest.fixture(scope="module", autouse=True)
def no_finder_is_left() -> Generator[None]:
    yield
    FINDERS.end_idle()


@pytest.fixture
def no_finder_before() -> None:
    FINDERS.end_idle()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    opened = Desk.open(Configuration(desktop=DesktopSettings(roots={"default": str(tmp_path)})))
    (tmp_path / "src").mkdir()
    (tmp_path / "src/app.py").write_bytes(b"import os\r\nprint('Hello')\r\n")
    (tmp_path / "src/a(b).txt").write_text("hello a(b\nnothing\nhello again\n")
    (tmp_path / "notes.md").write_text("say hello\n")
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / "link.txt").symlink_to("/etc/passwd")
    return opened


async def _search(desk: Desk, run: FakeRun | None = None, **arguments: Any) -> Matches:
    converted = search.convert(arguments)
    result = await search.function(desk, run or FakeRun(), **converted)
    assert isinstance(result, Matches)
    return result


def _found(matches: Matches) -> list[tuple[str, int | None]]:
    return [(match.path, match.line_number) for match in matches.matches]


async def _code_of(search: Coroutine[Any, Any, Matches]) -> str:
    with pytest.raises(OperationFailed) as caught:
        await search
    assert caught.value.before_effect
    return caught.value.failure_code


async def test_a_text_is_found_in_order(desk: Desk) -> None:
    matches = await _search(desk, pattern="hello")

    assert _found(matches) == [("notes.md", 1), ("src/a(b).txt", 1), ("src/a(b).txt", 3)]
    assert (matches.path, matches.truncated, matches.next_cursor) == (".", False, None)


async def test_a_text_is_not_a_pattern_unless_it_is_said_to_be(desk: Desk) -> None:
    plain = await _search(desk, pattern="a(b")
    regex = await _search(desk, pattern=r"^hello \w+$", regex=True)

    assert _found(plain) == [("src/a(b).txt", 1)]
    assert _found(regex) == [("src/a(b).txt", 3)]


async def test_line_ends_are_no_part_of_the_line(desk: Desk) -> None:
    matches = await _search(desk, pattern=r"os$", regex=True)

    assert [match.line for match in matches.matches] == ["import os"]


async def test_lines_around_a_match_are_shown_when_asked_for(desk: Desk) -> None:
    matches = await _search(desk, pattern="nothing", before=3, after=1)

    assert (matches.matches[0].before, matches.matches[0].after) == (["hello a(b"], ["hello again"])


async def test_names_are_searched_with_folders_and_links_but_not_through_them(desk: Desk) -> None:
    matches = await _search(desk, pattern="^l|^src$", regex=True, kind="name")

    assert [(match.path, match.kind) for match in matches.matches] == [
        ("link", "symlink"),
        ("link.txt", "symlink"),
        ("src", "directory"),
    ]


async def test_paths_in_answers_are_as_other_operations_take_them(desk: Desk) -> None:
    in_folder = await _search(desk, pattern="hello", path="./src//", max_results=1)
    in_file = await _search(desk, pattern="hello", path="src/a(b).txt")

    assert (in_folder.path, _found(in_folder)) == ("src", [("src/a(b).txt", 1)])
    assert (in_file.path, _found(in_file)) == ("src/a(b).txt", [("src/a(b).txt", 1), ("src/a(b).txt", 3)])


async def test_a_link_out_of_the_root_is_not_searched(desk: Desk) -> None:
    assert await _code_of(_search(desk, pattern="root", path="link")) == "path_refused"
    assert await _code_of(_search(desk, pattern="root", path="link.txt")) == "path_refused"
    assert _found(await _search(desk, pattern="root:")) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"pattern": "(", "regex": True}, "invalid_pattern"),
        ({"pattern": "hello)", "regex": True}, "invalid_pattern"),
        ({"pattern": "(" * 5000 + ")" * 5000, "regex": True}, "invalid_pattern"),
        ({"pattern": "*missing", "regex": True}, "invalid_pattern"),
        ({"pattern": "two\nlines"}, "invalid_pattern"),
        ({"pattern": "x", "glob": "[z-a]"}, "invalid_glob"),
        ({"pattern": "x", "cursor": "nonsense"}, "invalid_cursor"),
        ({"pattern": "x", "cursor": "WzFd"}, "invalid_cursor"),
        ({"pattern": "x", "cursor": base64.urlsafe_b64encode(b"[" * 14_000).decode()}, "invalid_cursor"),
        ({"pattern": "x", "path": "missing"}, "not_found"),
        ({"pattern": "x", "path": "../x"}, "path_refused"),
    ],
)
async def test_what_cannot_be_searched_is_named(desk: Desk, arguments: dict[str, Any], code: str) -> None:
    assert await _code_of(_search(desk, **arguments)) == code


@pytest.mark.parametrize(
    ("glob", "matching", "other"),
    [
        ("*.py", "a.py", "a.pyc"),
        ("a?c", "abc", "a/c"),
        ("src/*.py", "src/a.py", "src/b/a.py"),
        ("src/**/*.py", "src/a.py", "lib/a.py"),
        ("src/**/*.py", "src/b/c/a.py", "src/b/c/a.js"),
        ("src/**", "src/b/c", "srcs/b"),
        ("*.{js,ts}", "a.ts", "a.jsx"),
        ("[a-c]x", "bx", "dx"),
        ("[!a-c]x", "dx", "bx"),
        ("[^c]x", "^x", "dx"),
        ("[]]x", "]x", "[x"),
        ("[!]]x", "[x", "]x"),
        ("[[]x", "[x", "x"),
        ("[\\\\d]x", "\\x", "1x"),
        ("a.b+(c)", "a.b+(c)", "aab+c"),
        ("{a", "{a", "a"),
        ("[!a]b", "xb", "/b"),
    ],
)
def test_a_glob_means_the_usual(glob: str, matching: str, other: str) -> None:
    expression = globs.translated(glob)

    assert re.fullmatch(expression, matching)
    assert not re.fullmatch(expression, other)


async def test_an_answer_that_grows_too_large_is_cut_and_goes_on_from_its_cursor(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text(f"needle{'x' * 390}\n" * 4000)

    first = await _search(desk, pattern="needle", before=5, after=5, max_results=10_000)
    second = await _search(desk, pattern="needle", before=5, after=5, max_results=10_000, cursor=first.next_cursor)

    assert len(msgspec.json.encode(first)) < MOST_ANSWER_BYTES + 100_000
    assert first.truncated
    assert second.matches[0].line_number == len(first.matches) + 1


async def test_a_cursor_of_another_search_is_refused(desk: Desk) -> None:
    first = await _search(desk, pattern="hello", max_results=1)

    assert await _code_of(_search(desk, pattern="hell", cursor=first.next_cursor)) == "invalid_cursor"


async def test_arguments_out_of_range_are_refused(desk: Desk) -> None:
    wrong: dict[str, Any]
    for wrong in ({"max_results": 0}, {"before": 21}, {"timeout_s": 0}, {"kind": "both"}, {"glob": ""}):
        with pytest.raises(InvalidArguments):
            await _search(desk, pattern="x", **wrong)


# -- a pattern that takes for ever ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_finder_before")
async def test_a_pattern_that_takes_for_ever_ends_in_time_and_blocks_nobody(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "trap").write_text("a" * 60 + "!")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    code = await _code_of(_search(desk, pattern="(a+)+$", regex=True, timeout_s=0.7))
    ticking.cancel()

    assert code == "time_limit"
    assert ticks > 10
    assert _processes() == []


async def test_a_search_ends_before_its_attempt_does(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "trap").write_text("a" * 60 + "!")

    assert await _code_of(_search(desk, FakeRun(limit_s=1.5), pattern="(a+)+$", regex=True)) == "time_limit"


@pytest.mark.usefixtures("no_finder_before")
async def test_a_cancelled_search_leaves_no_process(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "trap").write_text("a" * 60 + "!")
    searching = asyncio.create_task(_search(desk, pattern="(a+)+$", regex=True))
    while not _processes():
        await asyncio.sleep(0)

    searching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await searching

    assert _processes() == []


@pytest.mark.usefixtures("no_finder_before")
async def test_a_process_is_kept_for_the_next_search_and_replaced_when_it_died(desk: Desk) -> None:
    await _search(desk, pattern="hello")
    first = _processes()
    await _search(desk, pattern="hello")
    kept = _processes()
    for pid in kept:
        _kill(psutil.Process(pid))

    matches = await _search(desk, pattern="hello")

    assert (len(first), kept) == (1, first)
    assert len(matches.matches) == 3


async def test_searches_at_once_do_not_mix_their_answers(desk: Desk, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"file{number}").write_text(f"word{number}.\n" * (number + 1))

    found = await asyncio.gather(*(_search(desk, pattern=f"word{number}.") for number in range(20)))

    assert [len(matches.matches) for matches in found] == list(range(1, 21))
    assert len(_processes()) <= 2


def _kill(process: psutil.Process) -> None:
    process.kill()
    until(lambda: process.status() == psutil.STATUS_ZOMBIE, "it is dead")


def _processes() -> list[int]:
    return [child.pid for child in psutil.Process().children() if _runs(child, "finding.py")]


def _runs(process: psutil.Process, what: str) -> bool:
    try:
        return any(part.endswith(what) for part in process.cmdline())
    except psutil.NoSuchProcess:
        return False


async def test_a_search_with_ripgrep_that_is_out_of_time_or_cancelled_leaves_no_process(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "rg"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)
    monkeypatch.setattr(ripgrep, "program", lambda: str(program))

    code = await _code_of(_search(desk, pattern="hello", timeout_s=0.2))

    assert code == "time_limit"
    until(lambda: not any(_runs(child, "sleep") for child in psutil.Process().children()), "ripgrep is gone")


# -- somebody who changes the tree meanwhile -----------------------------------------------------------------------


async def test_a_folder_swapped_for_a_link_lets_nothing_out(
    desk: Desk, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "file").write_text("secret outside\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_text("secret inside\n")
    (tmp_path / "other").symlink_to(outside)
    stop = threading.Event()
    swapper = threading.Thread(target=_swap_until, args=(stop, tmp_path / "folder", tmp_path / "other"))
    swapper.start()
    seen: set[str | None] = set()

    try:
        for _ in range(80):
            seen |= {match.line for match in (await _search(desk, pattern="secret")).matches}
    finally:
        stop.set()
        swapper.join()

    assert seen == {"secret inside"}


async def test_what_ripgrep_lists_through_a_link_is_not_believed(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/file").write_text("root:\n")
    (tmp_path / "to_inside").symlink_to("inside")
    for unseen in (".git", "old.toolswarm-tmp"):
        (tmp_path / unseen).mkdir()
        (tmp_path / unseen / "file").write_text("root:\n")
    inside = b".git/file\0old.toolswarm-tmp/file\0to_inside/file\0gone\0\0inside/file\0"
    listed = b"link.txt\0link/passwd\0../outside\0/etc/passwd\0" + inside

    async def files_with(*_: object, **__: object) -> tuple[bytes, bytes]:
        return listed, b""

    monkeypatch.setattr(ripgrep, "files_with", files_with)

    assert _found(await _search(desk, pattern="root:")) == [("inside/file", 1)]


def _swap_until(stop: threading.Event, one: Path, other: Path) -> None:
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    exchange = 2
    while not stop.is_set():
        for _ in range(50):
            assert renameat2(-100, bytes(one), -100, bytes(other), exchange) == 0
