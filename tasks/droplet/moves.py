"""Moving and deleting on a remote host over SFTP, with the rights of the configured user.

Both are `verifiable`: a second attempt looks first whether the one before, whose end nobody saw, had its effect.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from tasks.confined import refused, shown
from tasks.droplet.files import RemotePath
from tasks.droplet.folders import look_at_tree, remove_tree
from tasks.droplet.hosts import HostName, Hosts
from tasks.droplet.remembered import HOST
from tasks.droplet.remote_files import RemoteFiles, remote_files
from tasks.droplet.remote_paths import RemotePlace
from tasks.droplet.sftp_wire import Attributes, Refusal, Status
from tasks.droplet.spelling import spelled
from tasks.droplet.work import Work
from tasks.operation import NOT_DONE, Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

_MOST_ENTRIES = 100_000

Destination = Annotated[
    str, Meta(description="The new path, spelled like `path`.", examples=["/etc/nginx/nginx.conf.old"], min_length=1)
]
Overwrite = Annotated[bool, Meta(description="Replace a file or a link that is at the destination.")]
Recursive = Annotated[bool, Meta(description="Delete a folder with all that is in it.")]
MissingOk = Annotated[bool, Meta(description="That nothing is there is no error.")]
MaxEntries = Annotated[
    int, Meta(description="A folder that holds more is not touched.", ge=1, le=_MOST_ENTRIES, examples=[10_000])
]


class RemoteMoved(msgspec.Struct, frozen=True, kw_only=True):
    """What was moved."""

    host: str
    path: str
    """Where it was, absolute."""
    destination: str
    """Where it is now, absolute."""


class RemoteDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted."""

    host: str
    path: str
    deleted: int | None
    """How many files and folders; 0 when nothing was there; None when an earlier attempt has deleted them."""


def _moved_already(
    hosts: Hosts, run: Run, *, path: RemotePath, destination: Destination, host: HostName, overwrite: Overwrite
) -> object:
    """Nothing at the old place and something at the new one: done. Something at the old place alone: not done."""
    with remote_files(hosts, Work(run), host) as files:
        old, new = files.place(path), files.place(destination)
        source, target = files.found(old.path, path), files.found(new.path, destination)
    if source is None and target is not None:
        return _moved(files, old, new)
    if source is not None and (target is None or not overwrite):
        return NOT_DONE  # with something at both, the move itself refuses to overwrite it
    raise OperationFailed(
        f"an earlier attempt to move {shown(path)} was lost, and what is there now does not tell whether it was done; "
        "look at both paths",
        code="cannot_tell",
        host=files.host,
        source_is_there=source is not None,
        destination_is_there=target is not None,
    )


@operation(
    effect=Effect.VERIFIABLE,
    time_limit_s=30,
    from_context={"host": "host"},
    marks_effect=True,
    probe=_moved_already,
    destructive=True,
    changes=HOST,
)
def move(
    hosts: Hosts,
    run: Run,
    *,
    path: RemotePath,
    destination: Destination,
    host: HostName = None,
    overwrite: Overwrite = False,
) -> RemoteMoved:
    """Move or rename a file or a folder on a remote host.

    In one step, within one file system of the host. A symbolic link is moved itself. `destination` is the full new
    path, not a folder to move into; what is there is replaced only with `overwrite`, and a folder never is.
    """
    work = Work(run)
    with remote_files(hosts, work, host) as files:
        old, new = files.place(path), files.place(destination)
        source = _there(files, old, path)
        if old.path == new.path:
            return _moved(files, old, new)
        if source.kind == "directory" and new.path.startswith(old.path + b"/"):
            raise refused(destination, "lies within what is to be moved")
        target = files.found(new.path, destination)
        if target is not None:
            if not overwrite or target.kind == "directory" or source.kind == "directory":
                raise _in_the_way(destination)
            if not files.sftp.can_replace:
                raise _cannot_overwrite(files, destination)
        work.check()
        work.begin_effect()
        _rename(files, old, new, destination=destination, overwrite=target is not None)
    return _moved(files, old, new)


def _deleted_already(
    hosts: Hosts,
    run: Run,
    *,
    path: RemotePath,
    host: HostName,
    recursive: Recursive,
    missing_ok: MissingOk,
    max_entries: MaxEntries,
) -> object:
    """Nothing is there: done. Something is there: not done, or not to its end; deleting goes on."""
    del recursive, missing_ok, max_entries
    with remote_files(hosts, Work(run), host) as files:
        place = files.place(path)
        present = files.found(place.path, path)
    return NOT_DONE if present is not None else _deleted(files, place, None)


