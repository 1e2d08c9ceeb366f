import ctypes
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import beneath, confined
from tasks.beneath import open_by_kernel, open_by_walk
from tasks.confined import Confined
from toolswarm.errors import OperationFailed

Opener = Callable[[int, bytes, int], int]


@pytest.fixture(params=[open_by_kernel, open_by_walk])
def opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Opener:
    chosen: Opener = request.param
    if chosen is open_by_kernel and beneath.open_beneath is open_by_walk:
        pytest.skip("this kernel, or its seccomp filter, has no openat2")
    monkeypatch.setattr(confined, "open_beneath", chosen)
    return chosen


@pytest.fixture
def root(tmp_path: Path, opener: Opener) -> Confined:
    folder = tmp_path / "root"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "inside.txt").write_text("inside")
    (folder / "link.txt").symlink_to("a/inside.txt")
    evil = tmp_path / "root_evil"
    evil.mkdir()
    (evil / "s").write_text("SECRET")
    (folder / "to_file").symlink_to("/etc/passwd")
    (folder / "to_folder").symlink_to("/etc")
    (folder / "relative").symlink_to("../root_evil")
    (folder / "dangling").symlink_to(tmp_path / "root_evil" / "new")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "fifo")
    return Confined(folder)


def _read(root: Confined, path: str) -> bytes:
    with root.open_file(path) as fd:
        return os.read(fd, 100)


@pytest.mark.parametrize("path", ["a/inside.txt", "./a//inside.txt", "a/../a/inside.txt"])
def test_a_file_inside_is_opened(root: Confined, path: str) -> None:
    assert _read(root, path) == b"inside"


def test_an_absolute_path_is_taken_when_it_spells_the_root(root: Confined) -> None:
    assert _read(root, f"{root.root}/a/inside.txt") == b"inside"


def test_a_link_to_the_inside_is_followed_by_the_kernel_and_refused_by_the_walk(root: Confined, opener: Opener) -> None:
    if opener is open_by_kernel:
        assert _read(root, "link.txt") == b"inside"
    else:
        with pytest.raises(OperationFailed, match="symbolic link"):
            _read(root, "link.txt")


@pytest.mark.parametrize(
    "path",
    [
        "{root}_evil/s",
        "../root_evil/s",
        "a/../../root_evil/s",
        "{root}/../root_evil/s",
        "{root}//./../root_evil/s",
        "to_file",
        "to_folder/passwd",
        "relative/s",
        "dangling",
        "loop",
        "/proc/self/root/etc/passwd",
        "/proc/self/environ",
        "/dev/fd/0",
        "/dev/zero",
        "/dev/stdin",
        "fifo",
        "a\0b",
        "",
        "..",
        "/",
        "/etc/passwd",
        "x/" * 3000,
        "x" * 256,
        "\ud800",
    ],
)
def test_a_path_that_leads_outside_or_to_no_file_is_refused_at_once(root: Confined, path: str) -> None:
    began = time.monotonic()

    with pytest.raises(OperationFailed) as caught:
        _read(root, path.replace("{root}", str(root.root)))

    assert caught.value.failure_code == "path_refused"
    assert caught.value.before_effect
    assert "SECRET" not in caught.value.message
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "path", ["~", "~root/.ssh/id_rsa", "$HOME/x", "%2e%2e%2fx", "..%2f", "file:///etc/passwd", "\udcff\udcfe"]
)
def test_a_name_is_never_expanded_or_decoded(root: Confined, path: str) -> None:
    with pytest.raises(OperationFailed) as caught:
        _read(root, path)

    assert caught.value.failure_code == "not_found"


@pytest.mark.parametrize("path", [".", "a", "{root}", "a/.."])
def test_a_folder_is_not_a_file(root: Confined, path: str) -> None:
    with pytest.raises(OperationFailed) as caught:
        _read(root, path.replace("{root}", str(root.root)))

    assert caught.value.failure_code == "is_a_directory"


def test_a_file_is_not_a_folder(root: Confined) -> None:
    with pytest.raises(OperationFailed) as caught, root.open_folder("a/inside.txt"):
        pass

    assert caught.value.failure_code == "not_a_directory"


def test_a_socket_is_refused(root: Confined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.root)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")

        with pytest.raises(OperationFailed) as caught:
            _read(root, "sock")

    assert caught.value.failure_code == "path_refused"


def test_a_name_with_control_characters_is_shown_on_one_line(root: Confined) -> None:
    with pytest.raises(OperationFailed) as caught:
        _read(root, "a\n\x1b[31mb")

    assert caught.value.message.isprintable()


def test_parents_are_made_inside_only(root: Confined) -> None:
    with root.open_parent("new/deep/file", make_parents=True) as (_, name):
        assert name == b"file"

    assert (root.root / "new" / "deep").is_dir()
    for path in ("relative/made/x", "to_folder/made/x", "../made/x", "dangling/x/y"):
        with pytest.raises(OperationFailed) as caught, root.open_parent(path, make_parents=True):
            pass
        assert caught.value.failure_code == "path_refused"
    assert not (root.root.parent / "root_evil" / "made").exists()
    assert not (root.root.parent / "root_evil" / "new").exists()


def test_a_root_that_is_gone_gives_back_its_descriptor(tmp_path: Path) -> None:
    root = Confined(tmp_path)
    fd = root.fd

    del root

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_folder_swapped_for_a_link_again_and_again_never_leads_outside(root: Confined, opener: Opener) -> None:
    inner = root.root / "swap"
    inner.mkdir()
    (inner / "s").write_text("inside")
    (root.root / "other").symlink_to("../root_evil")
    stop = threading.Event()
    swapper = threading.Thread(target=_swap_until, args=(stop, inner, root.root / "other"))
    seen: dict[bytes, int] = {}
    swapper.start()

    give_up_at = time.monotonic() + 0.7  # for each of the two ways
    while time.monotonic() < give_up_at:
        try:
            content = _read(root, "swap/s")
        except OperationFailed as error:
            content = error.failure_code.encode()
        seen[content] = seen.get(content, 0) + 1
    stop.set()
    swapper.join()

    # The walk may find that what was a link a moment ago is a folder again: also no way out.
    assert seen.keys() <= {b"inside", b"path_refused", b"not_a_directory"}
    assert seen[b"inside"] > 0
    assert seen[b"path_refused"] > 0


def _swap_until(stop: threading.Event, one: Path, other: Path) -> None:
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    exchange = 2
    while not stop.is_set():
        for _ in range(50):
            assert renameat2(-100, bytes(one), -100, bytes(other), exchange) == 0
