"""Remote hosts for tests: real OpenSSH servers on loopback, and the demo's own one, behind the same few facts.

`openssh` starts one, `openssh_hosts` several (each may be the jump host of another), with any options of sshd
(`"-o", "MaxSessions=2"`). Each has host keys of its own, so `Relay.target_port` can lead a client to the wrong one.
`kill_connections` kills what serves the connections that are open, not the server. It all works for root and for an
ordinary user; then that user alone can log in.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
import pytest

from local.demo_sshd import USER, DemoSshd, make_keys
from store.tool_settings import DropletHost
from tests.servers.ssh_keys import ClientKey, host_line, rsa_key

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A host to log in to; `folder` is readable there under `path`."""

    kind: str
    settings: DropletHost
    folder: Path
    path: Callable[[str], str]
    """A file of `folder` as the host calls it."""
    pid: int | None = None
    """Of the listening server, when it is a process of its own."""
    rsa_host_line: str = ""
    """The host's second key, when it has one."""

    @property
    def port(self) -> int:
        return self.settings.port

    def authorize(self, key: ClientKey) -> None:
        """Let another key in."""
        with (self.folder / "authorized_keys").open("a") as file:
            file.write(key.line + "\n")

    def through(self, port: int) -> DropletHost:
        """The same host behind another port: a relay's."""
        return msgspec.structs.replace(self.settings, port=port)


@contextmanager
def openssh(folder: Path, *options: str) -> Generator[Remote, None, None]:
    """A real sshd for the user who runs the tests; skips (or fails, if all is required) where there is none."""
    if SSHD is None:
        if os.environ.get("TOOLSWARM_REQUIRE_ALL") == "1":
            pytest.fail("needs a real sshd (Debian: openssh-server), and TOOLSWARM_REQUIRE_ALL is set")
        pytest.skip("needs a real sshd (Debian: openssh-server)")
    port = free_port()
    keys = make_keys(folder, port)
    second = rsa_key(folder / "host")
    (folder / "authorized_keys").write_text(f"{keys.client.get_name()} {keys.client.get_base64()}\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    config = folder / "sshd_config"
    config.write_text(
        f'Port {port}\nListenAddress 127.0.0.1\nHostKey "{folder}/host_key"\nHostKey "{second.file}"\n'
        "PidFile none\n"
        f'AuthorizedKeysFile "{folder}/authorized_keys"\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n'
        "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
        "SetEnv SHLVL=1\n"  # else bash reads the user's own ~/.bashrc for each command
    )
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-f", config, "-D", "-e", *options], stderr=log, start_new_session=True)
    try:
        wait_until(lambda: _listens(port) or process.poll() is not None, "sshd does not listen")
        assert process.poll() is None, (folder / "sshd.log").read_text()
        settings = DropletHost(
            address="127.0.0.1",
            port=port,
            user=getpass.getuser(),
            key_file=str(keys.client_file),
            host_key=keys.host_line,
        )
        yield Remote(
            kind="openssh",
            settings=settings,
            folder=folder,
            path=lambda name: str(folder / name),
            pid=process.pid,
            rsa_host_line=host_line(second.file),
        )
    finally:
        serving = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        for child in serving:
            _kill(child)


@contextmanager
def openssh_hosts(folder: Path, *names: str, options: tuple[str, ...] = ()) -> Generator[dict[str, Remote], None, None]:
    """Several real hosts by name, each with keys of its own."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(openssh(folder / name, *options)) for name in names}


def kill_connections(remote: Remote) -> int:
    """kill -9 of what serves the open connections, and returns how many processes; server and commands go on."""
    assert remote.pid is not None, "this server has no processes of its own"
    children = [child for child in psutil.Process(remote.pid).children(recursive=True) if _is_sshd(child)]
    for child in children:
        _kill(child)
    psutil.wait_procs(children, timeout=5)
    return len(children)


def _is_sshd(process: psutil.Process) -> bool:
    try:
        return process.name().startswith("sshd")  # also `sshd-session`, and `internal-sftp`, which is a fork
    except psutil.NoSuchProcess:
        return False


def _kill(process: psutil.Process) -> None:
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return  # ended by itself just now


@contextmanager
def demo(folder: Path) -> Generator[Remote, None, None]:
    """The demo's server, in this process."""
    server = DemoSshd(folder, 0)
    thread = threading.Thread(target=server.serve)
    thread.start()
    settings = DropletHost(
        address="127.0.0.1",
        port=server.port,
        user=USER,
        key_file=str(server.keys.client_file),
        known_hosts_file=str(folder / "known_hosts"),
    )
    try:
        yield Remote(kind="demo", settings=settings, folder=folder, path=lambda name: name)
    finally:
        server.stop()
        thread.join()


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], otherwise: str, timeout_s: float = 10.0) -> None:
    """Look until the condition holds."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, otherwise
        time.sleep(0.01)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
