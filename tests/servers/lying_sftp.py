"""An SSH server whose SFTP does not keep to the protocol: it says what a test makes it say."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import paramiko
from paramiko.common import AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from local.demo_sshd import make_keys
from store.tool_settings import DropletHost
from tasks.droplet.sftp_wire import Answer, Ask, Attributes, Status

Lie = Callable[[int, bytes], bytes]
"""(id of the request, its fields) -> what is sent, framed or not (see `framed`)."""


def framed(kind: int, request: int, fields: bytes) -> bytes:
    """One packet."""
    body = bytes([kind]) + struct.pack(">I", request) + fields
    return struct.pack(">I", len(body)) + body


def text(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


def status(request: int, code: Status, said: bytes = b"") -> bytes:
    return framed(Answer.STATUS, request, struct.pack(">I", code) + text(said) + text(b""))


def names(request: int, *found: bytes, attributes: Attributes | None = None) -> bytes:
    packed = (attributes or Attributes()).packed()
    fields = b"".join(text(name) + text(b"") + packed for name in found)
    return framed(Answer.NAME, request, struct.pack(">I", len(found)) + fields)


def attributes(request: int, *, size: int = 5, mode: int = 0o100644) -> bytes:
    fields = struct.pack(">I", 1 | 4 | 8) + struct.pack(">Q", size) + struct.pack(">III", mode, 7, 7)
    return framed(Answer.ATTRS, request, fields)


def _honest(request: int, kind: int, fields: bytes) -> bytes:
    if kind == Ask.REALPATH:
        length: int = struct.unpack(">I", fields[:4])[0]
        path = fields[4 : 4 + length]
        return names(request, path if path.startswith(b"/") else b"/home/" + path)
    if kind in (Ask.STAT, Ask.LSTAT, Ask.FSTAT):
        return attributes(request)
    if kind in (Ask.OPEN, Ask.OPENDIR):
        return framed(Answer.HANDLE, request, text(b"handle"))
    if kind in (Ask.READ, Ask.READDIR):
        return status(request, Status.EOF)
    return status(request, Status.OK)


class _Subsystem(paramiko.SubsystemHandler):
    def __init__(
        self,
        channel: paramiko.Channel,
        name: str,
        server: paramiko.ServerInterface,
        lies: Mapping[int, Lie],
        asked: list[int],
    ) -> None:
        super().__init__(channel, name, server)
        self._lies = lies
        self._asked = asked

    def start_subsystem(self, name: str, transport: paramiko.Transport, channel: paramiko.Channel) -> None:
        with contextlib.suppress(EOFError, OSError, paramiko.SSHException):  # the client has gone
            while True:
                length: int = struct.unpack(">I", _exactly(channel, 4))[0]
                packet = _exactly(channel, length)
                kind, request = packet[0], int.from_bytes(packet[1:5], "big")
                self._asked.append(kind)
                if kind in self._lies:
                    said = self._lies[kind](request, packet[5:])
                elif kind == Ask.INIT:
                    said = struct.pack(">IBI", 5, Answer.VERSION, 3)
                else:
                    said = _honest(request, kind, packet[5:])
                channel.sendall(said)


class _Guest(paramiko.ServerInterface):
    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED


class LyingSftp:
    """Answers honestly, of a small file that is everywhere, but for the kinds of requests in `lies`."""

    def __init__(self, folder: Path) -> None:
        self.lies: dict[int, Lie] = {}
        self.asked: list[int] = []
        """The kinds of all requests so far."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        port: int = self._socket.getsockname()[1]
        self._keys = make_keys(folder, port)
        self._transports: list[paramiko.Transport] = []
        self.settings = DropletHost(
            address="127.0.0.1",
            port=port,
            user="anybody",
            key_file=str(self._keys.client_file),
            host_key=self._keys.host_line,
        )
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for transport in self._transports:
            transport.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = paramiko.Transport(connection)
            transport.add_server_key(self._keys.host)
            transport.set_subsystem_handler("sftp", _Subsystem, self.lies, self.asked)
            self._transports.append(transport)
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(server=_Guest())


@contextmanager
def lying_sftp(folder: Path) -> Generator[LyingSftp, None, None]:
    """The server for the time of a test."""
    server = LyingSftp(folder)
    try:
        yield server
    finally:
        server.stop()


def _exactly(channel: paramiko.Channel, count: int) -> bytes:
    received = b""
    while len(received) < count:
        chunk = channel.recv(count - len(received))
        if not chunk:
            raise EOFError
        received += chunk
    return received
