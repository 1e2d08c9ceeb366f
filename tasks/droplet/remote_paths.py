"""Where a path leads on a host, and whether the tenant's file operations may go there.

Without roots, a path is the remote user's business: relative ones begin at the login folder, `..` and links are
followed. With roots (`droplet.tenants.NAME.roots`), relative ones begin at the first root, `..` is refused, and the
server is asked for the real path, with all links followed, which must lie in a root; from then on only that real path
is used. What that promises: a path that leads outside by its spelling, or by a link that lies there, is refused.
What it cannot promise: SFTP opens by name, so somebody who changes folders into links on the host at the right moment,
or who runs commands there, is held back by the rights of the remote user alone. Tenants that must be kept apart need
users of their own (or `ChrootDirectory`).

`~` and `$HOME` are names like others: nothing on the way expands them.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tasks.confined import refused
from tasks.droplet.sftp_wire import InvalidAnswer, Refusal, Status
from tasks.droplet.spelling import unspelled
from toolswarm.errors import OperationFailed

_LONGEST_PATH_BYTES = 4095

RealPath = Callable[[bytes], bytes]
"""Asks the server; raises Refusal."""


@dataclass(frozen=True)
class RemotePlace:
    """A name in a folder; the folder's path is real, the name may be a link's."""

    folder: bytes
    name: bytes

    @property
    def path(self) -> bytes:
        """Absolute."""
        return self.beside(self.name)

    def beside(self, name: bytes) -> bytes:
        """The path of another name in the same folder."""
        return (b"" if self.folder == b"/" else self.folder) + b"/" + name


class RemotePaths:
    """The paths of one call on one host; `roots` are the tenant's, as they were configured."""

    def __init__(self, real_path: RealPath, roots: tuple[str, ...]) -> None:
        self._ask = real_path
        self._spelled_roots = tuple(unspelled(root) for root in roots)
        self._real_roots: tuple[bytes, ...] | None = None

    def target(self, path: str) -> bytes:
        """The real path of what a path leads to, links followed. Whether anything is there is not said.

        Raises:
            OperationFailed: `path_refused`, `root_missing`.
            Refusal: the server said no.
        """
        return self.folder(self.meant(path), path)

    def place(self, path: str) -> RemotePlace:
        """The folder of a path, and the name in it: for what makes, moves or removes that name itself.

        Raises:
            OperationFailed: `path_refused`, `root_missing`; also when the path has no last name.
            Refusal: the server said no.
        """
        folder, name = self.split(path)
        return RemotePlace(self.folder(folder, path), name)

    def entry(self, path: str) -> bytes:
        """The path of a thing itself, also when it is a link; of a root, and of `.`, what it leads to.

        Raises:
            OperationFailed: `path_refused`, `root_missing`.
            Refusal: the server said no.
        """
        folder, name = self._parts(path)
        if name in (b"", b".", b".."):
            return self.target(path)
        place = RemotePlace(self._real_or_refused(folder, path), name)
        if self._spelled_roots and not self._is_allowed(place.path):
            return self.target(path)
        return place.path

    def folder(self, folder: bytes, path: str) -> bytes:
        """The real path of bytes that were meant, mostly a folder's; `path` is what the caller spoke of.

        Raises:
            OperationFailed: `path_refused`, `root_missing`.
            Refusal: the server said no.
        """
        real = self._real_or_refused(folder, path)
        self._check(real, path)
        return real

    def split(self, path: str) -> tuple[bytes, bytes]:
        """The folder as it is spelled, and the last name.

        Raises:
            OperationFailed: `path_refused`.
        """
        folder, name = self._parts(path)
        if name in (b"", b".", b".."):
            raise refused(path, "has no name at its end; give the path of one file or folder, and no root")
        return folder, name

    def meant(self, path: str) -> bytes:
        """The bytes of a path, from the login folder or absolute; unresolved.

        Raises:
            OperationFailed: `path_refused`.
        """
        if not path:
            raise refused(path, "is empty; use '.' for the folder that relative paths begin at")
        try:
            raw = unspelled(path)
        except UnicodeEncodeError as error:
            raise refused(path, "has half of a surrogate pair; spell bytes that are no UTF-8 as \\xNN") from error
        if b"\0" in raw:
            raise refused(path, "contains a NUL character")
        if len(raw) > _LONGEST_PATH_BYTES or any(len(name) > 255 for name in raw.split(b"/")):
            raise refused(path, "is too long")
        if self._spelled_roots:
            if b".." in raw.split(b"/"):
                raise refused(path, "contains '..'; give the path without it")
            if not raw.startswith(b"/"):
                raw = self._spelled_roots[0].rstrip(b"/") + b"/" + raw
        return raw

    def check_again(self, real: bytes, path: str) -> None:
        """After something was opened: whether its path has become another one meanwhile.

        Raises:
            OperationFailed: `path_refused`.
            Refusal: the server said no.
        """
        if self._spelled_roots and self._real(real) != real:
            raise refused(path, "was changed into a link while it was opened")

    def _parts(self, path: str) -> tuple[bytes, bytes]:
        folder, slash, name = self.meant(path).rstrip(b"/").rpartition(b"/")
        return folder or slash or b".", name

    def _real(self, path: bytes) -> bytes:
        real = self._ask(path)
        if not real.startswith(b"/") or b".." in real.split(b"/") or len(real) > 2 * _LONGEST_PATH_BYTES:
            raise InvalidAnswer("it does not give a real path")
        return real.rstrip(b"/") or b"/"

    def _real_or_refused(self, folder: bytes, path: str) -> bytes:
        """The real path; what the server says of a path outside the roots is not passed on, be it there or not."""
        try:
            return self._real(folder)
        except Refusal:
            above = folder
            while self._spelled_roots and above not in (b"", b"."):
                above = above.rstrip(b"/").rpartition(b"/")[0]
                with suppress(Refusal):
                    self._check(self._real(above or b"/"), path)
                    break
            raise

    def _check(self, real: bytes, path: str) -> None:
        if self._spelled_roots and not self._is_allowed(real):
            raise refused(path, "leads outside the folders that you may use on this host (droplet.tenants.NAME.roots)")

    def _is_allowed(self, real: bytes) -> bool:
        return any(_is_within(real, root) for root in self._roots())

    def _roots(self) -> tuple[bytes, ...]:
        if self._real_roots is None:
            found = [self._real_root(root) for root in self._spelled_roots]
            self._real_roots = tuple(root for root in found if root is not None)
            if not self._real_roots:
                raise OperationFailed(
                    "none of the folders that you may use is there on this host; check droplet.tenants.NAME.roots",
                    code="root_missing",
                    before_effect=True,
                )
        return self._real_roots

    def _real_root(self, root: bytes) -> bytes | None:
        try:
            return self._real(root)
        except Refusal as refusal:
            if refusal.status == Status.NO_SUCH_FILE:
                return None
            raise


def _is_within(path: bytes, root: bytes) -> bool:
    return path == root or path.startswith(root.rstrip(b"/") + b"/")
