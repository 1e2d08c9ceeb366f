"""Bringing a remote file to the local root folder: it goes on where a lost attempt has ended, and is checked."""

import hashlib
import os
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from tasks.atomic import Content, atomic_change, write_all
from tasks.confined import Confined, Place, shown
from tasks.droplet.changes import MakeParents, WriteMode
from tasks.droplet.contents import sha256_there
from tasks.droplet.files import RemotePath
from tasks.droplet.hosts import HostName, Hosts
from tasks.droplet.partial import Partial, partial
from tasks.droplet.placing import exists
from tasks.droplet.remembered import HERE
from tasks.droplet.remote_files import RemoteFiles, remote_files
from tasks.droplet.sftp_wire import Attributes, OpenFlag
from tasks.droplet.spelling import spelled
from tasks.droplet.transfer import (
    TIME_LIMIT_S,
    LocalPath,
    MaxBytes,
    Progress,
    Verified,
    check_size,
    is_start,
    local_root,
    sha256_local,
)
from tasks.droplet.work import Work
from tasks.operation import Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Downloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What a download has left in the local root folder."""

    host: str
    path: str
    """Of the remote file: absolute, with all links followed."""
    local_path: str
    """Relative to the root folder."""
    sha256: str
    size_bytes: int
    created: bool
    """Whether there was nothing before."""
    changed: bool
    """False when the local file had this content already."""
    resumed_from_bytes: int
    """So much lay here from an attempt that was interrupted."""
    verified: Verified
    """`sha256`: as the host has hashed it, or as it was expected; `size`: size and time of the remote file did not
    change meanwhile, and a resumed part ended alike."""
    untrusted: bool = True


class _Remote(NamedTuple):
    host: str
    real: bytes
    path: str
    found: Attributes

    @property
    def version(self) -> str:
        """The same for as long as the remote file looks the same."""
        facts = repr((self.host, self.real, self.found.size_bytes, self.found.modified_at))
        return hashlib.sha256(facts.encode()).hexdigest()[:32]


class _Fetched(NamedTuple):
    sha256: str
    size_bytes: int
    resumed_from_bytes: int
    verified: Verified


@operation(
    effect=Effect.IDEMPOTENT,
    time_limit_s=TIME_LIMIT_S,
    from_context={"host": "host"},
    marks_effect=True,
    destructive=True,
    changes=HERE,
)
def download(
    hosts: Hosts,
    run: Run,
    *,
    path: Annotated[RemotePath, Meta(examples=["/var/log/app.log"])],
    local_path: Annotated[LocalPath, Meta(examples=["logs/app.log"])],
    host: HostName = None,
    mode: WriteMode = "replace",
    make_parents: MakeParents = False,
    max_bytes: MaxBytes = None,
    expected_sha256: Annotated[
        Sha256 | None,
        Meta(
            description="Fail with `checksum_mismatch` unless the remote file has this SHA-256.",
            examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
        ),
    ] = None,
) -> Downloaded:
    """Copy a file from a remote host into your local root folder.

    It takes the target's place in one step when all of it is there; when the connection breaks, the same download goes
    on where it ended, if the remote file has kept its size and time. A resumed one is compared with the SHA-256 that
    the host computes, where `sha256sum` can be run there. Followers of the call are told `done_bytes` and
    `total_bytes`.
    """
    work = Work(run)
    root = local_root(hosts, run)
    place = root.locate(local_path)
    with remote_files(hosts, work, host) as files:
        remote = _look(files, path)
    check_size(remote.found.size_bytes or 0, hosts, max_bytes, path)
    with partial(root, place, remote.version, make_parents=make_parents) as part:
        fetched = _fetch(hosts, work, remote, part, max_bytes=max_bytes)
        if expected_sha256 is not None:
            if fetched.sha256 != expected_sha256:
                part.remove()
                raise _mismatch(path, "does not have the expected SHA-256", fetched.sha256)
            fetched = fetched._replace(verified="sha256")
        created, changed = _put(root, place, part, work=work, mode=mode, sha256=fetched.sha256)
        part.remove()
    return Downloaded(
        host=remote.host,
        path=spelled(remote.real),
        local_path=place.path,
        sha256=fetched.sha256,
        size_bytes=fetched.size_bytes,
        created=created,
        changed=changed,
        resumed_from_bytes=fetched.resumed_from_bytes,
        verified=fetched.verified,
    )


def _look(files: RemoteFiles, path: str) -> _Remote:
    with files.speaking_of(path):
        real = files.paths.target(path)
        found = files.sftp.stat(real)
        files.check_file(found, path)
    return _Remote(files.host, real, path, found)


def _fetch(hosts: Hosts, work: Work, remote: _Remote, part: Partial, *, max_bytes: int | None) -> _Fetched:
    with remote_files(hosts, work, remote.host) as files, files.speaking_of(remote.path):
        handle = files.sftp.open(remote.real, OpenFlag.READ)
        files.paths.check_again(remote.real, remote.path)
        _check_same(files, handle, remote)
        start = _start(files, handle, remote, part)
        progress = Progress(work.run, remote.found.size_bytes or 0)
        at = start
        for chunk in files.sftp.read(handle, offset=start, size_hint=remote.found.size_bytes or 0):
            check_size(at + len(chunk), hosts, max_bytes, remote.path)
            if at + len(chunk) > (remote.found.size_bytes or at + len(chunk)):
                raise _changed(remote.path)
            part.write(chunk, at)
            at += len(chunk)
            progress.at(at)
        if at != (remote.found.size_bytes or at):
            raise _changed(remote.path)
        _check_same(files, handle, remote)
        files.sftp.close(handle)
    sha256, size_bytes = sha256_local(part.fd, work.check)
    if not start:
        return _Fetched(sha256, size_bytes, 0, "size")
    there = sha256_there(hosts, hosts.find(remote.host, work.run), work, remote.real)
    if there is not None and there != sha256:
        part.remove()
        raise _mismatch(remote.path, "is not what was downloaded, in several parts, and those were removed", sha256)
    return _Fetched(sha256, size_bytes, start, "size" if there is None else "sha256")


def _start(files: RemoteFiles, handle: bytes, remote: _Remote, part: Partial) -> int:
    """Where to go on; what does not belong there is cut off."""
    have = part.size_bytes
    if have > (remote.found.size_bytes or 0) or not is_start(files, handle, part.fd, size_bytes=have):
        have = 0
    part.cut(have)
    return have


def _put(root: Confined, place: Place, part: Partial, *, work: Work, mode: str, sha256: str) -> tuple[bool, bool]:
    """In place; whether it is new there, and whether anything was changed."""
    created = False

    def change(present: int | None) -> Content | None:
        nonlocal created
        created = present is None
        if present is not None:
            if os.fstat(present).st_size == part.size_bytes and sha256_local(present, work.check)[0] == sha256:
                return None
            if mode == "create":
                raise exists(place.given)
        return lambda fd: _copy(part, fd, work)

    def last_look(_draft: object) -> None:
        work.check()
        work.begin_effect()

    changed = atomic_change(root, place, make_parents=False, change=change, before_rename=last_look, waiting=work.check)
    return created, changed


def _copy(part: Partial, fd: int, work: Work) -> None:
    for chunk in part.read(work.check):
        write_all(fd, chunk)


def _check_same(files: RemoteFiles, handle: bytes, remote: _Remote) -> None:
    now = files.sftp.stat_open(handle)
    if (now.size_bytes, now.modified_at) != (remote.found.size_bytes, remote.found.modified_at):
        raise _changed(remote.path)


def _changed(path: str) -> OperationFailed:
    return OperationFailed(
        f"{shown(path)} was changed on the host while it was downloaded; download it again when nobody writes it",
        code="conflict",
        retryable=True,
        before_effect=True,
    )


def _mismatch(path: str, why: str, sha256: str) -> OperationFailed:
    return OperationFailed(
        f"{shown(path)} {why}; look at it, or download it again",
        code="checksum_mismatch",
        before_effect=True,
        sha256=sha256,
    )
