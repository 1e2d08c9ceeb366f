"""Reading files of a remote host over SFTP, with the rights of the configured user."""

import errno
import stat
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated

import msgspec
import paramiko
from msgspec import Meta

from tasks.confined import failure, refused
from tasks.droplet.commands import Host
from tasks.droplet.hosts import Hosts, Session
from tasks.operation import Run, operation
from tasks.text import text_or_base64
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

_LARGEST_READ_BYTES = 1 << 20


class RemoteFile(msgspec.Struct, frozen=True, kw_only=True):
    """A remote file's content, or the start of it."""

    host: str
    path: str
    content: str
    encoding: str
    """`utf-8`, or `base64` for anything else."""
    size_bytes: int
    """Of the whole file; 0 for those that the kernel makes up."""
    truncated: bool
    untrusted: bool = True


@operation(effect=Effect.READ, time_limit_s=60, from_context={"host": "host"})
def read_file(
    hosts: Hosts,
    run: Run,
    *,
    path: Annotated[str, Meta(description="File on the host; relative to the login folder.", min_length=1)],
    host: Host = None,
    max_bytes: Annotated[int, Meta(description="How many bytes at most.", ge=1, le=_LARGEST_READ_BYTES)] = 262_144,
) -> RemoteFile:
    """Read a file on a remote host."""
    line = hosts.line(host)
    if "\0" in path:
        raise refused(path, "contains a NUL character")
    run.executed_on(line.name)
    with line.session(run.remaining_s()) as session, _speaking(session, line.name, path):
        session.channel.settimeout(max(0.1, run.remaining_s()))
        session.channel.invoke_subsystem("sftp")
        with paramiko.SFTPClient(session.channel) as sftp:
            size_bytes, raw = _read(sftp, path, max_bytes)
    truncated = len(raw) > max_bytes
    content, encoding = text_or_base64(raw[:max_bytes])
    if truncated and encoding == "base64":
        content, encoding = _text_but_for_its_end(raw[:max_bytes], content)
    return RemoteFile(
        host=line.name, path=path, content=content, encoding=encoding, size_bytes=size_bytes, truncated=truncated
    )


def _read(sftp: paramiko.SFTPClient, path: str, max_bytes: int) -> tuple[int, bytes]:
    found = sftp.stat(path)
    mode = found.st_mode or 0
    if stat.S_ISDIR(mode):
        raise failure(IsADirectoryError(errno.EISDIR, ""), path)
    if not stat.S_ISREG(mode):
        raise refused(path, "is not a regular file")  # to open a FIFO would hold up the whole session
    size_bytes = found.st_size or 0
    with sftp.open(path, "rb") as file:
        if size_bytes:
            return size_bytes, b"".join(file.readv([(0, min(size_bytes, max_bytes + 1))]))
        return size_bytes, file.read(max_bytes + 1)


def _text_but_for_its_end(raw: bytes, content: str) -> tuple[str, str]:
    """Text whose last character was cut in two loses it; anything else stays base64."""
    for cut in (1, 2, 3):
        text, encoding = text_or_base64(raw[:-cut])
        if encoding == "utf-8":
            return text, encoding
    return content, "base64"


@contextmanager
def _speaking(session: Session, host: str, path: str) -> Generator[None, None, None]:
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        raise failure(error, path) from error
    except (paramiko.SSHException, EOFError, TimeoutError, ConnectionError) as error:
        session.is_connected()  # takes a dead connection out of use
        raise OperationFailed(
            f"the connection to host {host} was lost while the file was read; try again",
            code="connection_lost",
            retryable=True,
            before_effect=True,
            host=host,
        ) from error
    except OSError as error:
        raise OperationFailed(
            f"host {host} cannot read the file", code="input_output", before_effect=True, host=host
        ) from error
