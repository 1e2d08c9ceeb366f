"""What a command is given by its view, and what it is refused without one."""

import os
import signal
import tempfile
from pathlib import Path

import pytest

from tasks.desktop.keeping import keeper_pid
from tests.servers.waiting import until
from tests.tasks.command_calls import lives, needs_program, open_desk, run_argv
from toolswarm.errors import OperationFailed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


_FLAGS = """
import fcntl, os
for set_it, get_it, size in ((0x40086602, 0x80086601, 8), (0x401C5820, 0x801C581F, 28)):
    flags = bytearray(size)
    with open("file") as file:
        fcntl.ioctl(file, get_it, flags)
        try:
            fcntl.ioctl(file, set_it, flags)  # what they are already
            print("changed")
        except PermissionError:
            print("refused")
"""


@pytest.mark.parametrize(("metadata", "answer"), [("hidden", "changed"), ("refused", "refused")])
async def test_the_flags_of_files_are_refused_as_their_modes_are(root: Path, metadata: str, answer: str) -> None:
    needs_program("python3")
    (root / "file").touch()

    result = await run_argv(open_desk(root, sandbox_metadata=metadata), "python3", "-c", _FLAGS)

    if "Inappropriate ioctl" in result.stderr:
        pytest.skip("this file system has no flags")
    assert (result.stderr, result.stdout.split()) == ("", [answer] * 2)


_INHERITED = """
import errno, os, stat
for name in os.listdir("/proc/self/fd"):
    try:
        found = os.fstat(int(name))
    except OSError:
        continue  # it was that of the listing itself
    if stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode):
        continue  # it is on no mount
    answers = [bool(os.fstatvfs(int(name)).f_flag & os.ST_RDONLY)]
    for path in (int(name), f"/proc/self/fd/{name}"):
        try:
            os.chmod(path, stat.S_IMODE(found.st_mode))  # what it is already
            answers.append("changed")
        except OSError as error:
            answers.append(errno.errorcode[error.errno])
    print(os.readlink(f"/proc/self/fd/{name}"), *answers)
"""


@pytest.mark.parametrize(
    ("stdin", "expected"), [(None, ["/dev/null", "True", "EROFS", "EROFS"]), ("some input", [])], ids=["none", "some"]
)
async def test_no_descriptor_of_a_command_leads_to_a_mount_that_can_be_changed(
    root: Path, stdin: str | None, expected: list[str]
) -> None:
    needs_program("python3")
    desk = open_desk(root, sandbox_metadata="hidden")

    result = await run_argv(desk, "python3", "-c", _INHERITED, stdin=stdin)

    assert (result.stderr, result.stdout.split()) == ("", expected)


_SHARED = """
import mmap, multiprocessing, os
from multiprocessing.shared_memory import SharedMemory
with multiprocessing.Lock():
    memory = SharedMemory(create=True, size=4096)
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(abs, [-1, -2]), sorted(os.listdir("/dev/shm")) == [memory.name])
try:
    with open("/dev/shm/large", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 65 * 1024 * 1024)
except OSError as error:
    print(error.strerror)
memory.close()
memory.unlink()
print(os.listdir("/dev/shm"))  # nobody removes this one
"""


async def test_a_command_has_bounded_shared_memory_of_its_own_that_ends_with_it(root: Path) -> None:
    needs_program("python3")
    desk = open_desk(root, sandbox_metadata="hidden")
    before = sorted(os.listdir("/dev/shm"))

    first = await run_argv(desk, "python3", "-c", _SHARED)
    second = await run_argv(desk, "ls", "/dev/shm")

    assert (first.stderr, first.stdout) == ("", "[1, 2] True\nNo space left on device\n['large']\n")
    assert (second.stderr, second.stdout) == ("", "")
    assert sorted(os.listdir("/dev/shm")) == before


async def test_a_root_in_the_machines_shared_memory_is_shown_alone() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        (Path(folder) / "root").mkdir()
        desk = open_desk(Path(folder) / "root", sandbox_metadata="hidden")

        result = await run_argv(desk, "sh", "-c", "touch made && chmod 600 made && ls . .. /dev/shm")

        assert (result.stderr, result.exit_code) == ("", 0)
        assert result.stdout.split() == [".:", "made", "..:", "root", "/dev/shm:", Path(folder).name]


async def test_a_large_temporary_folder_is_removed_when_the_result_is_there(root: Path) -> None:
    script = 'echo "$TMPDIR"; cd "$TMPDIR"; i=0; while [ $i -lt 20000 ]; do : >$i; i=$((i + 1)); done'

    result = await run_argv(open_desk(root), "sh", "-c", script, timeout_s=60)

    assert result.exit_code == 0
    assert not os.path.exists(result.stdout.strip())


async def test_a_worker_whose_temporary_folder_is_lost_names_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run_argv(open_desk(root), "true")
    lost = tmp_path / "lost"
    keeper = keeper_pid()
    assert keeper is not None
    os.kill(keeper, signal.SIGKILL)
    until(lambda: not lives(keeper), "the keeper is gone")
    monkeypatch.setattr(tempfile, "tempdir", str(lost))

    with pytest.raises(OperationFailed) as caught:
        await run_argv(open_desk(root), "true")
    lost.mkdir()
    result = await run_argv(open_desk(root), "sh", "-c", 'echo "$TMPDIR"')
    environment = Path(f"/proc/{keeper_pid()}/environ").read_text()

    assert caught.value.failure_code == "sandbox_unavailable"
    assert f"its temporary folder {lost}/toolswarm-" in caught.value.message
    assert caught.value.message.endswith("No such file or directory); the operator can set TMPDIR")
    assert result.stdout.startswith(f"{lost}/toolswarm-")
    assert result.sandbox.metadata in ("hidden", "refused")
    assert environment.rstrip("\0") == f"TMPDIR={lost}"
    assert os.listdir(lost) == []
