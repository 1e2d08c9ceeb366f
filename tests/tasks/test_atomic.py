import fcntl
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tasks import atomic
from tasks.atomic import TEMPORARY_SUFFIX, atomic_replace
from tasks.confined import Confined
from toolswarm.errors import OperationFailed


@pytest.fixture
def root(tmp_path: Path) -> Confined:
    folder = tmp_path / "root"
    folder.mkdir()
    return Confined(folder)


def _put(root: Confined, path: str, content: bytes, *, make_parents: bool = False) -> bool:
    return atomic_replace(root, path, content=content, make_parents=make_parents, may_replace=lambda _: True)


def _litter(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.endswith(TEMPORARY_SUFFIX)]


def test_a_new_file_is_written_with_the_usual_mode(root: Confined) -> None:
    _put(root, "new", b"content")

    file = root.root / "new"
    assert file.read_bytes() == b"content"
    umask = os.umask(0)
    os.umask(umask)
    assert file.stat().st_mode & 0o7777 == 0o666 & ~umask


def test_mode_and_attributes_are_kept_and_setuid_is_not(root: Confined) -> None:
    file = root.root / "old"
    file.write_bytes(b"old")
    file.chmod(0o4750)
    try:
        os.setxattr(file, "user.note", b"kept")
    except OSError:
        pytest.skip("this file system has no extended attributes")

    _put(root, "old", b"new")

    assert file.stat().st_mode & 0o7777 == 0o750
    assert os.getxattr(file, "user.note") == b"kept"