@operation(
    effect=Effect.VERIFIABLE,
    time_limit_s=300,
    from_context={"host": "host"},
    marks_effect=True,
    probe=_deleted_already,
    destructive=True,
    changes=HOST,
)
def delete(
    hosts: Hosts,
    run: Run,
    *,
    path: Annotated[RemotePath, Meta(examples=["/srv/app/releases/17"])],
    host: HostName = None,
    recursive: Recursive = False,
    missing_ok: MissingOk = False,
    max_entries: MaxEntries = 10_000,
) -> RemoteDeleted:
    """Delete a file, a link or a folder on a remote host.

    A folder that is not empty needs `recursive`. All of it is looked at first, and nothing is deleted when it holds
    more than `max_entries`; links in it are deleted, not followed. Deleting a tree is not one step: when it fails, a
    part may be gone. The login folder and the folders above it are refused.
    """
    work = Work(run)
    with remote_files(hosts, work, host) as files:
        place = files.place(path)
        present = files.found(place.path, path)
        if present is None:
            if not missing_ok:
                raise files.refusal(Refusal(Status.NO_SUCH_FILE, ""), path)
            return _deleted(files, place, 0)
        with files.speaking_of(path):
            if present.kind != "directory":
                work.begin_effect()
                files.sftp.remove(place.path)
                return _deleted(files, place, 1)
            _check_not_home(files, place, path)
            if recursive:
                return _deleted(files, place, _delete_tree(files, place, path, most=max_entries))
            _check_empty(files, place, path)
            work.begin_effect()
            files.sftp.remove_folder(place.path)
    return _deleted(files, place, 1)


def _there(files: RemoteFiles, place: RemotePlace, path: str) -> Attributes:
    with files.speaking_of(path):
        return files.sftp.stat(place.path, follow=False)


def _rename(files: RemoteFiles, old: RemotePlace, new: RemotePlace, *, destination: str, overwrite: bool) -> None:
    with files.speaking_of(destination):
        if overwrite:
            files.sftp.replace(old.path, new.path)
            return
        try:
            files.sftp.rename(old.path, new.path)
        except Refusal as refusal:
            if refusal.status == Status.FAILURE:
                raise OperationFailed(
                    f"host {files.host} could not move it to {shown(destination)}: something is there by now, or it "
                    "is another file system; copy it with run in that case",
                    code="not_moved",
                    host=files.host,
                ) from refusal
            raise


def _delete_tree(files: RemoteFiles, place: RemotePlace, path: str, *, most: int) -> int:
    tree = look_at_tree(files, place.path, path, most=most)
    files.work.check()
    files.work.begin_effect()
    for done in remove_tree(files, tree):
        files.work.run.tell({"done": done, "total": tree.count})
    return tree.count


def _check_not_home(files: RemoteFiles, place: RemotePlace, path: str) -> None:
    home = files.sftp.real_path(b".")
    if home == place.path or home.startswith(place.path + b"/"):
        raise refused(path, "is the login folder or one above it, which is never deleted")


def _check_empty(files: RemoteFiles, place: RemotePlace, path: str) -> None:
    if any(named.name not in (b".", b"..") for named in files.sftp.entries(place.path)):
        raise OperationFailed(
            f"{shown(path)} is not empty; use recursive=true to delete what is in it, too",
            code="not_empty",
            before_effect=True,
            host=files.host,
        )


def _moved(files: RemoteFiles, old: RemotePlace, new: RemotePlace) -> RemoteMoved:
    return RemoteMoved(host=files.host, path=spelled(old.path), destination=spelled(new.path))


def _deleted(files: RemoteFiles, place: RemotePlace, count: int | None) -> RemoteDeleted:
    return RemoteDeleted(host=files.host, path=spelled(place.path), deleted=count)


def _in_the_way(destination: str) -> OperationFailed:
    return OperationFailed(
        f"there is something at {shown(destination)} already; use overwrite=true for a file, or another name",
        code="exists",
        before_effect=True,
        path=destination[:200],
    )


def _cannot_overwrite(files: RemoteFiles, destination: str) -> OperationFailed:
    return OperationFailed(
        f"host {files.host} cannot replace {shown(destination)} in one step (its SFTP server lacks posix-rename); "
        "delete it first",
        code="unsupported",
        before_effect=True,
        host=files.host,
    )
