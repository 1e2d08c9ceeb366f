"""Bringing a local file to a remote host: it goes on where a lost attempt has ended, and is checked there."""

import hashlib
import os
from collections.abc import Iterator
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from tasks.confined import shown
from tasks.droplet.changes import MakeParents, WriteMode, placed
from tasks.droplet.contents import sha256_read, sha256_there
from tasks.droplet.files import RemotePath
from tasks.droplet.hosts import HostName, Hosts
from tasks.droplet.partial import read_all
from tasks.droplet.placing import TURNS, check_replaceable, content_name, exists, finish, put, sweep
from tasks.droplet.remembered import HOST
from tasks.droplet.remote_files import RemoteFiles, remote_files
from tasks.droplet.remote_paths import RemotePlace
from tasks.droplet.sftp_wire import Attributes, OpenFlag, Refusal
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


class Uploaded(msgspec.Struct, frozen=True, kw_only=True):
    """What an upload has left on the host."""

    host: str
    path: str
    """Absolute, with the links on the way followed."""
    sha256: str
    size_bytes: int
    created: bool
    """Whether there was nothing before."""
    changed: bool
    """False when the remote file had this content already."""
    resumed_from_bytes: int
    """So much lay there from an attempt that was interrupted."""
    verified: Verified
    """`sha256`: what lies on the host was hashed again; `size`: only its size was compared, each write acknowledged."""
    synced: bool
    """Whether the host has said that the content is on its disk."""


class _Local(NamedTuple):
    fd: int
    size_bytes: int
    sha256: str


@operation(
    effect=Effect.IDEMPOTENT,
    time_limit_s=TIME_LIMIT_S,
    from_context={"host": "host"},
    marks_effect=True,
    destructive=True,
    changes=HOST,
)
def upload(
    hosts: Hosts,
    run: Run,
    *,
    local_path: LocalPath,
    path: Annotated[RemotePath, Meta(examples=["/srv/app/app.tar.gz"])],
    host: HostName = None,
    mode: WriteMode = "replace",
    make_parents: MakeParents = False,
    max_bytes: MaxBytes = None,
) -> Uploaded:
    """Copy a file from your local root folder to a remote host.

    The content fills a temporary file beside the target, is checked there, and takes the target's place in one step;
    when the connection breaks, the same upload goes on where it ended. The SHA-256 is computed on the host where
    `sha256sum` can be run; a resumed upload is read back otherwise. Permissions and owner of a file that was there are
    kept. A symbolic link is not written through. Followers of the call are told `done_bytes` and `total_bytes`.
    """
    work = Work(run)
    with local_root(hosts, run).open_file(local_path) as fd:
        check_size(os.fstat(fd).st_size, hosts, max_bytes, local_path)
        sha256, size_bytes = sha256_local(fd, work.check)
        local = _Local(fd, size_bytes, sha256)
        with remote_files(hosts, work, host) as files:
            place = placed(files, path, make_parents=make_parents)
        with TURNS.turn(files.host, place.path, work):
            return _Upload(hosts, work, host, path=path, place=place, local=local).run(mode)


