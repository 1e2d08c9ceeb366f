"""Writing and making on a remote host over SFTP, with the rights of the configured user."""

import base64
import binascii
import hashlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tasks.confined import shown
from tasks.droplet.contents import sha256_read
from tasks.droplet.files import LARGEST_HASHED_BYTES, RemotePath
from tasks.droplet.folders import make_folders
from tasks.droplet.hosts import HostName, Hosts
from tasks.droplet.placing import TURNS, check_replaceable, exists, put, sweep, write_beside
from tasks.droplet.remembered import HOST
from tasks.droplet.remote_files import RemoteFiles, remote_files
from tasks.droplet.remote_paths import RemotePlace
from tasks.droplet.sftp_wire import Attributes
from tasks.droplet.spelling import spelled
from tasks.droplet.work import Work
from tasks.operation import Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

_LARGEST_WRITE_BYTES = 16 << 20

MakeParents = Annotated[bool, Meta(description="Make the folders above it when they are missing.")]
WriteMode = Annotated[
    Literal["create", "replace"],
    Meta(description="`create`: fail with `exists` if something else is there already.", examples=["replace"]),
]


class RemoteWritten(msgspec.Struct, frozen=True, kw_only=True):
    """What a write has left on the host."""

    host: str
    path: str
    """Absolute, with the links on the way followed."""
    sha256: str
    size_bytes: int
    created: bool
    """Whether there was nothing before."""
    changed: bool
    """False when the file had this content already."""
    synced: bool
    """Whether the host has said that the content is on its disk; servers without `fsync@openssh.com` cannot."""


