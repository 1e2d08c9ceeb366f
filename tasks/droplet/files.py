"""Looking at files of a remote host over SFTP, with the rights of the configured user."""

import base64
import hashlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tasks.confined import shown
from tasks.droplet.hosts import HostName, Hosts
from tasks.droplet.remembered import HOST
from tasks.droplet.remote_files import RemoteFiles, remote_files
from tasks.droplet.sftp_wire import OpenFlag
from tasks.droplet.spelling import spelled
from tasks.droplet.window import ByteWindow, LineWindow, Part
from tasks.droplet.work import Work
from tasks.operation import Run, operation
from tasks.text import text_or_base64
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

_LARGEST_READ_BYTES = 1 << 20
LARGEST_HASHED_BYTES = 64 << 20
"""It is read to its end over the network: less than a second on a fast one."""

RemotePath = Annotated[
    str,
    Meta(
        description="On the host; relative paths begin at the login folder (or at your first root there), and `~` is a "
        r"name like others. Bytes that are no UTF-8 are spelled \xNN and a backslash \\, as in the results.",
        examples=["/etc/nginx/nginx.conf"],
        min_length=1,
    ),
]


class RemoteFile(msgspec.Struct, frozen=True, kw_only=True):
    """A remote file's content, or a part of it."""

    host: str
    path: str
    """Absolute, with all links followed."""
    content: str
    encoding: str
    """`utf-8` or `latin-1`, or `base64` when this part is no text."""
    sha256: str | None
    """Of the whole file; give it to `write_file` as `expected_sha256`. None for files over 64 MiB, and for one that
    grew while it was read."""
    size_bytes: int
    """Of the whole file; for one that the kernel makes up, what was read of it."""
    offset: int
    """Where the content begins: a line, or a byte, as `unit` says."""
    truncated: bool
    """Whether more follows."""
    next_offset: int | None
    """Line or byte to go on with; None at the end."""
    next_byte: int | None
    """The same as a byte, for `unit="bytes"`: also in the middle of a line that was cut."""
    line_cut: bool
    """Whether the one line is longer than `max_bytes`; its rest begins at `next_byte`."""
    untrusted: bool = True


class RemoteStat(msgspec.Struct, frozen=True, kw_only=True):
    """What a host says of a file; None: it does not say, or cannot be believed."""

    host: str
    path: str
    """Absolute; the last name may be a link's."""
    kind: str
    """`file`, `directory`, `symlink` or `other`."""
    size_bytes: int | None
    mode: str | None
    """Permissions as four octal digits, `0644`."""
    owner: int | None
    """User id."""
    group: int | None
    modified_at: int | None
    """Unix seconds, on the host's clock."""
    accessed_at: int | None
    link_target: str | None
    """As it is stored in a symbolic link."""
    untrusted: bool = True


@operation(effect=Effect.READ, time_limit_s=60, from_context={"host": "host"}, tags=HOST)
def read_file(
    hosts: Hosts,
    run: Run,
    *,
    path: RemotePath,
    host: HostName = None,
    unit: Annotated[
        Literal["lines", "bytes"], Meta(description="What `offset` and `limit` count.", examples=["lines"])
    ] = "lines",
    offset: Annotated[int, Meta(description="First line or byte to return, counted from 0.", ge=0)] = 0,
    limit: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="How many lines or bytes at most; none: as `max_bytes` allows.", examples=[200]),
    ] = None,
    max_bytes: Annotated[int, Meta(description="How many bytes at most.", ge=1, le=_LARGEST_READ_BYTES)] = 262_144,
    encoding: Annotated[
        Literal["auto", "latin-1", "base64"],
        Meta(description="`auto`: UTF-8, or base64 for what is not UTF-8.", examples=["auto"]),
    ] = "auto",
) -> RemoteFile:
    """Read a file on a remote host.

    All of it, or a part in lines or bytes; `next_offset` goes on. Whole lines are returned as long as they fit into
    `max_bytes`. Up to 64 MiB the whole file is read for its SHA-256; in a larger one lines can be found in the first
    64 MiB only, bytes anywhere. Links are followed. Devices, FIFOs and sockets are refused.
    """
    with remote_files(hosts, Work(run), host) as files:
        real = files.target(path)
        window = _window(unit, offset, limit=limit, max_bytes=max_bytes)
        whole = _read(files, real, path=path, window=window)
        part = window.part()
    content, named = _decoded(part, encoding)
    more = part.more or (whole.sha256 is None and part.ends_at < whole.size_bytes)
    next_line = offset + (part.lines or 1)
    return RemoteFile(
        host=files.host,
        path=spelled(real),
        content=content,
        encoding=named,
        sha256=whole.sha256,
        size_bytes=whole.size_bytes,
        offset=offset,
        truncated=more,
        next_offset=(next_line if unit == "lines" else part.ends_at) if more else None,
        next_byte=part.ends_at if more else None,
        line_cut=part.line_cut,
    )


