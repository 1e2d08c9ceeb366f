import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.desktop import TOOL, policy
from tasks.desktop.desk import Desk
from tasks.sandbox import landlock, seccomp
from tasks.sandbox.remove import remove_folder
from tests.servers.valkey import Valkey
from tests.servers.waiting import until
from tests.tasks.command_calls import lives, open_desk, run_argv
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import InvalidArguments, OperationFailed


def _required(program: str) -> str:
    """A program of the system; skips (or fails, if all is required) where there is none."""
    found = shutil.which(program, path="/usr/local/bin:/usr/bin:/bin")
    if found is None:
        if os.environ.get("TOOLSWARM_REQUIRE_ALL") == "1":
            pytest.fail(f"needs {program} of the system, and TOOLSWARM_REQUIRE_ALL is set")
        pytest.skip(f"needs {program} of the system")
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the root, as the state folder with its keys is one."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "key").write_text("secret-key")
    return folder


@pytest.fixture
def desk(root: Path) -> Desk:
    return open_desk(root)


# -- what works ------------------------------------------------------------------------------------------------


async def test_the_sandbox_in_force_is_in_the_result(desk: Desk) -> None:
    result = await run_argv(desk, "true")

    assert (result.sandbox.profile, result.sandbox.network) == ("landlock", "none")
    assert result.sandbox.landlock_abi == landlock.abi() >= 6
    assert (result.sandbox.reads, result.sandbox.writes) == (("system",), ("root", "TMPDIR"))
    assert (result.sandbox.processes, result.sandbox.memory_bytes) == (256, 4 * 1024**3)


async def test_shell_tools_read_and_write_in_the_root(desk: Desk, root: Path) -> None:
    script = "mkdir -p a/b && echo one >a/x && cp a/x a/b/y && mv a/x a/b/z && ln -s b a/l && ls a/l && rm -r a/b"

    result = await run_argv(desk, "sh", "-c", script)

    assert (result.exit_code, result.stdout, result.stderr) == (0, "y\nz\n", "")
    assert sorted(os.listdir(root / "a")) == ["l"]


async def test_git_works_in_a_workspace_within_somebody_elses_repository(tmp_path: Path) -> None:
    git = _required("git")
    subprocess.run([git, "init", "-q", tmp_path], check=True)
    root = tmp_path / "workspace"
    root.mkdir()
    who = "-c user.name=a -c user.email=a@example.com"
    script = (
        f"git status; git init -q p && cd p && echo 1 >f && git add f && git {who} commit -qm m && git log --oneline"
    )

    result = await run_argv(open_desk(root), "sh", "-c", script)

    assert "not a git repository" in result.stderr
    assert (result.exit_code, result.stdout.partition(" ")[2]) == (0, "m\n")


async def test_make_and_the_compiler_work(desk: Desk, root: Path) -> None:
    _required("make")
    _required("gcc")
    (root / "Makefile").write_text("run: hello\n\t./hello\nhello: hello.c\n\tgcc -o hello hello.c\n")
    (root / "hello.c").write_text('#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n')

    result = await run_argv(desk, "make", "-s", "run")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "hello\n", "")


async def test_python_works_with_threads_and_subprocesses(desk: Desk) -> None:
    _required("python3")
    script = (
        "import subprocess, tempfile, threading, pathlib, os, pwd\n"
        "threads = [threading.Thread(target=subprocess.run, args=(['true'],)) for _ in range(4)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "with tempfile.NamedTemporaryFile() as file: file.write(b'x')\n"
        "print(subprocess.check_output(['sh', '-c', 'echo out'], text=True), pwd.getpwuid(os.getuid()).pw_uid >= 0)\n"
    )

    result = await run_argv(desk, "python3", "-c", script)

    assert (result.exit_code, result.stdout, result.stderr) == (0, "out\n True\n", "")


async def test_the_temporary_folder_is_the_commands_own_and_is_removed(desk: Desk, root: Path) -> None:
    script = 'echo "$TMPDIR"; cd "$TMPDIR"; mkdir -p a/b/c; echo x >a/b/c/f; ln -s "$HOME" link; chmod 000 a/b/c a/b a'
    (root / "kept").write_text("x")

    first = (await run_argv(desk, "sh", "-c", script)).stdout.strip()
    second = (await run_argv(desk, "sh", "-c", f'echo "$TMPDIR"; ls {first}')).stdout.strip()

    assert first != second
    until(lambda: not os.path.exists(first) and not os.path.exists(second), "they are removed")
    assert (root / "kept").exists()