class RemoteFolder(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that is there now."""

    host: str
    path: str
    created: bool
    """False when it was there already."""


class _Wanted(msgspec.Struct, frozen=True, kw_only=True):
    sha256: str
    size_bytes: int
    expected_sha256: str | None


@operation(
    effect=Effect.IDEMPOTENT,
    time_limit_s=60,
    from_context={"host": "host"},
    marks_effect=True,
    destructive=True,
    changes=HOST,
)
def write_file(
    hosts: Hosts,
    run: Run,
    *,
    path: Annotated[RemotePath, Meta(examples=["/srv/app/settings.toml"])],
    content: Annotated[
        str, Meta(description="The whole new content, with its line ends as given.", examples=["workers = 4"])
    ],
    host: HostName = None,
    encoding: Annotated[
        Literal["utf-8", "base64"],
        Meta(description="How `content` spells the file's bytes.", examples=["utf-8"]),
    ] = "utf-8",
    mode: WriteMode = "replace",
    expected_sha256: Annotated[
        Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None,
        Meta(
            description="Write only if the file's present content has this SHA-256.",
            examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
        ),
    ] = None,
    make_parents: MakeParents = False,
) -> RemoteWritten:
    """Write a file on a remote host in one step.

    Whoever reads it sees the old content or the new one, never a mixture, also when the connection breaks. Permissions
    and owner of an existing file are kept (setuid and setgid are not), other metadata is not; it becomes a new file, so
    hard links keep the old content. A symbolic link is not written through. At most 16 MiB. `expected_sha256` keeps
    writers of this worker apart; another program on the host may still write between the check and the replacement.
    """
    raw = _bytes_of(content, encoding)
    sha256 = hashlib.sha256(raw).hexdigest()
    work = Work(run)
    with remote_files(hosts, work, host) as files:
        place = placed(files, path, make_parents=make_parents)
        with TURNS.turn(files.host, place.path, work):
            present = files.file_at(place, path)
            wanted = _Wanted(sha256=sha256, size_bytes=len(raw), expected_sha256=expected_sha256)
            changed = _must_change(files, place, path, present=present, wanted=wanted)
            synced = False
            if changed:
                if present is not None and mode == "create":
                    raise exists(path)
                synced = _write(files, place, path, present=present, content=raw)
    return RemoteWritten(
        host=files.host,
        path=spelled(place.path),
        sha256=sha256,
        size_bytes=len(raw),
        created=present is None,
        changed=changed,
        synced=synced,
    )


@operation(
    effect=Effect.IDEMPOTENT,
    time_limit_s=30,
    from_context={"host": "host"},
    marks_effect=True,
    destructive=False,
    changes=HOST,
)
def make_directory(
    hosts: Hosts,
    run: Run,
    *,
    path: Annotated[RemotePath, Meta(examples=["/srv/app/releases"])],
    host: HostName = None,
    make_parents: MakeParents = False,
) -> RemoteFolder:
    """Make a folder on a remote host.

    One that is there already is no error: `created` is false then.
    """
    work = Work(run)
    with remote_files(hosts, work, host) as files, files.speaking_of(path):
        meant = files.paths.meant(path)
        if not make_parents:
            folder, _ = files.paths.split(path)
            files.paths.folder(folder, path)
            if files.found(folder, path, follow=True) is None:
                raise _no_folder_above(path)
        real, made = make_folders(files, meant, path)
    return RemoteFolder(host=files.host, path=spelled(real), created=made > 0)


def placed(files: RemoteFiles, path: str, *, make_parents: bool) -> RemotePlace:
    """The place of a file that is to be written.

    Raises:
        OperationFailed: `path_refused`, `not_found`, …
    """
    if not make_parents:
        return files.place(path)
    folder, name = files.paths.split(path)
    return RemotePlace(make_folders(files, folder, path)[0], name)


def _bytes_of(content: str, encoding: str) -> bytes:
    try:
        raw = content.encode("utf-8") if encoding == "utf-8" else base64.b64decode(content, validate=True)
    except UnicodeEncodeError as error:
        raise OperationFailed(
            "content has half of a surrogate pair, which UTF-8 cannot hold; send whole characters",
            code="invalid_text",
            before_effect=True,
        ) from error
    except (binascii.Error, ValueError) as error:
        raise OperationFailed(
            'content is not base64, as encoding="base64" wants it; send base64 with its padding, on one line',
            code="invalid_text",
            before_effect=True,
        ) from error
    if len(raw) > _LARGEST_WRITE_BYTES:
        raise OperationFailed(
            f"content is longer than {_LARGEST_WRITE_BYTES} bytes; use upload",
            code="too_large",
            before_effect=True,
            limit_bytes=_LARGEST_WRITE_BYTES,
        )
    return raw


def _must_change(
    files: RemoteFiles,
    place: RemotePlace,
    path: str,
    *,
    present: Attributes | None,
    wanted: _Wanted,
) -> bool:
    """False when the content is there already: also for the second attempt of a call whose first one was lost."""
    present_sha256 = None
    if present is not None and (wanted.expected_sha256 is not None or present.size_bytes == wanted.size_bytes):
        if (present.size_bytes or 0) > LARGEST_HASHED_BYTES:
            raise OperationFailed(
                f"{shown(path)} is larger than {LARGEST_HASHED_BYTES} bytes, too large for expected_sha256",
                code="too_large",
                before_effect=not files.work.begun,
                limit_bytes=LARGEST_HASHED_BYTES,
            )
        present_sha256 = sha256_read(files, place.path, path, size_bytes=present.size_bytes or 0)
    if present_sha256 == wanted.sha256:
        return False
    if wanted.expected_sha256 is not None and present_sha256 != wanted.expected_sha256:
        raise OperationFailed(
            f"{shown(path)} is not as expected: it was changed or removed; read it again, then write",
            code="conflict",
            before_effect=not files.work.begun,
            expected_sha256=wanted.expected_sha256,
            present_sha256=present_sha256,
        )
    return True


def _write(files: RemoteFiles, place: RemotePlace, path: str, *, present: Attributes | None, content: bytes) -> bool:
    if present is not None:
        check_replaceable(files, place, path)
    written = write_beside(files, place, path, present=present, content=(content,))
    put(files, place, path, temporary=written.path, may_replace=present is not None)
    sweep(files, place)
    return written.synced


def _no_folder_above(path: str) -> OperationFailed:
    return OperationFailed(
        f"the folder above {shown(path)} is not there; use make_parents=true",
        code="not_found",
        before_effect=True,
        path=path[:200],
    )
