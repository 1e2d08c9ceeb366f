import asyncio
import errno
import os
import resource
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tasks.desktop.desk import Desk
from tasks.desktop.launch import no_descriptors
from tests.tasks.command_calls import needs_program, open_desk, run_argv
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed

_ATTACKS = """
import os, sys
path = sys.argv[1]
for change in (
    lambda: os.chmod(path, 0o666),
    lambda: os.chown(path, os.getuid(), os.getgid()),
    lambda: os.utime(path, (1, 1)),
    lambda: os.setxattr(path, "user.mark", b"x"),
    lambda: os.setxattr(path, "user.mark", b"x", follow_symlinks=False),
):
    try:
        change()
        print("changed")
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A file beside the root, as the state folder with its keys is one."""
    file = tmp_path / "state" / "api_key"
    file.parent.mkdir()
    file.write_text("secret")
    file.chmod(0o600)
    return file


@pytest.fixture
def desk(root: Path) -> Desk:
    return open_desk(root)


def _metadata(path: Path) -> tuple[int, int, int, list[str]]:
    found = path.stat()
    return found.st_mode, found.st_mtime_ns, found.st_ctime_ns, os.listxattr(path)


@pytest.mark.parametrize(
    ("metadata", "answer"), [("auto", None), ("hidden", "FileNotFoundError"), ("refused", "PermissionError")]
)
async def test_metadata_of_files_outside_cannot_be_changed(
    root: Path, key: Path, metadata: str, answer: str | None
) -> None:
    needs_program("python3")
    before = _metadata(key), _metadata(key.parent)

    result = await run_argv(open_desk(root, sandbox_metadata=metadata), "python3", "-c", _ATTACKS, str(key))

    answers = result.stdout.split()
    assert len(answers) == 5
    assert "changed" not in answers
    assert answer is None or set(answers) == {answer}
    assert (_metadata(key), _metadata(key.parent)) == before
    assert result.sandbox.metadata == metadata or metadata == "auto"
    assert result.sandbox.metadata in ("hidden", "refused")


async def test_metadata_that_the_operator_leaves_open_is_told_as_open(root: Path, key: Path) -> None:
    result = await run_argv(open_desk(root, sandbox_metadata="open"), "chmod", "644", str(key))

    assert (result.exit_code, result.sandbox.metadata) == (0, "open")
    assert key.stat().st_mode & 0o777 == 0o644


async def test_the_roots_of_other_tenants_can_neither_be_locked_nor_seen(tmp_path: Path) -> None:
    roots = {"alice": tmp_path / "alice", "bob": tmp_path / "bob"}
    for folder in roots.values():
        folder.mkdir()
    desk = open_desk(roots, sandbox_metadata="hidden")
    script = f"chmod 000 {roots['bob']}; stat {roots['bob']}; stat ../bob; chmod 755 .."

    result = await run_argv(desk, "sh", "-c", script, run=FakeRun(tenant="alice"))

    assert roots["bob"].stat().st_mode & 0o777 == 0o755
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("No such file") == 3
    assert result.stderr.count("Read-only file system") == 1


async def test_modes_times_and_attributes_in_the_root_and_in_tmpdir_can_be_changed(desk: Desk, root: Path) -> None:
    (root / "sub").mkdir()
    script = (
        "echo 'echo ran' >run && chmod +x run && sh ./run && touch -d @1000 run && cp -p run copy && "
        'tar cf a.tar run && mkdir x && tar xf a.tar -C x && mv x/run "$TMPDIR/run" && chmod 700 "$TMPDIR/run" && pwd'
    )

    result = await run_argv(desk, "sh", "-c", script, cwd="sub")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"ran\n{root}/sub\n"
    assert (root / "sub" / "copy").stat().st_mtime == 1000


