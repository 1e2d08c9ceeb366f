"""Whoever may write into a root tries to get out of it: by links, by swapping folders for links, by special files."""

import os
import socket
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.desktop_calls import Calls, litter, open_desk
from toolswarm.errors import OperationFailed

_LONG_S = 10.0 if os.environ.get("TOOLSWARM_LONG") == "1" else 1.0
_AT_ONCE_S = 1.0

_SWAPPER = """
import ctypes, sys
renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
one, other = (part.encode() for part in sys.argv[1:])
print("ready", flush=True)
while True:
    for _ in range(20):
        renameat2(-100, one, -100, other, 2)  # exchange: the folder is a link, and again a folder
"""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    (folder / "inner").mkdir(parents=True)
    (folder / "s").write_text("SECRET")
    (folder / "inner" / "s").write_text("SECRET")
    return folder


@pytest.fixture
def calls(tmp_path: Path, outside: Path) -> Calls:
    opened = Calls(open_desk(tmp_path / "workspaces"))
    root = opened.folder
    (root / "a").mkdir()
    (root / "a" / "file").write_text("inside")
    (root / "to_file").symlink_to(outside / "s")
    (root / "to_folder").symlink_to(outside)
    (root / "relative").symlink_to("../../outside")
    (root / "dangling").symlink_to(outside / "new")
    (root / "a" / "up").symlink_to("..")
    (root / "loop").symlink_to("loop")
    (root / "chain").symlink_to("relative")
    os.mkfifo(root / "fifo")
    (root.parent / "default_evil").mkdir()
    (root.parent / "default_evil" / "s").write_text("SECRET")
    return opened


def _snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


_LEADING_OUT = [
    "../outside/s",
    "../default_evil/s",
    "a/../../outside/s",
    "{root}_evil/s",
    "{root}/../../outside/s",
    "{root}//./../default_evil/s",
    "to_file",
    "to_folder/s",
    "to_folder/inner/s",
    "relative/s",
    "chain/s",
    "a/up/relative/s",
    "loop",
    "loop/s",
    "..\\outside\\s",
    "/proc/self/root/etc/passwd",
    "/proc/self/environ",
    "/proc/self/fd/0",
    "/proc/self/cwd/x",
    "/dev/fd/3",
    "/dev/zero",
    "/dev/stdin",
    "/etc/passwd",
    "/",
    "..",
    "fifo",
    "a\0b",
    "",
    "x/" * 3000,
    "x" * 256,
]


def _attempts(path: str) -> list[tuple[str, dict[str, Any]]]:
    """Every operation that takes a path, on this one."""
    return [
        ("read_file", {"path": path}),
        ("write_file", {"path": path, "content": "x"}),
        ("write_file", {"path": path, "content": "x", "make_parents": True}),
        ("append_file", {"path": path, "content": "x", "make_parents": True}),
        ("edit_file", {"path": path, "edits": [{"old": "SECRET", "new": "x"}]}),
        ("edit_file", {"path": path, "edits": [{"old": "SECRET", "new": "x"}], "dry_run": True}),
        ("copy", {"source": path, "destination": "stolen"}),
        ("copy", {"source": "a/file", "destination": path, "overwrite": True, "make_parents": True}),
    ]


@pytest.mark.parametrize("path", _LEADING_OUT)
def test_no_operation_on_content_follows_a_path_out_or_waits_for_a_device(
    calls: Calls, outside: Path, path: str
) -> None:
    before = _snapshot(outside)
    given = path.replace("{root}", str(calls.folder))

    for operation, arguments in _attempts(given):
        began = time.monotonic()
        error = calls.failure(operation, **arguments)
        assert time.monotonic() - began < _AT_ONCE_S, operation
        # A folder made of 3000 names cannot be made, and nothing is copied from where nothing is.
        assert error.failure_code in ("path_refused", "not_found", "not_a_directory"), operation
        assert error.before_effect
        assert "SECRET" not in str(error.info())
        assert error.message.isprintable()

    assert _snapshot(outside) == before
    assert not (calls.folder / "stolen").exists()
    assert (calls.folder.parent / "default_evil" / "s").read_text() == "SECRET"
    assert litter(calls.folder) == []


@pytest.mark.parametrize(
    "path",
    ["../outside", "to_folder/inner", "relative/inner", "chain/inner", "{root}_evil", "/etc", "..", "a/up/chain/inner"],
)
def test_no_operation_on_folders_follows_a_path_out(calls: Calls, outside: Path, path: str) -> None:
    before = _snapshot(outside)
    given = path.replace("{root}", str(calls.folder))

    codes = [
        calls.code("list_directory", path=given),
        calls.code("file_info", path=given),
        calls.code("make_directory", path=f"{given}/made"),
        calls.code("move", source=given, destination="stolen"),
        calls.code("move", source="a/file", destination=f"{given}/leaked", make_parents=True),
        calls.code("copy", source=given, destination="stolen"),
        calls.code("copy", source="a", destination=f"{given}/leaked", make_parents=True),
        calls.code("delete", path=given, recursive=True),
        calls.code("delete", path=given, recursive=True, missing_ok=True),
    ]

    assert codes == ["path_refused"] * 9
    assert _snapshot(outside) == before
    assert (calls.folder / "a" / "file").read_text() == "inside"


