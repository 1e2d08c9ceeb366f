"""The SHA-256 of what lies on a host: hashed there when it can, else read over."""

import hashlib
import time
from collections.abc import Callable

import paramiko

from tasks.confined import shown
from tasks.droplet.hosts import Hosts
from tasks.droplet.inventory import HostEntry
from tasks.droplet.remote_files import RemoteFiles
from tasks.droplet.sftp_wire import OpenFlag
from tasks.droplet.work import Work
from toolswarm.errors import OperationFailed

_TICK_S = 0.05
_ANSWER_BYTES = 4096
_LONGEST_S = 300.0


def sha256_read(files: RemoteFiles, real: bytes, path: str, *, size_bytes: int) -> str:
    """The hash of a regular file that has so many bytes.

    Raises:
        OperationFailed: `conflict` when it has more.
    """
    digest = hashlib.sha256()
    left_bytes = size_bytes
    with files.speaking_of(path):
        handle = files.sftp.open(real, OpenFlag.READ)
        for chunk in files.sftp.read(handle, size_hint=size_bytes):
            digest.update(chunk)
            left_bytes -= len(chunk)
            if left_bytes < 0:
                raise OperationFailed(
                    f"{shown(path)} grew while it was read; try again when nobody writes it",
                    code="conflict",
                    retryable=True,
                    before_effect=not files.work.begun,
                )
        files.sftp.close(handle)
    return digest.hexdigest()


def sha256_there(hosts: Hosts, host: HostEntry, work: Work, real: bytes) -> str | None:
    """The hash that the host's own `sha256sum` gives; None where commands, that program or the same paths are lacking.

    A wrong None costs reading the file; a wrong hash cannot come from an honest host, and a dishonest one could as
    well answer wrong when the file is read.
    """
    with hosts.session(host, work.run) as session:
        channel = session.channel
        channel.settimeout(_TICK_S)
        try:
            channel.exec_command(b"exec sha256sum < " + _quoted(real))
            answer = _answer(channel, work.check)
        except (paramiko.SSHException, EOFError, OSError):
            session.is_connected()
            return None
    digest = answer[:64].decode("ascii", "replace")
    is_hash = len(answer) >= 64 and all(character in "0123456789abcdef" for character in digest)
    return digest if is_hash and answer[64:66] in (b"", b" ", b"  ", b" *") else None


def _answer(channel: paramiko.Channel, patience: Callable[[], None]) -> bytes:
    answer = b""
    give_up_at = time.monotonic() + _LONGEST_S
    while len(answer) < _ANSWER_BYTES and time.monotonic() < give_up_at:
        patience()
        try:
            chunk = channel.recv(_ANSWER_BYTES)
        except TimeoutError:
            continue
        if not chunk:
            break
        answer += chunk
    return answer


def _quoted(raw: bytes) -> bytes:
    """For a POSIX shell; a path has no NUL."""
    return b"'" + raw.replace(b"'", b"'\"'\"'") + b"'"
