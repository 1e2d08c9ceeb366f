"""What the desktop benchmark works on: a tree to search, files of each side, and our own sides of each row."""

import asyncio
import random
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import BenchmarkFailed
from store.configuration import Configuration
from store.tool_settings import Desktop
from tasks.desktop import TOOL
from tasks.desktop.ripgrep import program
from tests.tasks.fake_run import FakeRun
from toolswarm.client import Client

Action = Callable[[int], object]
"""Does the row's work for the given turn, and returns what was answered."""

NEEDLE = "def needle_here(self)"
NEEDLES = 42
_TREE_FILES = 4000
_READ_BYTES = 4096
_EDITED_LINES = 3000


class Files:
    """The files that one side reads, writes and edits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read = folder / "read.txt"
        self.write = folder / "write.txt"
        self.edit = folder / "edit.txt"

    def make(self) -> None:
        """Write them."""
        self.folder.mkdir()
        self.read.write_text("".join(f"{number:015}\n" for number in range(_READ_BYTES // 16)))
        lines = [f"{number:06} {'some text of no meaning ' * 2}" for number in range(_EDITED_LINES)]
        lines[_EDITED_LINES // 2] = self.line(0)
        self.edit.write_text("\n".join(lines) + "\n")

    def content(self, turn: int) -> str:
        """What is written at this turn: 4 kB."""
        return f"{turn:08}{'x' * 55}\n" * (_READ_BYTES // 64)

    def line(self, turn: int) -> str:
        """The line of the edited file that this turn leaves."""
        return f"the line that changes, in version {turn}."

    def check(self, row: str, turn: int, answer: object) -> None:
        """Compare what was answered, or what is on the disk now, with what it must be.

        Raises:
            BenchmarkFailed: it is not.
        """
        text = str(answer)
        match row:
            case "read":
                right = f"{_READ_BYTES // 16 - 1:015}" in text
            case "write":
                right = self.write.read_text() == self.content(turn)
            case "edit":
                right = self.edit.read_text().count(f"{self.line(turn)}\n") == 1
            case "search":
                right = text.count("needle_here") == NEEDLES
            case _:
                right = "error" not in text.lower()
        if not right:
            raise BenchmarkFailed(f"{self.folder.name} did not {row} as it should: {text[:500]}")


def make_tree(folder: Path) -> int:
    """Make the tree that is searched; returns its size in bytes. It is the same on every machine."""
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 10))) for _ in range(3000)]
    pool = [" ".join(chance.choices(words, k=chance.randint(3, 12))) for _ in range(20_000)]
    size_bytes = 0
    for number in range(_TREE_FILES):
        lines = chance.choices(pool, k=chance.randint(50, 900))
        if number % (_TREE_FILES // NEEDLES) == 0 and number // (_TREE_FILES // NEEDLES) < NEEDLES:
            lines[len(lines) // 2] = f"    {NEEDLE}:"
        file = folder / f"package{number % 40}" / f"part{number % 13}" / f"module{number}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        size_bytes += file.write_bytes("\n".join(lines).encode() + b"\n")
    return size_bytes


def arguments(side: str, root: Path, row: str, turn: int) -> dict[str, Any]:
    """The arguments of our operation for a row."""
    files = Files(root / side)
    match row:
        case "read":
            return {"path": f"{side}/read.txt"}
        case "write":
            return {"path": f"{side}/write.txt", "content": files.content(turn)}
        case "edit":
            edit = {"old": files.line(turn - 1), "new": files.line(turn)}
            return {"path": f"{side}/edit.txt", "edits": [edit]}
        case "search":
            return {"pattern": NEEDLE, "path": "tree"}
        case _:
            return {"argv": ["true"]}


OPERATIONS = {
    "read": "read_file",
    "write": "write_file",
    "edit": "edit_file",
    "search": "search",
    "command": "run_command",
}


@contextmanager
def direct(root: Path, scratch: Path) -> Generator[dict[str, Action]]:
    """Our operations, called as a worker calls them: no queue, no ledger."""
    settings = Desktop(roots={"default": str(root)}, workspaces=str(scratch / "workspaces"))
    desk = TOOL.open(Configuration(desktop=settings))
    with asyncio.Runner() as loop:

        def action(row: str) -> Action:
            declaration = TOOL.operations[OPERATIONS[row]]

            def act(turn: int) -> object:
                values = declaration.convert(arguments("direct", root, row, turn))
                outcome = declaration.function(desk, FakeRun(), **values)
                return loop.run(outcome) if declaration.is_async else outcome

            return act

        yield {row: action(row) for row in OPERATIONS}


@contextmanager
def whole_call(root: Path, url: str, api_key: str) -> Generator[dict[str, Action]]:
    """Calls through gateway, ledger, broker and worker."""
    with Client(url, api_key) as client:
        swarm = client.options(cache="skip")

        def action(row: str) -> Action:
            return lambda turn: swarm.call(f"desktop.{OPERATIONS[row]}", **arguments("whole_call", root, row, turn))

        yield {row: action(row) for row in OPERATIONS}


def plain_ripgrep(root: Path) -> dict[str, Action]:
    """ripgrep started by hand on the same tree.

    Raises:
        BenchmarkFailed: there is none.
    """
    rg = program()
    if rg is None:
        raise BenchmarkFailed("no ripgrep here: its column is left out, and our search is pure Python's")
    argv = [rg, "--no-config", "--no-heading", "--line-number", "--fixed-strings", f"--regexp={NEEDLE}", "./"]

    def act(_: int) -> str:
        return subprocess.run(argv, cwd=root / "tree", capture_output=True, text=True, check=True).stdout

    return {"search": act}