def test_a_folder_of_any_depth_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    script = "import os\nfor _ in range(1500): os.mkdir('abcdefgh'); os.chdir('abcdefgh')\nopen('file', 'w').close()"
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)

    remove_folder(str(folder))
    remove_folder(str(folder))

    assert not folder.exists()


# -- files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/etc/shadow", "/root", "/home", "/", "/tmp", "/var/log", "/proc/1/environ", "/proc/1/cmdline", "/sys", ".."],
)
async def test_the_rest_of_the_machine_cannot_be_read(desk: Desk, path: str) -> None:
    result = await run_argv(desk, "sh", "-c", 'if [ -d "$1" ]; then ls -a "$1"; else cat "$1"; fi', "sh", path)

    assert (result.exit_code != 0, result.stdout) == (True, "")
    assert "Permission denied" in result.stderr


async def test_neither_path_nor_link_nor_git_leads_out(desk: Desk, root: Path, outside: Path) -> None:
    (root / "link").symlink_to(outside)
    (root / "dangling").symlink_to(outside / "new")
    script = (
        f"cat {outside}/key; cat link/key; cat ../outside/key; cat /proc/self/root{outside}/key; cp {outside}/key .; "
        f"echo x >{outside}/made; echo x >>link/key; echo x >dangling; rm {outside}/key; mv {outside}/key .; "
        f"ln {outside}/key hard; truncate -s 0 {outside}/key; git init -q; git log --output={outside}/made"
    )

    result = await run_argv(desk, "sh", "-c", script)

    assert "secret" not in result.stdout + result.stderr
    assert os.listdir(outside) == ["key"]
    assert (outside / "key").read_text() == "secret-key"
    assert not (root / "hard").exists()


async def test_another_tenants_root_cannot_be_read(tmp_path: Path) -> None:
    roots = {"alice": tmp_path / "alice", "bob": tmp_path / "bob"}
    for folder in roots.values():
        folder.mkdir()
    (roots["bob"] / "note").write_text("bobs")

    result = await run_argv(open_desk(roots), "cat", str(roots["bob"] / "note"), run=FakeRun(tenant="alice"))

    assert (result.exit_code, result.stdout) == (1, "")


async def test_a_program_outside_cannot_be_executed_unless_the_operator_adds_its_folder(
    root: Path, outside: Path
) -> None:
    shutil.copy("/bin/true", outside / "own")
    argv = str(outside / "own")

    with pytest.raises(OperationFailed) as caught:
        await run_argv(open_desk(root), argv)
    allowed = await run_argv(open_desk(root, sandbox_read=(str(outside),)), argv)

    assert (caught.value.failure_code, caught.value.before_effect) == ("not_executable", True)
    assert "sandbox_read" in caught.value.message
    assert allowed.exit_code == 0
    assert allowed.sandbox.reads == ("system", str(outside))


