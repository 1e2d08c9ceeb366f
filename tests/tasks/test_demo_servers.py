import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from store.configuration import Configuration
from store.tool_settings import Droplet, DropletHost
from tasks.droplet import TOOL
from tests.servers.sshd import free_port
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed


def test_the_demos_github_answers_on_this_machine_alone_and_ends_when_told() -> None:
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "local.demo_github", "--port", str(port)], stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()
        with urlopen(f"http://127.0.0.1:{port}/repos/acme/weather") as answer:
            remaining = answer.headers["X-RateLimit-Remaining"]
        listening = _listening(server.pid)

        server.send_signal(signal.SIGTERM)

        assert server.wait(5) == 0
    assert remaining == "4999"
    assert listening == {("127.0.0.1", port)}


def test_the_demos_host_has_private_keys_and_ends_with_its_commands(tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "local.demo_sshd", "--port", str(port), "--folder", str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        hosts = TOOL.open(Configuration(droplet=Droplet(hosts={"demo": _settings(tmp_path, port)})))
        script = "sleep 300 >/dev/null 2>&1 & echo $!; pwd"
        result = TOOL.operations["run"].function(hosts, FakeRun(), argv=["sh", "-c", script])
        pid, folder = result.stdout.split()
        listening = _listening(server.pid)
        psutil.Process(int(pid)).kill()

        server.send_signal(signal.SIGTERM)

        assert server.wait(5) == 0
    assert folder == str(tmp_path)
    assert listening == {("127.0.0.1", port)}
    assert all((tmp_path / name).stat().st_mode & 0o777 == 0o600 for name in ("host_key", "client_key", "known_hosts"))
    hosts.close()


def test_the_demos_host_shows_files_of_its_folder_only(tmp_path: Path) -> None:
    port = free_port()
    folder = tmp_path / "shown"
    argv = [sys.executable, "-m", "local.demo_sshd", "--port", str(port), "--folder", str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        (folder / "link").symlink_to("/etc/passwd")
        hosts = TOOL.open(Configuration(droplet=Droplet(hosts={"demo": _settings(folder, port)})))
        codes: list[str] = []
        for path in ("/etc/passwd", "../../etc/passwd", "link"):
            with pytest.raises(OperationFailed) as caught:
                TOOL.operations["read_file"].function(hosts, FakeRun(), path=path)
            codes.append(caught.value.failure_code)

        hosts.close()
        server.terminate()

    assert set(codes) <= {"not_found", "permission"}


def _settings(folder: Path, port: int) -> DropletHost:
    return DropletHost(
        address="127.0.0.1",
        port=port,
        user="demo",
        key_file=str(folder / "client_key"),
        known_hosts_file=str(folder / "known_hosts"),
    )


def _listening(pid: int) -> set[tuple[str, int]]:
    connections = psutil.Process(pid).net_connections("inet")
    return {(found.laddr.ip, found.laddr.port) for found in connections if found.status == psutil.CONN_LISTEN}