class _Upload:
    """One upload; each part of it takes a channel of its own, so that none waits for another while it holds one."""

    def __init__(
        self, hosts: Hosts, work: Work, host: str | None, *, path: str, place: RemotePlace, local: _Local
    ) -> None:
        self._hosts = hosts
        self._work = work
        self._host = host
        self._path = path
        self._place = place
        self._local = local
        self._temporary = place.beside(content_name(place.name, local.sha256))
        self._resumed_from_bytes = 0
        self._synced = False

    def run(self, mode: str) -> Uploaded:
        """From looking at the target to the check of what is there."""
        with remote_files(self._hosts, self._work, self._host) as files:
            present = files.file_at(self._place, self._path)
        if present is not None:
            same_size = present.size_bytes == self._local.size_bytes
            if same_size and self._sha256_at(self._place.path, must=True) == self._local.sha256:
                return self._uploaded(created=False, changed=False, verified="sha256")
            if mode == "create":
                raise exists(self._path)
        with remote_files(self._hosts, self._work, self._host) as files, files.speaking_of(self._path):
            if present is not None:
                check_replaceable(files, self._place, self._path)
            self._fill(files, present)
        verified = self._verify()
        with remote_files(self._hosts, self._work, self._host) as files:
            put(files, self._place, self._path, temporary=self._temporary, may_replace=present is not None)
            sweep(files, self._place)
        return self._uploaded(created=present is None, changed=True, verified=verified)

    def _fill(self, files: RemoteFiles, present: Attributes | None) -> None:
        handle = self._open(files)
        if present is not None:
            files.sftp.set_attributes(handle, Attributes(mode=0o600))
        try:
            end = files.sftp.write(handle, self._chunks(), offset=self._resumed_from_bytes)
            self._synced = finish(files, handle, self._path, present=present, size_bytes=end)
        except Refusal:  # a full disk, mostly: what is there would only keep it full
            with files.cleaning_up():
                files.sftp.remove(self._temporary)
            raise

    def _open(self, files: RemoteFiles) -> bytes:
        """The file to fill: what a lost attempt has left, if it is a start of the content, else a new one."""
        left = files.found(self._temporary, self._path)
        if left is not None and left.kind == "file":
            handle = files.sftp.open(self._temporary, OpenFlag.READ, OpenFlag.WRITE)
            have = files.sftp.stat_open(handle).size_bytes or 0
            if have <= self._local.size_bytes and is_start(files, handle, self._local.fd, size_bytes=have):
                self._resumed_from_bytes = have
                return handle
            files.sftp.close(handle)
        if left is not None:
            files.sftp.remove(self._temporary)
        return files.sftp.open(self._temporary, OpenFlag.READ, OpenFlag.WRITE, OpenFlag.CREATE, OpenFlag.EXCLUSIVE)

    def _chunks(self) -> Iterator[bytes]:
        """What is still to be sent; the end is reached only with the content that was hashed before."""
        digest = hashlib.sha256()
        progress = Progress(self._work.run, self._local.size_bytes)
        at = 0
        for chunk in read_all(self._local.fd, self._work.check):
            digest.update(chunk)
            unsent = chunk[max(0, self._resumed_from_bytes - at) :]
            at += len(chunk)
            if unsent:
                yield unsent
                progress.at(at)
        if digest.hexdigest() != self._local.sha256:
            raise OperationFailed(
                "the local file was changed while it was uploaded; upload it again when nobody writes it",
                code="conflict",
                retryable=True,
                before_effect=not self._work.begun,
            )

    def _verify(self) -> Verified:
        found = self._sha256_at(self._temporary, must=self._resumed_from_bytes > 0)
        if found is None:
            return "size"
        if found != self._local.sha256:
            with remote_files(self._hosts, self._work, self._host) as files, files.cleaning_up():
                files.sftp.remove(self._temporary)
            raise OperationFailed(
                f"what arrived for {shown(self._path)} on the host is not what was sent, and was removed; try again",
                code="checksum_mismatch",
                retryable=True,
                before_effect=not self._work.begun,
            )
        return "sha256"

    def _sha256_at(self, real: bytes, *, must: bool) -> str | None:
        """Hashed by the host; where it cannot, and it must be known, by reading it."""
        found = sha256_there(self._hosts, self._hosts.find(self._host, self._work.run), self._work, real)
        if found == self._local.sha256 or (found is None and not must):
            return found
        with remote_files(self._hosts, self._work, self._host) as files:  # commands may see other paths than SFTP
            return sha256_read(files, real, self._path, size_bytes=self._local.size_bytes)

    def _uploaded(self, *, created: bool, changed: bool, verified: Verified) -> Uploaded:
        return Uploaded(
            host=self._hosts.find(self._host, self._work.run).name,
            path=spelled(self._place.path),
            sha256=self._local.sha256,
            size_bytes=self._local.size_bytes,
            created=created,
            changed=changed,
            resumed_from_bytes=self._resumed_from_bytes,
            verified=verified,
            synced=self._synced,
        )
