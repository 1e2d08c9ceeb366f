"""Making folders on a host, and taking whole trees away, name by name: links are never followed."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field

from tasks.confined import failure, refused, shown
from tasks.droplet.remote_files import RemoteFiles
from tasks.droplet.sftp_wire import Refusal, Status
from toolswarm.errors import OperationFailed

_DEEPEST = 100


def make_folders(files: RemoteFiles, folder: bytes, path: str) -> tuple[bytes, int]:
    """The real path of a folder that is made with all that is missing above it, and how many were made.

    Raises:
        OperationFailed: `not_a_directory`, `path_refused`, …
    """
    missing: list[bytes] = []
    at = folder
    while (real := _real_if_there(files, at, path)) is None:
        above, slash, name = at.rstrip(b"/").rpartition(b"/")
        if name == b"..":
            raise refused(path, "leads up from a folder that is not there; give it without '..'")
        if name not in (b"", b"."):
            missing.append(name)
        at = above or slash or b"."
    found = files.found(real, path)
    if found is None or found.kind != "directory":
        raise failure(NotADirectoryError(errno.ENOTDIR, ""), path)
    with files.speaking_of(path):
        for name in reversed(missing):
            real = (b"" if real == b"/" else real) + b"/" + name
            _make(files, real, path)
    return real, len(missing)


def _real_if_there(files: RemoteFiles, at: bytes, path: str) -> bytes | None:
    """Checked against the tenant's roots before anything else is asked about it."""
    with files.speaking_of(path):
        try:
            real = files.paths.folder(at, path)
        except Refusal as refusal:
            if refusal.status == Status.NO_SUCH_FILE:
                return None
            raise
    return real if files.found(real, path) is not None else None


def _make(files: RemoteFiles, real: bytes, path: str) -> None:
    files.work.begin_effect()
    try:
        files.sftp.make_folder(real)
    except Refusal as refusal:
        there = files.found(real, path)
        if there is None or refusal.status != Status.FAILURE:
            raise
        if there.kind != "directory":  # else somebody else has just made it
            raise failure(NotADirectoryError(errno.ENOTDIR, ""), path, before_effect=False) from refusal


@dataclass
class Tree:
    """What is in a folder, to be removed: folders with what they hold before themselves."""

    files: list[bytes] = field(default_factory=list[bytes])
    folders: list[bytes] = field(default_factory=list[bytes])

    @property
    def count(self) -> int:
        """How much there is."""
        return len(self.files) + len(self.folders)


def look_at_tree(files: RemoteFiles, real: bytes, path: str, *, most: int) -> Tree:
    """All that is in a folder, and itself.

    Raises:
        OperationFailed: `too_large`, `path_refused`.
    """
    tree = Tree()
    _add(files, tree, real, path=path, most=most, depth=0)
    return tree


def remove_tree(files: RemoteFiles, tree: Tree) -> Iterator[int]:
    """Remove it; says how much was removed so far."""
    yield from files.sftp.remove_many(tree.files)
    for count, folder in enumerate(tree.folders, start=1):
        try:
            files.sftp.remove_folder(folder)
        except Refusal as refusal:
            if refusal.status != Status.NO_SUCH_FILE:
                raise
        yield len(tree.files) + count


def _add(files: RemoteFiles, tree: Tree, real: bytes, *, path: str, most: int, depth: int) -> None:
    if depth > _DEEPEST:
        raise OperationFailed(
            f"{shown(path)} is more than {_DEEPEST} folders deep; delete a part of it first",
            code="too_large",
            before_effect=True,
        )
    if files.sftp.real_path(real) != real:
        raise refused(path, "was changed into a link while it was looked at")
    inner: list[bytes] = []
    for named in files.sftp.entries(real):
        if named.name in (b".", b".."):
            continue
        if not named.is_usable:
            raise refused(path, "holds a name that no file can have; have a look at the host")
        (inner if named.attributes.kind == "directory" else tree.files).append(real + b"/" + named.name)
        if tree.count + len(inner) >= most:
            raise OperationFailed(
                f"{shown(path)} holds more than {most} entries; raise max_entries, or delete a part of it first",
                code="too_large",
                before_effect=True,
                limit=most,
            )
    for folder in inner:
        _add(files, tree, folder, path=path, most=most, depth=depth + 1)
    tree.folders.append(real)