@operation(effect=Effect.READ, time_limit_s=30, from_context={"host": "host"}, tags=HOST)
def stat(
    hosts: Hosts,
    run: Run,
    *,
    path: RemotePath,
    host: HostName = None,
    follow: Annotated[bool, Meta(description="Whether a symbolic link stands for what it leads to.")] = False,
) -> RemoteStat:
    """Tell what a path on a remote host is.

    Kind, size, permissions, owner, times, and the target of a symbolic link as it is stored.
    """
    with remote_files(hosts, Work(run), host) as files, files.speaking_of(path):
        real = files.paths.target(path) if follow else files.paths.entry(path)
        found = files.sftp.stat(real, follow=False)
        link_target = spelled(files.sftp.read_link(real)) if found.kind == "symlink" else None
    return RemoteStat(
        host=files.host,
        path=spelled(real),
        kind=found.kind,
        size_bytes=found.size_bytes,
        mode=found.octal,
        owner=found.owner,
        group=found.group,
        modified_at=found.modified_at,
        accessed_at=found.accessed_at,
        link_target=link_target,
    )


class _Whole(msgspec.Struct, frozen=True, kw_only=True):
    sha256: str | None
    size_bytes: int


def _window(unit: str, offset: int, *, limit: int | None, max_bytes: int) -> LineWindow | ByteWindow:
    if unit == "lines":
        return LineWindow(offset, limit=limit, max_bytes=max_bytes)
    return ByteWindow(offset, min(limit or max_bytes, max_bytes))


def _read(files: RemoteFiles, real: bytes, *, path: str, window: LineWindow | ByteWindow) -> _Whole:
    with files.speaking_of(path):
        found = files.sftp.stat(real)
        files.check_file(found, path)
        handle = files.sftp.open(real, OpenFlag.READ)
        files.paths.check_again(real, path)
        size_bytes = found.size_bytes or 0
        start, ask_until = 0, size_bytes
        if size_bytes > LARGEST_HASHED_BYTES and isinstance(window, ByteWindow):
            start, ask_until = window.begin_there()
        digest = hashlib.sha256() if size_bytes <= LARGEST_HASHED_BYTES else None
        read_bytes = 0
        for chunk in files.sftp.read(handle, offset=start, size_hint=ask_until):
            window.add(chunk)
            read_bytes += len(chunk)
            if digest is not None and read_bytes <= min(size_bytes or LARGEST_HASHED_BYTES, LARGEST_HASHED_BYTES):
                digest.update(chunk)
                continue
            digest = None
            if window.is_full:
                break
            if read_bytes > LARGEST_HASHED_BYTES:
                raise _too_large(path)
        files.sftp.close(handle)
    if digest is not None:
        return _Whole(sha256=digest.hexdigest(), size_bytes=read_bytes)
    return _Whole(sha256=None, size_bytes=max(size_bytes, start + read_bytes))


def _decoded(part: Part, encoding: str) -> tuple[str, str]:
    if encoding == "latin-1":
        return part.raw.decode("latin-1"), "latin-1"
    if encoding == "base64":
        return base64.b64encode(part.raw).decode("ascii"), "base64"
    return text_or_base64(part.raw)


def _too_large(path: str) -> OperationFailed:
    return OperationFailed(
        f"these lines of {shown(path)} are not within its first {LARGEST_HASHED_BYTES} bytes; "
        'read it with unit="bytes", or search in it with run',
        code="too_large",
        before_effect=True,
        limit_bytes=LARGEST_HASHED_BYTES,
    )
