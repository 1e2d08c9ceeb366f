import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.desktop.desk import Desk
from tests.servers.valkey import Valkey
from tests.tasks.command_calls import lives, needs_program, open_desk, run_argv
from toolswarm.errors import OperationFailed


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
    needs_program("python3")

    result = await run_argv(open_desk(root, **settings), "python3", "-c", _PING, str(broker_port), str(valkey.socket))

    assert result.stdout.split() == [by_tcp, by_socket]


async def test_a_port_that_the_operator_allows_can_be_connected_to(
    root: Path, valkey: Valkey, broker_port: int
) -> None:
    needs_program("python3")
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
    needs_program("python3")

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
    needs_program("python3")
    (root / "tool").write_text("x")

    result = await run_argv(desk, "python3", "-c", _OTHERS, str(os.getpid()))

    assert result.stdout.split() == ["PermissionError"] * 14, result.stderr


async def test_no_namespace_of_ones_own_can_be_had(desk: Desk) -> None:
    needs_program("unshare")

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
    needs_program("python3")
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
    needs_program("python3")
    desk = open_desk(root, command_processes=50)
    (root / "crowd.py").write_text(_CROWD)

    with pytest.raises(OperationFailed) as caught:
        await run_argv(desk, "python3", "crowd.py", timeout_s=30)

    assert (caught.value.failure_code, caught.value.before_effect) == ("too_many_processes", False)
    assert caught.value.details["signal"] == "SIGKILL"
    assert _with_argument("crowd.py") == []


async def test_a_fork_bomb_is_ended(root: Path) -> None:
    needs_program("python3")
    (root / "bomb.py").write_text("import os\nwhile True: os.fork()\n")

    with pytest.raises(OperationFailed) as caught:
        await run_argv(open_desk(root), "python3", "bomb.py", timeout_s=30)

    assert caught.value.failure_code == "too_many_processes"
    assert _with_argument("bomb.py") == []


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
