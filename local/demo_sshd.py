"""A remote host for the demo, on this machine: `python -m local.demo_sshd --port N --folder DIR`.

It does what an sshd does for the tool `droplet`, for one user who has one key: commands run as real processes in the
folder, each given to `/bin/sh -c` in a session of its own, and files of the folder can be read over SFTP. It listens
on 127.0.0.1 alone. Into the folder it writes `host_key`, `client_key` and `known_hosts`, for nobody else to read.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED, OPEN_SUCCEEDED

from local.demo_sftp import DemoFiles
from tasks.confined import Confined

USER = "demo"
_BACKLOG = 50
_CHUNK_BYTES = 32_768
_HANDSHAKE_TIMEOUT_S = 30.0
_GONE = (paramiko.SSHException, EOFError, OSError)
"""What paramiko says when the client is not there any more."""


@dataclass(frozen=True, kw_only=True)
class DemoKeys:
    """The keys in the folder."""

    host: paramiko.PKey
    client: paramiko.PKey
    client_file: Path

    @property
    def host_line(self) -> str:
        """The host's key as `droplet.hosts.NAME.host_key` wants it."""
        return f"{self.host.get_name()} {self.host.get_base64()}"


def make_keys(folder: Path, port: int) -> DemoKeys:
    """The keys of the folder, made when they are not there, and `known_hosts` for this port."""
    folder.mkdir(parents=True, exist_ok=True)
    host, client = (_key(folder / name) for name in ("host_key", "client_key"))
    keys = DemoKeys(host=host, client=client, client_file=folder / "client_key")
    _write_private(folder / "known_hosts", f"[127.0.0.1]:{port} {keys.host_line}\n".encode())
    return keys


class DemoSshd:
    """The server; `serve` runs until `stop`."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder.absolute()
        self._socket = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
        self.port: int = self._socket.getsockname()[1]
        self.keys = make_keys(self._folder, self.port)
        self.confined = Confined(self._folder)
        self._lock = threading.Lock()
        self._transports: set[paramiko.Transport] = set()
        self._commands: set[int] = set()
        self._stopping = threading.Event()

    def serve(self) -> None:
        """Take connections until `stop`."""
        while not self._stopping.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                if self._stopping.is_set():
                    return
                raise
            threading.Thread(target=self._welcome, args=(connection,), daemon=True).start()

    def stop(self) -> None:
        """Hang up, and end the commands that still run; bears being called twice."""
        self._stopping.set()
        with self._lock:
            transports, commands = set(self._transports), set(self._commands)
        if self._socket.fileno() >= 0:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept
            self._socket.close()
        for transport in transports:
            transport.close()
        for group in commands:
            _kill_group(group)

    def run(self, channel: paramiko.Channel, command: bytes) -> None:
        """Run one command as sshd does: its end is the channel's, the channel's end is not the command's."""
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=self._folder,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(self._folder),
                "USER": USER,
                "LANG": "C.UTF-8",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with self._lock:
            self._commands.add(process.pid)
        feeder = threading.Thread(target=_feed, args=(channel, process.stdin), daemon=True)
        outputs = [
            threading.Thread(target=_carry, args=(process.stdout, channel.sendall), daemon=True),
            threading.Thread(target=_carry, args=(process.stderr, channel.sendall_stderr), daemon=True),
        ]
        for thread in (feeder, *outputs):
            thread.start()
        code = process.wait()
        with self._lock:
            self._commands.discard(process.pid)
        # A command that a signal has ended has no status: the channel just closes.
        with suppress(*_GONE):
            if code >= 0:
                channel.send_exit_status(code)
        for thread in outputs:
            thread.join()
        with suppress(*_GONE):
            channel.close()

    def _welcome(self, connection: socket.socket) -> None:
        connection.settimeout(_HANDSHAKE_TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = paramiko.Transport(connection)
        transport.add_server_key(self.keys.host)
        transport.set_subsystem_handler("sftp", paramiko.SFTPServer, DemoFiles, self.confined)
        with self._lock:
            self._transports.add(transport)
        try:
            transport.start_server(server=_Guest(self))
        except (paramiko.SSHException, EOFError, OSError) as error:
            print(f"a connection was not accepted: {error}", file=sys.stderr)
            transport.close()
        else:
            transport.join()
        with self._lock:
            self._transports.discard(transport)


class _Guest(paramiko.ServerInterface):
    """What one connection may do."""

    def __init__(self, server: DemoSshd) -> None:
        self._server = server

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = username == USER and key.asbytes() == self._server.keys.client.asbytes()
        return AUTH_SUCCESSFUL if known else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED if kind == "session" else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        if b"\0" in command:
            return False
        threading.Thread(target=self._server.run, args=(channel, command), daemon=True).start()
        return True


def _feed(channel: paramiko.Channel, stdin: IO[bytes]) -> None:
    """The client's data into the command, until either end."""
    with stdin, suppress(BrokenPipeError):  # the command may not read it all
        while chunk := channel.recv(_CHUNK_BYTES):
            left = memoryview(chunk)
            while left:
                left = left[os.write(stdin.fileno(), left) :]


def _carry(source: IO[bytes], send: Callable[[bytes], object]) -> None:
    with source, suppress(*_GONE):  # a client that has gone: the command gets SIGPIPE, as from an sshd
        while chunk := os.read(source.fileno(), _CHUNK_BYTES):
            send(chunk)


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError):  # ended by itself just now
        os.killpg(group, signal.SIGKILL)


def _key(file: Path) -> paramiko.PKey:
    if not file.exists():
        raw = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        _write_private(file, raw)
    return paramiko.PKey.from_path(file)


def _write_private(file: Path, raw: bytes) -> None:
    file.unlink(missing_ok=True)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(raw)


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m local.demo_sshd", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    parser.add_argument("--folder", type=Path, required=True, help="where commands run, and the keys lie")
    arguments = parser.parse_args()
    server = DemoSshd(arguments.folder, arguments.port)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"SSH for user {USER} on 127.0.0.1:{server.port}", flush=True)
    server.serve()


if __name__ == "__main__":
    main()
