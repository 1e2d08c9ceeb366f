"""Real worker, beat and front processes on the tests' Valkey."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from routing.front import Front
from store.configuration import Configuration, load
from tests.servers.rabbitmq import RabbitMq
from tests.servers.valkey import Valkey
from tests.servers.waiting import until

ROOT = Path(__file__).parents[2]
API_KEY = "tsk_test"


class Stack:
    """Starts processes of ours, and leaves none behind."""

    def __init__(self, valkey: Valkey) -> None:
        self.valkey = valkey
        self.folder = Path(tempfile.mkdtemp(prefix="ts-stack-"))
        self.marks = self.folder / "marks"
        self._processes: list[subprocess.Popen[bytes]] = []
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self.folder / "private.pem").write_bytes(private)
        (self.folder / "public.pem").write_bytes(public)
        self.settings = {
            "TOOLSWARM_STORE__BROKER_URL": valkey.url,
            "TOOLSWARM_STORE__CACHE_URL": valkey.url.replace("db=0", "db=1"),
            "TOOLSWARM_SIGNING__PRIVATE_KEY_FILE": str(self.folder / "private.pem"),
            "TOOLSWARM_SIGNING__PUBLIC_KEY_FILE": str(self.folder / "public.pem"),
            "TOOLSWARM_TOOLS__MODULES": '["tests.servers.trial_tool", "tests.servers.spare_tool"]',
            "TOOLSWARM_STORE__SPOOL": str(self.folder / "spool"),
            "TOOLSWARM_DESKTOP__WORKSPACES": str(self.folder / "workspaces"),
            "MCP_API_KEY": API_KEY,
        }

    def carry_tasks_by(self, rabbitmq: RabbitMq) -> None:
        """Let RabbitMQ carry the tasks of processes that are started from now on."""
        url = self.folder / "rabbitmq_url"
        url.write_text(rabbitmq.url)
        self.settings["TOOLSWARM_BROKER__URL_FILE"] = str(url)

    def configuration(self) -> Configuration:
        return load(self.settings)

    async def front(self) -> Front:
        return await Front.open(self.configuration())

    def start_worker(self, tool: str, name: str, **settings: str) -> subprocess.Popen[bytes]:
        """Start a worker, and return when it has beaten once."""
        process = self.start("workers", tool, settings={**settings, "TOOLSWARM_WORKER_NAME": name})
        with self.valkey.client() as client:
            until(
                lambda: client.exists(f"ts:worker:{name}") or process.poll() is not None,
                f"the worker {name} beats",
            )
        assert process.poll() is None, self.log(name)
        return process

    def start_beat(self) -> subprocess.Popen[bytes]:
        return self.start("beat")

    def start(self, module: str, *arguments: str, settings: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TOOLSWARM_")}
        environ |= self.settings | dict(settings or {})
        environ |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "TRIAL_MARKS": str(self.marks)}
        log = (self.folder / f"{(settings or {}).get('TOOLSWARM_WORKER_NAME', module)}.log").open("ab")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env=environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def marked(self) -> list[str]:
        """What the operations of the trial tool have noted, oldest first."""
        return self.marks.read_text().splitlines() if self.marks.exists() else []

    def has_marked(self, count: int) -> bool:
        """Whether the trial tool has noted that much."""
        return len(self.marked()) >= count

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """kill -9 of the process and all its children."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                self.kill(process)
        shutil.rmtree(self.folder, ignore_errors=True)  # a worker's watcher may still be at its last file
