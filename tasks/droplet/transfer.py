"""What upload and download share: how much, how far, and whether it arrived."""

import hashlib
import os
import time
from collections.abc import Callable
from typing import Annotated, Literal

from msgspec import Meta

from tasks.confined import Confined, shown
from tasks.droplet.hosts import Hosts
from tasks.droplet.partial import read_all
from tasks.droplet.remote_files import RemoteFiles
from tasks.operation import Run
from toolswarm.errors import OperationFailed

TIME_LIMIT_S = 1800.0
_TAIL_BYTES = 1 << 20
"""How much of what an interrupted transfer has left is compared before it is gone on with."""
_TOLD_EACH_S = 0.5

LocalPath = Annotated[
    str,
    Meta(
        description="File in your local root folder (desktop's), relative to it.",
        examples=["dist/app.tar.gz"],
        min_length=1,
    ),
]
MaxBytes = Annotated[
    Annotated[int, Meta(ge=0)] | None,
    Meta(description="Fail with `too_large` if the file is larger; none: the configured limit.", examples=[1_000_000]),
]
Verified = Literal["sha256", "size"]


def local_root(hosts: Hosts, run: Run) -> Confined:
    """The root folder of the call's tenant on this machine: desktop's.

    Raises:
        OperationFailed: `root_missing`.
    """
    if hosts.desk is None:
        raise OperationFailed(
            "this worker has no local root folder to transfer from or to", code="root_missing", before_effect=True
        )
    return hosts.desk.root(run.call.tenant)


def check_size(size_bytes: int, hosts: Hosts, max_bytes: int | None, path: str) -> None:
    """Refuse what is too large.

    Raises:
        OperationFailed: `too_large`.
    """
    limit_bytes = hosts.settings.max_transfer_bytes
    if max_bytes is not None:
        limit_bytes = min(limit_bytes, max_bytes)
    if size_bytes > limit_bytes:
        raise OperationFailed(
            f"{shown(path)} is larger than {limit_bytes} bytes; raise max_bytes, or droplet.max_transfer_bytes",
            code="too_large",
            before_effect=True,
            limit_bytes=limit_bytes,
        )


def sha256_local(fd: int, check: Callable[[], None]) -> tuple[str, int]:
    """Hash and size of an open local file."""
    digest = hashlib.sha256()
    size_bytes = 0
    for chunk in read_all(fd, check):
        digest.update(chunk)
        size_bytes += len(chunk)
    return digest.hexdigest(), size_bytes


def is_start(files: RemoteFiles, handle: bytes, fd: int, *, size_bytes: int) -> bool:
    """Whether the open remote file and the open local one are alike at the end of so many bytes of both."""
    if not size_bytes:
        return True
    start = max(0, size_bytes - _TAIL_BYTES)
    there = b""
    for chunk in files.sftp.read(handle, offset=start, size_hint=size_bytes):
        there += chunk
        if len(there) >= size_bytes - start:
            break
    return there[: size_bytes - start] == os.pread(fd, size_bytes - start, start)


class Progress:
    """Tells who follows the call how far it is, now and then."""

    def __init__(self, run: Run, total_bytes: int) -> None:
        self._run = run
        self._total_bytes = total_bytes
        self._told_at = 0.0

    def at(self, done_bytes: int) -> None:
        """So much is done."""
        now = time.monotonic()
        if now - self._told_at >= _TOLD_EACH_S or done_bytes == self._total_bytes:
            self._told_at = now
            self._run.tell({"done_bytes": done_bytes, "total_bytes": self._total_bytes})
