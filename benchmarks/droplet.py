"""`python -m benchmarks.droplet`: `true` on remote hosts, ours beside plain paramiko and OpenSSH's ControlMaster.

Real sshd servers on loopback with their default limits, started here. Our side runs the operation `run` directly,
without queue and ledger: each command is recorded on the host, so that it runs once however often it is delivered; the
others keep no record. `paramiko` makes a connection for each command, as its documentation does it; `paramiko, kept`
keeps one with TCP_NODELAY (for one caller: its server takes ten channels at a time); `ssh -S` starts the program for
each command and goes over a master connection. A command that fails, or is refused a channel, is counted apart.
"""

import argparse
import base64
import json
import os
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import paramiko
from rich.console import Console
from rich.table import Table

from benchmarks.measure import percentile
from store.tool_settings import DropletHost
from tasks.droplet.hosts import Hosts
from tests.servers.droplets import call, droplets
from tests.servers.sshd import Remote, openssh, openssh_hosts

RESULTS = Path(__file__).parent / "results"
_CALLERS = (1, 8, 64)
_HOSTS = 10
_COMMANDS = 1000
_WARM_UP = 20
Command = Callable[[], None]
Figures = dict[str, float]


class Ours:
    """The operation `run`."""

    def __init__(self, settings: dict[str, DropletHost], kept: Path) -> None:
        self._open = droplets(settings, runs_folder=str(kept), connect_timeout_s=20.0)
        self.hosts: Hosts = self._open.__enter__()

    def run(self, host: str = "box") -> None:
        result = call(self.hosts, "run", host=host, argv=["true"])
        assert result.exit_code == 0
        assert result.run_once

    def close(self) -> None:
        self._open.__exit__(None, None, None)