def _acl(*entries: tuple[int, int, int]) -> bytes:
    """An ACL as the kernel stores it: (tag, permissions, id) each."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _set_acl(path: Path, name: str, acl: bytes) -> None:
    try:
        os.setxattr(path, name, acl)
    except OSError:
        pytest.skip("this file system has no access control lists")


_NOBODY = 0xFFFFFFFF
_FOR_A_USER = _acl((1, 6, _NOBODY), (2, 6, 12345), (4, 4, _NOBODY), (0x10, 6, _NOBODY), (0x20, 0, _NOBODY))


def test_an_access_control_list_is_kept(root: Confined) -> None:
    file = root.root / "old"
    file.write_bytes(b"old")
    _set_acl(file, "system.posix_acl_access", _FOR_A_USER)
    mode = file.stat().st_mode

    _put(root, "old", b"new")

    assert os.getxattr(file, "system.posix_acl_access") == _FOR_A_USER
    assert file.stat().st_mode == mode


def test_the_folders_default_list_counts_for_new_files_alone(root: Confined) -> None:
    plain = root.root / "plain"
    plain.write_bytes(b"old")
    plain.chmod(0o640)
    _set_acl(root.root, "system.posix_acl_default", _FOR_A_USER)
    usual = root.root / "usual"
    usual.write_bytes(b"made in the usual way")

    _put(root, "plain", b"new")
    _put(root, "new", b"new")

    assert "system.posix_acl_access" not in os.listxattr(plain)
    assert plain.stat().st_mode & 0o7777 == 0o640
    new = root.root / "new"
    assert os.getxattr(new, "system.posix_acl_access") == os.getxattr(usual, "system.posix_acl_access")
    assert new.stat().st_mode == usual.stat().st_mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_owner_is_kept(root: Confined) -> None:
    file = root.root / "old"
    file.write_bytes(b"old")
    os.chown(file, 12345, 23456)

    _put(root, "old", b"new")

    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 23456)


@pytest.mark.parametrize("target", ["{outside}/new", "{outside}/there", "inside"])
def test_a_symbolic_link_is_never_written_through_nor_replaced(root: Confined, tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "there").write_text("untouched")
    (root.root / "inside").write_text("untouched")
    link = root.root / "link"
    link.symlink_to(target.replace("{outside}", str(outside)))

    with pytest.raises(OperationFailed) as caught:
        _put(root, "link", b"x")

    assert caught.value.failure_code == "path_refused"
    assert link.is_symlink()
    assert os.listdir(outside) == ["there"]
    assert (outside / "there").read_text() == (root.root / "inside").read_text() == "untouched"
    assert _litter(root.root) == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("folder", "is_a_directory"),
        (".", "is_a_directory"),
        ("folder/", "is_a_directory"),
        ("fifo", "path_refused"),
        ("../x", "path_refused"),
        ("missing/x", "not_found"),
        ("x" * 256, "path_refused"),
        ("", "path_refused"),
    ],
)
def test_what_cannot_be_a_files_place_is_refused(root: Confined, path: str, code: str) -> None:
    (root.root / "folder").mkdir()
    os.mkfifo(root.root / "fifo")

    with pytest.raises(OperationFailed) as caught:
        _put(root, path, b"x")

    assert (caught.value.failure_code, caught.value.before_effect) == (code, True)
    assert sorted(os.listdir(root.root)) == ["fifo", "folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_protected_file_is_not_replaced(root: Confined) -> None:
    file = root.root / "old"
    file.write_bytes(b"old")
    file.chmod(0o444)

    with pytest.raises(OperationFailed) as caught:
        _put(root, "old", b"new")

    assert caught.value.failure_code == "permission"


def test_a_full_disk_leaves_the_old_content_and_no_litter(root: Confined) -> None:
    file = root.root / "old"
    file.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # Python ignores SIGXFSZ: writes fail with EFBIG

    try:
        with pytest.raises(OperationFailed) as caught:
            _put(root, "old", b"x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert (caught.value.failure_code, caught.value.before_effect) == ("no_space", True)
    assert file.read_bytes() == b"old"
    assert _litter(root.root) == []


_WRITER = """
import sys
from pathlib import Path
from tasks.atomic import atomic_replace
from tasks.confined import Confined
root = Confined(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(1_000_000):
    letter = b"ab"[number % 2 : number % 2 + 1]
    atomic_replace(root, "file", content=letter * 300_000, make_parents=False, may_replace=lambda _: True)
"""


def test_a_killed_writer_leaves_old_or_new_and_the_next_one_clears_up(root: Confined) -> None:
    file = root.root / "file"
    for attempt in range(8):
        with subprocess.Popen([sys.executable, "-c", _WRITER, root.root], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(0.01 + 0.003 * attempt)  # somewhere in the middle: the fault itself, not a wait for something
            writer.send_signal(signal.SIGKILL)
        if file.exists():
            content = file.read_bytes()
            assert content in (b"a" * 300_000, b"b" * 300_000)
        assert len(_litter(root.root)) <= 1

    _put(root, "file", b"next")

    assert file.read_bytes() == b"next"
    assert _litter(root.root) == []


def test_thirty_writers_who_compare_first_lose_nothing(root: Confined) -> None:
    file = root.root / "count"
    file.write_bytes(b"0")

    def add_one() -> None:
        while True:
            seen = file.read_bytes()

            def unchanged(present: int | None, seen: bytes = seen) -> bool:
                assert present is not None
                return os.pread(present, 100, 0) == seen

            new = b"%d" % (int(seen) + 1)
            if atomic_replace(root, "count", content=new, make_parents=False, may_replace=unchanged):
                return

    threads = [threading.Thread(target=add_one) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert file.read_bytes() == b"30"


def test_a_writer_that_never_finishes_is_a_conflict(root: Confined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_LOCK_TIMEOUT_S", 0.05)
    errors: list[OperationFailed] = []

    def write_meanwhile(_present: int | None) -> bool:
        with pytest.raises(OperationFailed) as caught:
            _put(root, "file", b"second")
        errors.append(caught.value)
        return True

    atomic_replace(root, "file", content=b"first", make_parents=False, may_replace=write_meanwhile)

    assert [(error.failure_code, error.failure_retryable) for error in errors] == [("conflict", True)]
    assert (root.root / "file").read_bytes() == b"first"


def test_a_file_planted_in_the_temporary_ones_place_is_not_emptied(root: Confined, tmp_path: Path) -> None:
    names: list[str] = []

    def look(_present: int | None) -> bool:
        names.extend(_litter(root.root))
        return True

    atomic_replace(root, "file", content=b"x", make_parents=False, may_replace=look)
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    os.link(outside, root.root / names[0])

    _put(root, "file", b"new")

    assert outside.read_text() == "untouched"
    assert (root.root / "file").read_bytes() == b"new"


def test_the_lock_is_given_up_after_a_write(root: Confined) -> None:
    _put(root, "file", b"x")

    with (root.root / "file").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