async def test_a_root_reached_by_a_link_and_a_nested_working_folder_are_shown(tmp_path: Path, root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(root)

    result = await run_argv(open_desk(tmp_path / "link"), "sh", "-c", "touch made && ls ..", cwd="a/b")

    assert (result.exit_code, result.stdout) == (0, "b\n")
    assert (root / "a" / "b" / "made").exists()


async def test_what_the_operator_lets_be_read_is_read_only(root: Path, key: Path) -> None:
    desk = open_desk(root, sandbox_metadata="hidden", sandbox_read=(str(key.parent),))

    result = await run_argv(desk, "sh", "-c", f"cat {key}; chmod 644 {key}")

    assert result.stdout == "secret"
    assert "Read-only file system" in result.stderr
    assert key.stat().st_mode & 0o777 == 0o600


_OTHERS = """
import ctypes, os, sys
other = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
for change in (
    lambda: os.setpriority(os.PRIO_PROCESS, other, 5),
    lambda: os.setpriority(os.PRIO_PGRP, 0, 5),
    lambda: os.setpriority(os.PRIO_USER, 54321, 5),  # nobody's: were it allowed, no such process would be found
    lambda: os.sched_setscheduler(other, os.SCHED_BATCH, os.sched_param(0)),
    lambda: os.sched_setparam(other, os.sched_param(0)),
    lambda: os.sched_setaffinity(other, {0}),
    lambda: ctypes.c_int(libc.syscall({"x86_64": 251, "aarch64": 30}[os.uname().machine], 1, other, 0x6000)).value
    and (_ for _ in ()).throw(OSError(ctypes.get_errno(), "ioprio_set")),
    lambda: os.kill(other, 0),
):
    try:
        change()
        print("changed")
    except PermissionError:
        print("refused")
os.setpriority(os.PRIO_PROCESS, 0, 5)
os.sched_setaffinity(0, os.sched_getaffinity(0))
"""


async def test_the_scheduling_of_other_processes_cannot_be_changed(desk: Desk) -> None:
    needs_program("python3")

    result = await run_argv(desk, "python3", "-c", _OTHERS, str(os.getpid()))

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.split() == ["refused"] * 8


_NAMED = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
for make in (
    lambda: libc.shmget(0x7057, 4096, 0o1600),
    lambda: libc.semget(0x7057, 1, 0o1600),
    lambda: libc.msgget(0x7057, 0o1600),
    lambda: libc.mq_open(b"/toolswarm-test", 0o102, 0o600, None),
):
    print("made" if make() >= 0 else errno.errorcode[ctypes.get_errno()])
"""


async def test_nothing_that_outlives_a_command_can_be_made_beside_the_file_system(desk: Desk) -> None:
    needs_program("python3")

    result = await run_argv(desk, "python3", "-c", _NAMED)

    assert result.stdout.split() == ["ENOSYS"] * 4


async def test_a_program_outside_and_one_that_is_not_there_get_the_same_answer(root: Path, key: Path) -> None:
    (root / "link").symlink_to(key.parent)
    messages: set[tuple[str, str]] = set()

    for path in (key, key.parent / "nothing", root / "link" / "api_key", root / "link" / "nothing"):
        with pytest.raises(OperationFailed) as caught:
            await run_argv(open_desk(root), str(path))
        messages.add((caught.value.failure_code, caught.value.message.replace(str(path), "PATH")))

    assert len(messages) == 1
    assert messages.pop()[0] == "not_found"


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A root whose parents anybody may enter, as pytest's folders are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


async def test_a_working_folder_that_cannot_be_entered_is_told_as_such(open_root: Path) -> None:
    desk = open_desk({"default": open_root})
    (open_root / "locked").mkdir(mode=0o444)
    if os.getuid() == 0:
        os.seteuid(65534)  # root may enter any folder

    try:
        with pytest.raises(OperationFailed) as caught:
            await run_argv(desk, "true", cwd="locked")
    finally:
        os.seteuid(os.getuid())

    assert (caught.value.failure_code, caught.value.before_effect) == ("permission", True)
    assert "cwd 'locked'" in caught.value.message


@contextmanager
def _descriptors_left(number: int) -> Generator[None, None, None]:
    """All are taken but so many."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, limits[1]))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(number):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in taken:
            os.close(fd)


@pytest.mark.parametrize("left", range(8))
def test_a_worker_without_descriptors_tells_that_it_may_be_tried_again(desk: Desk, root: Path, left: int) -> None:
    asyncio.run(run_argv(desk, "true"))  # the keeper is there, and nothing of this command is open any more
    run = FakeRun()

    async def run_with_few() -> None:
        with _descriptors_left(left):
            await run_argv(desk, "touch", "witness", run=run)

    with pytest.raises(OperationFailed) as caught:
        asyncio.run(run_with_few())

    error = caught.value
    assert (error.failure_code, error.failure_retryable, error.before_effect) == ("overloaded", True, True)
    assert run.effects_begun == 0
    assert not (root / "witness").exists()


def test_any_other_error_than_no_descriptors_stays_what_it_is() -> None:
    with pytest.raises(OSError, match="I/O"):
        no_descriptors(OSError(errno.EIO, "I/O"))


_ITS_INPUT = """
import os
found = os.fstat(0)
for change in (
    lambda: os.fchmod(0, found.st_mode & 0o7777),
    lambda: os.chmod("/proc/self/fd/0", found.st_mode & 0o7777),
    lambda: os.utime(0, ns=(found.st_atime_ns, found.st_mtime_ns)),
):
    try:
        change()
        print("changed")
    except OSError as error:
        print(type(error).__name__)
print(os.read(0, 1))
"""


async def test_a_command_without_input_cannot_change_the_machines_null_device(root: Path) -> None:
    """It changes nothing when it can: the mode and the times are those that are there."""
    result = await run_argv(open_desk(root), "python3", "-c", _ITS_INPUT)

    assert result.stdout.splitlines() == ["OSError", "OSError", "OSError", "b''"]