class Kept:
    """paramiko on one connection that is kept."""

    def __init__(self, settings: DropletHost) -> None:
        sock = socket.create_connection((settings.address, settings.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = paramiko.Transport(sock)
        self._transport.connect(username=settings.user, pkey=paramiko.PKey.from_path(settings.key_file))

    def run(self) -> None:
        channel = self._transport.open_session()
        channel.exec_command("true")
        assert channel.recv_exit_status() == 0
        channel.close()

    def close(self) -> None:
        self._transport.close()


def naive(settings: DropletHost) -> Command:
    """paramiko with a new connection for each command."""
    kind, key = settings.host_key.split()

    def run() -> None:
        client = paramiko.SSHClient()
        try:
            name = f"[{settings.address}]:{settings.port}"
            client.get_host_keys().add(name, kind, paramiko.PKey.from_type_string(kind, base64.b64decode(key)))
            client.connect(
                settings.address,
                settings.port,
                settings.user,
                key_filename=settings.key_file,
                look_for_keys=False,
                allow_agent=False,
            )
            _, stdout, _ = client.exec_command("true")
            assert stdout.channel.recv_exit_status() == 0
        finally:
            client.close()

    return run


class Master:
    """OpenSSH's client over a master connection."""

    def __init__(self, remote: Remote, folder: Path) -> None:
        settings = remote.settings
        known = folder / "known"
        known.write_text(f"[{settings.address}]:{settings.port} {settings.host_key}\n")
        where = ["-p", str(settings.port), f"{settings.user}@{settings.address}"]
        options = [
            "-F",
            "none",
            "-S",
            str(folder / "master"),
            "-o",
            f"UserKnownHostsFile={known}",
            "-o",
            "BatchMode=yes",
        ]
        self._command = ["ssh", *options, "-i", settings.key_file, *where]
        self._master = subprocess.Popen([*self._command[:1], "-M", "-N", *self._command[1:]], stderr=subprocess.DEVNULL)
        while not (folder / "master").exists():
            assert self._master.poll() is None
            time.sleep(0.01)

    def run(self) -> None:
        subprocess.run([*self._command, "true"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        self._master.terminate()
        self._master.wait()


def one_by_one(run: Command, commands: int) -> Figures:
    """Milliseconds of one command after the other."""
    for _ in range(_WARM_UP):
        run()
    took_s: list[float] = []
    for _ in range(commands):
        began = time.perf_counter()
        run()
        took_s.append(time.perf_counter() - began)
    return {
        "min_ms": min(took_s) * 1000,
        "p50_ms": statistics.median(took_s) * 1000,
        "p99_ms": percentile(took_s, 99) * 1000,
    }


def at_once(run: Command, callers: int, seconds: float) -> Figures:
    """Commands a second with so many callers, and how many failed."""
    done, failed = [0] * callers, [0] * callers
    start, stop = threading.Barrier(callers + 1), threading.Event()

    def caller(number: int) -> None:
        start.wait()
        while not stop.is_set():
            try:
                run()
                done[number] += 1
            except (paramiko.SSHException, subprocess.CalledProcessError, EOFError, OSError):
                failed[number] += 1

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return {"per_s": sum(done) / (time.perf_counter() - began), "failed": float(sum(failed))}


def over_hosts(runs: list[Command], callers: int) -> Figures:
    """Seconds for a number of commands that are spread over the hosts."""
    left = iter([runs[number % len(runs)] for number in range(_COMMANDS)])
    lock, failed = threading.Lock(), [0]

    def caller() -> None:
        while True:
            with lock:
                run = next(left, None)
            if run is None:
                return
            try:
                run()
            except (paramiko.SSHException, EOFError, OSError):
                with lock:
                    failed[0] += 1

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"seconds": time.perf_counter() - began, "failed": float(failed[0])}


def measure(folder: Path, kept_in: Path, *, commands: int, seconds: float) -> dict[str, Any]:
    """All figures of one host, and of many."""
    with openssh(folder / "one") as remote, ExitStack() as stack:
        ours = Ours({"box": remote.settings}, kept_in / "one")
        stack.callback(ours.close)
        kept = Kept(remote.settings)
        stack.callback(kept.close)
        master = Master(remote, folder)
        stack.callback(master.close)
        plain = naive(remote.settings)
        contenders: dict[str, tuple[Command, int]] = {
            "toolswarm run": (ours.run, max(_CALLERS)),
            "paramiko, kept": (kept.run, 1),
            "ssh -S": (master.run, max(_CALLERS)),
            "paramiko": (plain, max(_CALLERS)),
        }
        one: dict[str, Any] = {}
        for name, (run, most) in contenders.items():
            one[name] = {"alone": one_by_one(run, commands if run is not plain else max(10, commands // 10))}
            one[name] |= {str(callers): at_once(run, callers, seconds) for callers in _CALLERS if callers <= most}
    names = [f"host-{number}" for number in range(_HOSTS)]
    with openssh_hosts(folder / "many", *names) as remotes:
        ours = Ours({name: remotes[name].settings for name in names}, kept_in / "many")
        many: dict[str, Any] = {
            "toolswarm run": over_hosts([_on(ours, name) for name in names], 64),
            "paramiko": over_hosts([naive(remotes[name].settings) for name in names], 64),
        }
        ours.close()
    return {"one_host": one, "many_hosts": many}


def _on(ours: Ours, name: str) -> Command:
    return lambda: ours.run(name)


def show(console: Console, figures: dict[str, Any]) -> None:
    table = Table(title="`true` on one warm host")
    for column in ("", "min ms", "p50 ms", "p99 ms", *(f"{callers} callers /s (failed)" for callers in _CALLERS)):
        table.add_column(column, justify="right" if column else "left")
    for name, found in figures["one_host"].items():
        rates = [found.get(str(callers)) for callers in _CALLERS]
        alone = found["alone"]
        table.add_row(
            name,
            *(f"{alone[key]:.2f}" for key in ("min_ms", "p50_ms", "p99_ms")),
            *("-" if rate is None else f"{rate['per_s']:.0f} ({rate['failed']:.0f})" for rate in rates),
        )
    console.print(table)
    for name, found in figures["many_hosts"].items():
        rate = _COMMANDS / found["seconds"]
        console.print(
            f"{_COMMANDS} commands over {_HOSTS} hosts, 64 callers, cold: {name} {found['seconds']:.1f} s "
            f"({rate:.0f}/s, {found['failed']:.0f} failed)"
        )


def main() -> None:
    """Measure, show, and keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.droplet", description=__doc__)
    parser.add_argument("--commands", type=int, default=300, help="one after the other")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each number of callers")
    parser.add_argument("--kept-in", help="folder of the hosts' records (default: a fresh one in TMPDIR)")
    arguments = parser.parse_args()
    load_before = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="toolswarm-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="toolswarm-kept-", dir=arguments.kept_in) as kept,
    ):
        figures = measure(Path(folder), Path(kept), commands=arguments.commands, seconds=arguments.seconds)
    show(Console(width=140), figures)
    report = {
        "paramiko": version("paramiko"),
        "processors": os.cpu_count(),
        "load_before": load_before,
        "kept_in": arguments.kept_in,
        "commands": arguments.commands,
        "seconds": arguments.seconds,
        **figures,
    }
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"droplet-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    file.write_text(json.dumps(report, indent=1) + "\n")
    print(f"kept in {file}")


if __name__ == "__main__":
    main()