async def test_the_path_has_only_folders_that_the_sandbox_allows(
    root: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy("/bin/true", outside / "own")
    monkeypatch.setenv("PATH", f"{outside}:/usr/bin:relative")

    found = await run_argv(open_desk(root, sandbox_read=(str(outside),)), "own")
    with pytest.raises(OperationFailed) as caught:
        await run_argv(open_desk(root), "own")
    path = (await run_argv(open_desk(root), "printenv", "PATH")).stdout

    assert found.exit_code == 0
    assert caught.value.failure_code == "not_found"
    assert str(outside) not in path
    assert "relative" not in path


async def test_what_the_operator_lets_be_written_can_be_written(root: Path, outside: Path) -> None:
    result = await run_argv(open_desk(root, sandbox_write=(str(outside),)), "touch", str(outside / "made"))

    assert result.exit_code == 0
    assert (outside / "made").exists()


# -- network ---------------------------------------------------------------------------------------------------

_PING = """
import socket, sys
for family, address in ((socket.AF_INET, ("127.0.0.1", int(sys.argv[1]))), (socket.AF_UNIX, sys.argv[2])):
    try:
        with socket.socket(family) as connection:
            connection.connect(address)
            connection.sendall(b"PING\\r\\n")
            print(connection.recv(100).decode().strip())
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.fixture
def broker_port(valkey: Valkey) -> Iterator[int]:
    """The broker also listens on TCP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with valkey.client() as connected:
        client: Any = connected
        client.config_set("port", port)
        yield port
        client.config_set("port", 0)


@pytest.mark.parametrize(
    ("settings", "by_tcp", "by_socket"),
    [
        ({"sandbox": "none"}, "+PONG", "+PONG"),
        ({}, "PermissionError", "PermissionError"),
        ({"sandbox": "landlock-files"}, "PermissionError", "PermissionError"),
        ({"sandbox_network": True}, "+PONG", "PermissionError"),
        ({"sandbox_network": True, "sandbox_ports": (443,)}, "PermissionError", "PermissionError"),
    ],
)
async def test_our_own_broker_is_out_of_reach(
    root: Path, valkey: Valkey, broker_port: int, settings: dict[str, Any], by_tcp: str, by_socket: str
) -> None:
    _required("python3")

    result = await run_argv(open_desk(root, **settings), "python3", "-c", _PING, str(broker_port), str(valkey.socket))

    assert result.stdout.split() == [by_tcp, by_socket]


async def test_a_port_that_the_operator_allows_can_be_connected_to(
    root: Path, valkey: Valkey, broker_port: int
) -> None:
    _required("python3")
    desk = open_desk(root, sandbox_network=True, sandbox_ports=(broker_port,))

    result = await run_argv(desk, "python3", "-c", _PING, str(broker_port), str(valkey.socket))

    assert result.stdout.split() == ["+PONG", "PermissionError"]
    assert result.sandbox.network == str(broker_port)


_SOCKETS = """
import socket
for make in (
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("169.254.169.254", 53)),
    lambda: socket.socket(socket.AF_INET6),
    lambda: socket.socket(socket.AF_UNIX).connect("\\0abstract"),
    lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
    lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM),
    lambda: socket.create_server(("127.0.0.1", 0)),
    lambda: socket.socketpair(),
):
    try:
        make()
        print("made")
    except OSError as error:
        print(type(error).__name__)
"""


async def test_no_other_kind_of_socket_leads_out(desk: Desk) -> None:
    _required("python3")

    result = await run_argv(desk, "python3", "-c", _SOCKETS)

    assert result.stdout.split() == ["PermissionError"] * 7 + ["made"]


# -- other processes, privileges and limits --------------------------------------------------------------------


_OTHERS = """
import ctypes, os, resource, signal, sys
worker = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def ptrace():
    if libc.ptrace(16, worker, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
for attempt in (
    lambda: os.kill(worker, 0),
    lambda: os.kill(os.getppid(), signal.SIGKILL),
    lambda: os.kill(1, 0),
    ptrace,
    lambda: open(f"/proc/{worker}/environ").read(),
    lambda: open(f"/proc/{worker}/mem").read(),
    lambda: os.listdir(f"/proc/{worker}/fd"),
    lambda: resource.prlimit(worker, resource.RLIMIT_NOFILE, (0, 0)),
    lambda: os.setpriority(os.PRIO_PROCESS, worker, 19),
    lambda: os.chmod("tool", 0o4755),
    lambda: os.open("tool2", os.O_CREAT | os.O_WRONLY, 0o4755),
    lambda: os.mknod("device", 0o20600, os.makedev(1, 3)),
    lambda: os.chown("tool", 12345, 12345),
    lambda: os.chroot("."),
):
    try:
        attempt()
        print("done")
    except OSError as error:
        print(type(error).__name__)
"""


async def test_other_processes_and_privileges_are_out_of_reach(desk: Desk, root: Path) -> None:
    _required("python3")
    (root / "tool").write_text("x")

    result = await run_argv(desk, "python3", "-c", _OTHERS, str(os.getpid()))

    assert result.stdout.split() == ["PermissionError"] * 14, result.stderr


async def test_no_namespace_of_ones_own_can_be_had(desk: Desk) -> None:
    _required("unshare")

    results = [await run_argv(desk, "unshare", kind, "true") for kind in ("-U", "-m", "-n", "-p", "-T")]

    assert all(result.exit_code for result in results)


async def test_it_has_no_capability_and_can_get_none(desk: Desk) -> None:
    result = await run_argv(desk, "cat", "/proc/self/status")

    fields = dict(line.split(":\t", 1) for line in result.stdout.splitlines() if ":\t" in line)
    assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert os.geteuid() != 0 or int(fields["CapBnd"], 16) == 0
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


async def test_it_has_no_descriptor_but_its_streams(desk: Desk) -> None:
    result = await run_argv(desk, "ls", "/proc/self/fd")

    assert result.stdout.split() == ["0", "1", "2", "3"]  # the last is the folder that it lists


async def test_the_operators_limits_hold(root: Path) -> None:
    _required("python3")
    desk = open_desk(root, command_memory_bytes=200_000_000, command_file_bytes=1_000_000, command_open_files=50)

    limits = await run_argv(desk, "sh", "-c", "ulimit -c; ulimit -n")
    memory = await run_argv(desk, "python3", "-c", "bytearray(300_000_000)")
    file = await run_argv(desk, "dd", "if=/dev/zero", "of=big", "bs=1M", "count=2")

    assert limits.stdout.split() == ["0", "50"]
    assert "MemoryError" in memory.stderr
    assert file.signal == "SIGXFSZ"
    assert (root / "big").stat().st_size == 1_000_000


_CROWD = """
import os, time
with open("pids", "a") as file:
    for _ in range(3000):
        if os.fork() == 0:
            os.setsid()
            time.sleep(300)
            os._exit(0)
time.sleep(300)
"""


async def test_too_many_processes_are_all_killed(root: Path) -> None:
    _required("python3")
    desk = open_desk(root, command_processes=50)
    (root / "crowd.py").write_text(_CROWD)

    with pytest.raises(OperationFailed) as caught:
        await run_argv(desk, "python3", "crowd.py", timeout_s=30)

    assert (caught.value.failure_code, caught.value.before_effect) == ("too_many_processes", False)
    assert caught.value.details["signal"] == "SIGKILL"
    assert _with_argument("crowd.py") == []


async def test_a_fork_bomb_is_ended(root: Path) -> None:
    _required("python3")
    (root / "bomb.py").write_text("import os\nwhile True: os.fork()\n")

    with pytest.raises(OperationFailed) as caught:
        await run_argv(open_desk(root), "python3", "bomb.py", timeout_s=30)

    assert caught.value.failure_code == "too_many_processes"
    assert _with_argument("bomb.py") == []


# -- no less than was configured ---------------------------------------------------------------------------------


async def test_a_sandbox_that_the_machine_cannot_give_is_an_error_before_anything_runs(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(policy.LEAST_ABI, "landlock", 99)
    run = FakeRun()

    with pytest.raises(OperationFailed) as caught:
        await run_argv(open_desk(root), "touch", "witness", run=run)

    error = caught.value
    assert (error.failure_code, error.before_effect, run.effects_begun) == ("sandbox_unavailable", True, 0)
    assert "needs 99" in error.message
    assert "desktop.sandbox" in error.message
    assert not (root / "witness").exists()


async def test_a_folder_of_the_settings_that_is_not_there_is_an_error_before_anything_runs(root: Path) -> None:
    with pytest.raises(OperationFailed) as caught:
        await run_argv(open_desk(root, sandbox_read=("/no/such/folder",)), "touch", "witness")

    assert caught.value.failure_code == "sandbox_unavailable"
    assert "/no/such/folder" in caught.value.message
    assert not (root / "witness").exists()


async def test_without_a_sandbox_the_result_says_so(root: Path, outside: Path) -> None:
    result = await run_argv(open_desk(root, sandbox="none"), "cat", str(outside / "key"))

    assert result.stdout == "secret-key"
    assert (result.sandbox.profile, result.sandbox.landlock_abi, result.sandbox.network) == ("none", 0, "all")
    assert result.sandbox.reads == result.sandbox.writes == ("all",)


@pytest.mark.parametrize("name", ["sandbox", "sandbox_network", "command_processes", "limits", "root"])
def test_a_call_cannot_change_its_limits(name: str) -> None:
    for operation in ("run_command", "process_start"):
        with pytest.raises(InvalidArguments):
            TOOL.operations[operation].convert({"argv": ["true"], name: "none"})


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "/usr/include/asm-generic/unistd.h")],
)
def test_the_numbers_of_system_calls_are_the_kernels(machine: str, header: str) -> None:
    if not Path(header).exists():
        if os.environ.get("TOOLSWARM_REQUIRE_ALL") == "1":
            pytest.fail(f"needs {header} (Debian: linux-libc-dev)")
        pytest.skip(f"needs {header} (Debian: linux-libc-dev)")
    pattern = re.compile(r"#define __NR(?:3264)?_(\w+)\s+(\d+)$", re.MULTILINE)
    numbers = {name: int(number) for name, number in pattern.findall(Path(header).read_text())}

    known = {name: number for name, number in seccomp.NUMBERS[machine].items() if name in numbers}

    assert {name: numbers[name] for name in known} == known
    assert seccomp.NUMBERS[machine].keys() - known.keys() <= {"fchmodat2"}  # younger than some headers


def _with_argument(argument: str) -> list[int]:
    found: list[int] = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            arguments = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if argument.encode() in arguments and lives(int(name)):
            found.append(int(name))
    return found