def test_nothing_is_written_through_a_dangling_link(calls: Calls, outside: Path) -> None:
    for operation, arguments in _attempts("dangling"):
        assert calls.failure(operation, **arguments).failure_code in ("path_refused", "not_found")
    assert calls.code("make_directory", path="dangling") == "exists"
    assert calls.code("make_directory", path="dangling/x") in ("path_refused", "not_found")
    assert calls.code("move", source="a/file", destination="dangling", overwrite=True) == "exists"

    assert not (outside / "new").exists()
    assert (calls.folder / "dangling").is_symlink()


def test_links_are_listed_moved_and_deleted_themselves(calls: Calls, outside: Path) -> None:
    before = _snapshot(outside)

    calls("move", source="to_folder", destination="a/moved")
    listed = calls("list_directory", depth=9)
    calls("delete", path="a", recursive=True)

    assert not any("inner" in entry["path"] for entry in listed["entries"])
    assert _snapshot(outside) == before


@pytest.mark.parametrize("operation", ["read_file", "write_file", "append_file", "edit_file", "copy"])
def test_a_socket_is_refused_at_once(calls: Calls, operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(calls.folder)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
        began = time.monotonic()

        codes = {
            calls.failure(name, **arguments).failure_code for name, arguments in _attempts("sock") if name == operation
        }

    assert codes == {"path_refused"}
    assert time.monotonic() - began < _AT_ONCE_S


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_a_device_is_refused_at_once(calls: Calls) -> None:
    os.mknod(calls.folder / "zero", 0o20666, os.makedev(1, 5))

    for operation, arguments in _attempts("zero"):
        began = time.monotonic()
        assert calls.code(operation, **arguments) == "path_refused", operation
        assert time.monotonic() - began < _AT_ONCE_S


def test_a_hard_link_to_a_file_outside_is_that_file_to_read_and_another_when_written(
    calls: Calls, outside: Path
) -> None:
    os.link(outside / "s", calls.folder / "hard")

    read = calls("read_file", path="hard")
    calls("write_file", path="hard", content="new")

    assert read["content"] == "SECRET"  # whoever could make the link may read the file
    assert (outside / "s").read_text() == "SECRET"


def test_a_mode_that_gives_away_rights_is_not_kept_by_a_write(calls: Calls) -> None:
    (calls.folder / "a" / "file").chmod(0o6755)

    calls("write_file", path="a/file", content="new program")

    assert (calls.folder / "a" / "file").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    "path",
    ["~", "~root/.ssh/id_rsa", "$HOME/x", "%2e%2e%2fx", "..%2f", "file:///etc/passwd", "http://127.0.0.1/", "a\nb"],
)
def test_a_name_is_never_expanded_decoded_or_fetched(calls: Calls, path: str) -> None:
    error = calls.failure("read_file", path=path)
    written = calls("write_file", path=path.strip("/"), content="x", make_parents=True)

    assert error.failure_code == "not_found"
    assert error.message.isprintable()
    assert (calls.folder / written["path"]).read_text() == "x"


def test_a_members_path_of_a_batch_is_confined_like_any_other(calls: Calls, outside: Path) -> None:
    before = _snapshot(outside)
    for path in ("../outside/x", "to_folder/x", "/etc/x", "dangling", "to_file"):
        item = {"operation": "write_file", "arguments": {"path": path, "content": "x"}}

        together = calls.code("batch", operations=[item], atomic=True)
        single = calls("batch", operations=[item])["items"][0]["error"]["code"]

        assert (together, single) == ("path_refused", "path_refused")
    assert _snapshot(outside) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_mount_point_is_neither_deleted_nor_copied_with_what_it_is_in(calls: Calls) -> None:
    inner = calls.folder / "a" / "mounted"
    inner.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(inner)], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        (inner / "kept").write_text("kept")
        codes = [
            calls.code("delete", path="a/mounted", recursive=True),
            calls.code("delete", path="a", recursive=True),
            calls.code("copy", source="a", destination="b"),
            calls.code("move", source="a/mounted/kept", destination="b"),
        ]
        kept = (inner / "kept").read_text()
    finally:
        subprocess.run(["umount", "-l", str(inner)], check=True)

    assert codes == ["path_refused", "path_refused", "path_refused", "cross_device"]
    assert kept == "kept"


# -- a folder that is a link every other moment ------------------------------------------------------------------


@contextmanager
def _swapping(one: Path, other: Path) -> Generator[None, None, None]:
    with subprocess.Popen([sys.executable, "-c", _SWAPPER, str(one), str(other)], stdout=subprocess.PIPE) as swapper:
        assert swapper.stdout is not None
        assert swapper.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            swapper.kill()


def _reads(calls: Calls, _number: int) -> list[Any]:
    return [
        lambda: calls("read_file", path="swap/s"),
        lambda: calls("read_files", paths=["swap/s", "swap/inner/s"]),
        lambda: calls("list_directory", path="swap"),
        lambda: calls("list_directory", depth=3),
        lambda: calls("file_info", path="swap/s", sha256=True),
    ]


