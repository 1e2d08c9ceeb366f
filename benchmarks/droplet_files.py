"""`python -m benchmarks.droplet_files`: files over SFTP, ours beside plain paramiko and OpenSSH's own client.

A real sshd on loopback, started here. Two tables: MB/s for one large file, also over a link with a round-trip time;
milliseconds for a small file on a warm connection (and for paramiko as it is mostly used, with a new connection for
each). Our side runs the operations directly, without queue and ledger: paths are resolved, content is hashed, written
beside the target, synced to the disk, checked and renamed; the others write in place and do none of it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import paramiko
from rich.console import Console
from rich.table import Table

from store.tool_settings import DropletHost
from tasks.droplet.hosts import Hosts
from tasks.droplet.remote_files import remote_files
from tasks.droplet.sftp_wire import OpenFlag
from tasks.droplet.work import Work
from tests.servers.droplets import call, droplets
from tests.servers.relay import relay
from tests.servers.sshd import Remote, openssh
from tests.tasks.fake_run import FakeRun

RESULTS = Path(__file__).parent / "results"
_SMALL_BYTES = 1024
Figures = dict[str, float]


class Plain:
    """paramiko as its documentation uses it."""

    def __init__(self, settings: DropletHost) -> None:
        self._transport = paramiko.Transport((settings.address, settings.port))
        self._transport.connect(username=settings.user, pkey=paramiko.PKey.from_path(settings.key_file))
        client = paramiko.SFTPClient.from_transport(self._transport)
        assert client is not None
        self.sftp = client

    def close(self) -> None:
        self._transport.close()

    def write(self, path: str, content: bytes) -> None:
        with self.sftp.open(path, "wb") as file:
            file.write(content)

    def read(self, path: str) -> bytes:
        with self.sftp.open(path, "rb") as file:
            content: bytes = file.read()
            return content


def _mb_per_s(size_bytes: int, work: Callable[[], Any], rounds: int) -> float:
    best_s = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        best_s = min(best_s, time.perf_counter() - began)
    return size_bytes / best_s / 1e6


def _median_ms(work: Callable[[int], Any], rounds: int) -> float:
    taken = list[float]()
    for number in range(rounds):
        began = time.perf_counter()
        work(number)
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def large(settings: DropletHost, folder: Path, size_bytes: int, *, rounds: int, slow: bool) -> dict[str, Figures]:
    """MB/s of one large file, the best of some rounds."""
    content = os.urandom(size_bytes)
    (folder / "local").write_bytes(content)
    (folder / "remote").write_bytes(content)
    local, remote, new = str(folder / "local"), str(folder / "remote"), str(folder / "new")
    found = dict[str, Figures]()
    with droplets({"box": settings}, local=folder) as hosts:
        call(hosts, "stat", path="/")

        def upload() -> None:
            Path(new).unlink(missing_ok=True)
            call(hosts, "upload", local_path="local", path=new)

        def download() -> None:
            Path(new).unlink(missing_ok=True)
            call(hosts, "download", path=remote, local_path="new")

        found["ours"] = {
            "write": _mb_per_s(size_bytes, upload, rounds),
            "read": _mb_per_s(size_bytes, download, rounds),
        }
        assert Path(new).read_bytes() == content
        Path(new).unlink()
        found["ours, SFTP alone"] = {
            "write": _mb_per_s(size_bytes, lambda: _transfer(hosts, new, content), rounds),
            "read": _mb_per_s(size_bytes, lambda: _transfer(hosts, remote, None), rounds),
        }
    plain = Plain(settings)
    found["paramiko put/get"] = {
        "write": _mb_per_s(size_bytes, lambda: plain.sftp.put(local, new), rounds),
        "read": _mb_per_s(size_bytes, lambda: plain.sftp.get(remote, new), rounds),
    }
    if not slow:  # each piece of 32 KiB waits for the one before
        found["paramiko open().write/read"] = {
            "write": _mb_per_s(size_bytes, lambda: plain.write(new, content), 1),
            "read": _mb_per_s(size_bytes, lambda: plain.read(remote), 1),
        }
    plain.close()
    found["OpenSSH sftp (new connection)"] = {
        "write": _mb_per_s(size_bytes, lambda: _openssh(settings, f"put {local} {new}"), rounds),
        "read": _mb_per_s(size_bytes, lambda: _openssh(settings, f"get {remote} {new}"), rounds),
    }
    return found


def small(settings: DropletHost, folder: Path, *, rounds: int) -> dict[str, Figures]:
    """Milliseconds for a file of 1 KiB, the median."""
    content = "x" * _SMALL_BYTES
    path = str(folder / "small")
    with droplets({"box": settings}, local=folder) as hosts:
        call(hosts, "stat", path="/")
        ours = {
            "write": _median_ms(lambda number: _write(hosts, path, f"{number:08}{content}"), rounds),
            "read": _median_ms(lambda _: call(hosts, "read_file", path=path), rounds),
            "stat": _median_ms(lambda _: call(hosts, "stat", path=path), rounds),
        }
    plain = Plain(settings)
    warm = {
        "write": _median_ms(lambda _: plain.write(path, content.encode()), rounds),
        "read": _median_ms(lambda _: plain.read(path), rounds),
        "stat": _median_ms(lambda _: plain.sftp.stat(path), rounds),
    }
    plain.close()
    fresh = {
        "write": _median_ms(lambda _: _afresh(settings, lambda new: new.write(path, content.encode())), rounds // 10),
        "read": _median_ms(lambda _: _afresh(settings, lambda new: new.read(path)), rounds // 10),
        "stat": _median_ms(lambda _: _afresh(settings, lambda new: new.sftp.stat(path)), rounds // 10),
    }
    return {"ours, warm": ours, "paramiko, warm": warm, "paramiko, new connection": fresh}


def _write(hosts: Hosts, path: str, content: str) -> None:
    call(hosts, "write_file", path=path, content=content)


def _transfer(hosts: Hosts, path: str, content: bytes | None) -> None:
    """To a file or from one, without hash, check, sync and rename."""
    with remote_files(hosts, Work(FakeRun()), None) as files:
        if content is None:
            handle = files.sftp.open(path.encode(), OpenFlag.READ)
            size_bytes = files.sftp.stat_open(handle).size_bytes or 0
            assert sum(map(len, files.sftp.read(handle, size_hint=size_bytes))) == size_bytes
        else:
            handle = files.sftp.open(path.encode(), OpenFlag.WRITE, OpenFlag.CREATE)
            assert files.sftp.write(handle, (content,)) == len(content)


def _afresh(settings: DropletHost, work: Callable[[Plain], Any]) -> None:
    plain = Plain(settings)
    work(plain)
    plain.close()


def _openssh(settings: DropletHost, command: str) -> None:
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"]
    argv = ["sftp", "-q", "-b", "-", "-P", str(settings.port), "-i", settings.key_file]
    for option in options:
        argv += ["-o", option]
    argv.append(f"{settings.user}@{settings.address}")
    subprocess.run(argv, input=command.encode(), check=True, stdout=subprocess.DEVNULL, timeout=300)


def measure(remote: Remote, folder: Path, size_bytes: int, *, rounds: int, delay_s: float) -> dict[str, Any]:
    """All figures."""
    report: dict[str, Any] = {
        "size_bytes": size_bytes,
        "paramiko": version("paramiko"),
        "loopback_mb_per_s": large(remote.settings, folder, size_bytes, rounds=rounds, slow=False),
        "small_ms": small(remote.settings, folder, rounds=200),
    }
    with relay(remote.port) as between:
        between.delay_s = delay_s
        report["rtt_s"] = 2 * delay_s
        report["slow_link_mb_per_s"] = large(remote.through(between.port), folder, size_bytes, rounds=1, slow=True)
    return report


def show(console: Console, title: str, figures: dict[str, Figures], digits: int) -> None:
    """One table."""
    table = Table(title=title)
    table.add_column("")
    for heading in next(iter(figures.values())):
        table.add_column(heading, justify="right")
    for name, row in figures.items():
        table.add_row(name, *(f"{value:.{digits}f}" for value in row.values()))
    console.print(table)


def main(argv: Sequence[str]) -> int:
    """Measure, show and keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.droplet_files", description="SFTP: MB/s and ms.")
    parser.add_argument("--mib", type=int, default=32, help="size of the large file in MiB (default 32)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, the best of which counts (default 5)")
    parser.add_argument("--delay-s", type=float, default=0.01, help="delay each way of the slow link (default 0.01)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, openssh(Path(folder) / "sshd") as remote:
        size_bytes = arguments.mib << 20
        work = Path(folder).resolve() / "work"
        work.mkdir()
        report = measure(remote, work, size_bytes, rounds=arguments.rounds, delay_s=arguments.delay_s)
    console = Console()
    show(console, f"{arguments.mib} MiB on loopback, MB/s", report["loopback_mb_per_s"], 0)
    rtt_ms = report["rtt_s"] * 1000
    show(console, f"{arguments.mib} MiB with a round-trip time of {rtt_ms:g} ms, MB/s", report["slow_link_mb_per_s"], 1)
    show(console, "1 KiB, median ms", report["small_ms"], 2)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"droplet-files-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
