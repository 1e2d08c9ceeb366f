"""The processes of one measurement: a worker and a client, started for it and gone after it."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.client import Answer, Order
from benchmarks.contenders.contract import NAME_VARIABLE, ROOT, URL_VARIABLE, Contender
from benchmarks.measure import BenchmarkFailed

STOP_S = 10.0
LOG_TAIL_BYTES = 4000


@dataclass(frozen=True)
class Pair:
    """A running worker and a client that knows it."""

    worker: subprocess.Popen[bytes]
    client: subprocess.Popen[bytes]
    logs: tuple[Path, ...]

    def order(self, do: str, calls: int) -> Answer:
        """Have the client do something and wait for its answer.

        Raises:
            BenchmarkFailed: the client ended instead of answering.
        """
        orders, answers = self.client.stdin, self.client.stdout
        if orders is None or answers is None:
            raise BenchmarkFailed("the client has no pipes")
        with contextlib.suppress(BrokenPipeError):  # it has ended: the empty answer below tells the story
            orders.write(msgspec.json.encode(Order(do=do, calls=calls)) + b"\n")
            orders.flush()
        line = answers.readline()
        if not line:
            raise BenchmarkFailed(f"the client did not answer {do!r}\n{self._log_tails()}")
        return msgspec.json.decode(line, type=Answer)

    def _log_tails(self) -> str:
        tails = [f"--- {log.name}\n{log.read_text(errors='replace')[-LOG_TAIL_BYTES:]}" for log in self.logs]
        return "\n".join(tails)


@contextmanager
def running(contender: Contender, url: str) -> Generator[Pair]:
    """Start a contender's worker and client; both are gone afterwards, with all their children."""
    with tempfile.TemporaryDirectory(prefix="toolswarm-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "client" / "src"))),
            URL_VARIABLE: url,
            NAME_VARIABLE: contender.name,
            **contender.environment(url, folder),
        }
        worker_log, client_log = folder / "worker.log", folder / "client.log"
        worker = _start(contender.worker_argv, environment, worker_log)
        stack.callback(_stop, worker)
        client_argv = [sys.executable, "-m", "benchmarks.client", contender.name]
        client = _start(client_argv, environment, client_log, piped=True)
        stack.callback(_stop, client)
        yield Pair(worker, client, (worker_log, client_log))


def _start(
    argv: Sequence[str], environment: Mapping[str, str], log: Path, *, piped: bool = False
) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else output,
            stderr=output,
            env=environment,
            cwd=ROOT,
            start_new_session=True,  # its children are its process group
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    else:
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=STOP_S)
    with contextlib.suppress(ProcessLookupError):  # the whole group has ended by itself, as it should
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
