"""Listing folders of a remote host over SFTP; what the host says of them is not believed unchecked."""

import heapq
from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from tasks.atomic import TEMPORARY_SUFFIX
from tasks.confined import shown
from tasks.droplet.files import RemotePath
from tasks.droplet.hosts import HostName, Hosts
from tasks.droplet.remembered import HOST
from tasks.droplet.remote_files import RemoteFiles, remote_files
from tasks.droplet.sftp_wire import Named
from tasks.droplet.spelling import spelled, unspelled
from tasks.droplet.work import Work
from tasks.operation import Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

_MOST_ENTRIES_SCANNED = 1_000_000


class RemoteEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in a folder."""

    name: str
    kind: str
    """`file`, `directory`, `symlink` or `other`; a link is not followed."""
    size_bytes: int | None
    mode: str | None
    modified_at: int | None


class RemoteListing(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a remote folder, sorted by the bytes of the names."""

    host: str
    path: str
    entries: list[RemoteEntry]
    truncated: bool
    cursor: str | None
    """Give it to the next call for what follows; None at the end."""
    refused_names: int
    """Names that no file can have (with `/`, NUL or none at all): the host sent them, and they were left out."""
    untrusted: bool = True


@operation(effect=Effect.READ, time_limit_s=60, from_context={"host": "host"}, tags=HOST)
def list_directory(
    hosts: Hosts,
    run: Run,
    *,
    path: RemotePath = ".",
    host: HostName = None,
    max_entries: Annotated[int, Meta(description="How many entries at most.", ge=1, le=10_000)] = 1000,
    cursor: Annotated[
        str | None, Meta(description="`cursor` of the call before, for what follows.", examples=["nginx.conf"])
    ] = None,
) -> RemoteListing:
    """List a folder on a remote host.

    Sorted by name, hidden files too; links are named, not followed. A large folder comes in pages: give `cursor` back.
    An entry that is made or removed in between is seen or not; no other is missed. At most 1,000,000 entries.
    """
    with remote_files(hosts, Work(run), host) as files:
        real = files.target(path)
        after = b"" if cursor is None else _after(cursor)
        with files.speaking_of(path):
            found, refused_names = _listed(files, real, path=path, after=after, most=max_entries + 1)
    page = found[:max_entries]
    return RemoteListing(
        host=files.host,
        path=spelled(real),
        entries=[_entry(named) for named in page],
        truncated=len(found) > max_entries,
        cursor=spelled(page[-1].name) if len(found) > max_entries else None,
        refused_names=refused_names,
    )


def _listed(files: RemoteFiles, real: bytes, *, path: str, after: bytes, most: int) -> tuple[list[Named], int]:
    """The first entries after a name, in memory for so many, and how many names were refused."""
    refused_names = 0

    def usable() -> Iterator[Named]:
        nonlocal refused_names
        for count, named in enumerate(files.sftp.entries(real)):
            if count >= _MOST_ENTRIES_SCANNED:
                raise OperationFailed(
                    f"{shown(path)} has more than {_MOST_ENTRIES_SCANNED} entries; look into it with run",
                    code="too_large",
                    before_effect=True,
                )
            if not named.is_usable:
                refused_names += named.name not in (b".", b"..")
            elif named.name > after and not named.name.endswith(TEMPORARY_SUFFIX.encode()):
                yield named

    found = heapq.nsmallest(most, usable(), key=lambda named: named.name)
    return found, refused_names


def _after(cursor: str) -> bytes:
    try:
        return unspelled(cursor)
    except UnicodeEncodeError as error:
        raise OperationFailed(
            "cursor is not one of this operation; give back the one of the call before",
            code="invalid_cursor",
            before_effect=True,
        ) from error


def _entry(named: Named) -> RemoteEntry:
    attributes = named.attributes
    return RemoteEntry(
        name=spelled(named.name),
        kind=attributes.kind,
        size_bytes=attributes.size_bytes,
        mode=attributes.octal,
        modified_at=attributes.modified_at,
    )