def _writes(calls: Calls, number: int) -> list[Any]:
    return [
        lambda: calls("write_file", path="swap/s", content=f"{number}"),
        lambda: calls("write_file", path=f"swap/new{number % 9}", content=f"{number}"),
        lambda: calls("append_file", path="swap/log", content="x"),
        lambda: calls("edit_file", path="swap/s", edits=[{"old": f"{number}", "new": f"{number} x"}]),
        lambda: calls("write_file", path=f"swap/p{number % 9}/q", content="x", make_parents=True),
    ]


def _moves(calls: Calls, number: int) -> list[Any]:
    return [
        lambda: calls("move", source="swap/s", destination="taken", overwrite=True),
        lambda: calls("move", source="taken", destination="swap/s", overwrite=True),
        lambda: calls("write_file", path="mine", content="mine"),
        lambda: calls("move", source="mine", destination=f"swap/m{number % 9}", overwrite=True),
    ]


def _deletes(calls: Calls, number: int) -> list[Any]:
    return [
        lambda: calls("delete", path="swap/s"),
        lambda: calls("write_file", path="swap/s", content="inside"),
        lambda: calls("delete", path="swap/inner", recursive=True),
        lambda: calls("write_file", path="swap/inner/s", content="inside", make_parents=True),
    ]


def _folders(calls: Calls, number: int) -> list[Any]:
    return [
        lambda: calls("make_directory", path=f"swap/d{number}/e"),
        lambda: calls("make_directory", path=f"swap/f{number}", make_parents=False),
        lambda: calls("delete", path=f"swap/d{number}", recursive=True),
    ]


def _copies(calls: Calls, number: int) -> list[Any]:
    return [
        lambda: calls("copy", source="swap/s", destination=f"copy{number}"),
        lambda: calls("copy", source="swap", destination=f"tree{number}"),
        lambda: calls("copy", source="a/file", destination="swap/c", overwrite=True),
        lambda: calls("copy", source="a", destination=f"swap/t{number}"),
    ]


def _stolen(folder: Path) -> list[str]:
    """Files of our own, and not those that links lead to, with what only a file outside had."""
    files = [os.path.join(above, name) for above, _, names in os.walk(folder) for name in names]
    regular = [file for file in files if stat.S_ISREG(os.lstat(file).st_mode)]
    return [file for file in regular if b"SECRET" in Path(file).read_bytes()]


@pytest.mark.parametrize("steps", [_reads, _writes, _moves, _deletes, _folders, _copies])
def test_a_folder_swapped_for_a_link_again_and_again_never_leads_outside(
    calls: Calls, outside: Path, steps: Callable[[Calls, int], list[Callable[[], Any]]]
) -> None:
    inner = calls.folder / "swap"
    (inner / "inner").mkdir(parents=True)
    (inner / "s").write_text("inside")
    (inner / "inner" / "s").write_text("inside")
    (calls.folder / "other").symlink_to(outside)
    before = _snapshot(outside)
    ends: Counter[str] = Counter()
    number = 0

    with _swapping(inner, calls.folder / "other"):
        give_up_at = time.monotonic() + _LONG_S
        while time.monotonic() < give_up_at:
            number += 1
            for step in steps(calls, number):
                try:
                    result = step()
                except OperationFailed as error:
                    result = error.info()
                    ends[error.failure_code] += 1
                else:
                    ends["done"] += 1
                assert "SECRET" not in str(result)

    assert _snapshot(outside) == before
    assert _stolen(calls.folder) == []
    assert ends["done"] > 0
    assert ends["path_refused"] > 0


def test_a_tree_whose_inside_is_swapped_while_it_goes_never_leads_outside(calls: Calls, outside: Path) -> None:
    before = _snapshot(outside)
    ends: Counter[str] = Counter()
    number = 0
    with _swapping(calls.folder / "tree" / "swap", calls.folder / "tree" / "other"):
        give_up_at = time.monotonic() + _LONG_S
        while time.monotonic() < give_up_at:
            number += 1
            fresh = calls.folder / f"fresh{number}"
            (fresh / "swap" / "inner").mkdir(parents=True)
            (fresh / "swap" / "inner" / "s").write_text("inside")
            (fresh / "other").symlink_to(outside)
            fresh.rename(calls.folder / "tree")  # from now on it is swapped
            steps: list[tuple[str, dict[str, Any]]] = [
                ("copy", {"source": "tree", "destination": f"copied{number}"}),
                ("list_directory", {"path": "tree", "depth": 5}),
                ("delete", {"path": "tree", "recursive": True}),
            ]
            for operation, arguments in steps:
                try:
                    calls(operation, **arguments)
                    ends["done"] += 1
                except OperationFailed as error:
                    ends[error.failure_code] += 1
            if (calls.folder / "tree").exists():
                (calls.folder / "tree").rename(calls.folder / f"left{number}")

    assert _snapshot(outside) == before
    assert _stolen(calls.folder) == []
    assert ends["done"] > 0
