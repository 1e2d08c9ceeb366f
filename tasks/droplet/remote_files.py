"""The files of one host during one call: an SFTP channel, the tenant's roots, and errors that say what to do."""

import errno
from collections.abc import Generator
from contextlib import contextmanager, suppress

from tasks.confined import failure, refused, shown
from tasks.droplet.hosts import Hosts
from tasks.droplet.remote_paths import RemotePaths, RemotePlace
from tasks.droplet.session import SftpSession
from tasks.droplet.sftp import Sftp
from tasks.droplet.sftp_exchange import Lost
from tasks.droplet.sftp_wire import Attributes, InvalidAnswer, Refusal, Status
from tasks.droplet.work import Work
from tasks.text import printable
from toolswarm.errors import OperationFailed

_ENDED = ("time_limit", "stopped")
_REFUSALS: dict[int, tuple[str, str]] = {
    Status.NO_SUCH_FILE: ("not_found", "there is no {path} on host {host}; list the folder above it"),
    Status.PERMISSION_DENIED: (
        "permission",
        "{path} on host {host} may not be used by the remote user; change its mode or owner, or the user",
    ),
    Status.BAD_MESSAGE: ("path_refused", "{path} is not a usable name on host {host}"),
    Status.OP_UNSUPPORTED: ("unsupported", "the SFTP server of host {host} cannot do this with {path}"),
}


class RemoteFiles:
    """What the file operations work with."""

    def __init__(self, host: str, sftp: Sftp, work: Work, *, roots: tuple[str, ...]) -> None:
        self.host = host
        self.sftp = sftp
        self.work = work
        self.paths = RemotePaths(sftp.real_path, roots)

    def target(self, path: str) -> bytes:
        """The real path of what a path leads to.

        Raises:
            OperationFailed: `path_refused`, `not_found`, …
        """
        with self.speaking_of(path):
            return self.paths.target(path)

    def place(self, path: str) -> RemotePlace:
        """The folder, and the name in it that is to be made, moved or removed.

        Raises:
            OperationFailed: `path_refused`, `not_found`, …
        """
        with self.speaking_of(path):
            return self.paths.place(path)

    def found(self, real: bytes, path: str, *, follow: bool = False) -> Attributes | None:
        """What is there; None: nothing."""
        with self.speaking_of(path):
            try:
                return self.sftp.stat(real, follow=follow)
            except Refusal as refusal:
                if refusal.status == Status.NO_SUCH_FILE:
                    return None
                raise

    def file_at(self, place: RemotePlace, path: str) -> Attributes | None:
        """The regular file at a place that is to be written; None: nothing is there.

        Raises:
            OperationFailed: `is_a_directory`, `path_refused` for a link, a device or a FIFO.
        """
        present = self.found(place.path, path)
        if present is not None:
            self.check_file(present, path)
        return present

    def check_file(self, attributes: Attributes, path: str) -> None:
        """Go on with a regular file only: to open a FIFO would hold up the whole session.

        Raises:
            OperationFailed: `is_a_directory`, `path_refused`.
        """
        if attributes.kind == "directory":
            raise failure(IsADirectoryError(errno.EISDIR, ""), path)
        if attributes.kind == "symlink":
            raise refused(path, "is a symbolic link, which is not written through; name its target")
        if attributes.kind != "file":
            raise refused(path, "is not a regular file (a device, a FIFO or a socket)")

    @contextmanager
    def speaking_of(self, path: str) -> Generator[None, None, None]:
        """What the server refuses in here is about this path."""
        try:
            yield
        except Refusal as refusal:
            raise self.refusal(refusal, path) from refusal

    def refusal(self, refusal: Refusal, path: str) -> OperationFailed:
        """What an operation says of a refusal."""
        code, sentence = _REFUSALS.get(
            refusal.status, ("input_output", "host {host} could not do it with {path}; look at it there")
        )
        text = sentence.format(path=shown(path), host=self.host)
        if code == "not_found" and path.startswith("~"):
            text += "; '~' is a name like others: relative paths begin at the login folder"
        return OperationFailed(
            text,
            code=code,
            before_effect=not self.work.begun,
            host=self.host,
            path=path[:200],
            said=printable(str(refusal).encode("utf-8", "replace"))[:200],
        )

    @contextmanager
    def cleaning_up(self) -> Generator[None, None, None]:
        """Something that is tried whatever happened, and that changes nothing about the outcome."""
        with suppress(Refusal, Lost, InvalidAnswer), self.sftp.last_words(self.work.reserve_s):
            yield


@contextmanager
def remote_files(hosts: Hosts, work: Work, host: str | None) -> Generator[RemoteFiles, None, None]:
    """The files of a host that the call's tenant may use.

    Raises:
        OperationFailed: `host_not_configured`, `host_unreachable`, `connection_lost`, …
    """
    entry = hosts.find(host, work.run)
    work.run.executed_on(entry.name)
    failed: OperationFailed | None = None
    decided = False
    try:
        with hosts.sftp(entry, work.run) as session:
            sftp = _speaking(session, work)
            files = RemoteFiles(entry.name, sftp, work, roots=hosts.roots(work.run))
            try:
                yield files
            except OperationFailed as error:
                if error.failure_code in _ENDED or not sftp.is_sound:
                    raise
                failed = error  # of the operation, not of the channel: that one is as good as before
            except Refusal as refusal:
                failed = files.refusal(refusal, ".")
            except Lost:
                session.is_connected()  # takes a dead connection out of use
                raise
            decided = True
            with sftp.last_words(work.reserve_s):
                sftp.settle()
    except Lost as error:
        if not decided:
            raise _lost(entry.name, str(error), begun=work.begun) from error
    except InvalidAnswer as error:
        if not decided:
            raise _invalid(entry.name, str(error), begun=work.begun) from error
    if failed is not None:
        raise failed


def _speaking(session: SftpSession, work: Work) -> Sftp:
    sftp = session.state
    if isinstance(sftp, Sftp):
        sftp.go_on(work.check)
        return sftp
    sftp = Sftp(session.channel, work.check)
    sftp.greet()
    session.state = sftp
    return sftp


def _lost(host: str, why: str, *, begun: bool) -> OperationFailed:
    advice = "it may have been done: look before you repeat it" if begun else "nothing was changed; try again"
    return OperationFailed(
        f"the connection to host {host} was lost ({why}); {advice}",
        code="connection_lost",
        retryable=True,
        before_effect=not begun,
        host=host,
    )


def _invalid(host: str, why: str, *, begun: bool) -> OperationFailed:
    return OperationFailed(
        f"the SFTP server of host {host} breaks the protocol: {why}; have its operator look at it",
        code="invalid_answer",
        before_effect=not begun,
        host=host,
    )
