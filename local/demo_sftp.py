"""The files that the demo's remote host shows over SFTP: those of its folder, to read."""

import os
import stat
from typing import BinaryIO

import paramiko
from paramiko.sftp import SFTP_FAILURE, SFTP_NO_SUCH_FILE, SFTP_PERMISSION_DENIED

from tasks.confined import Confined
from toolswarm.errors import OperationFailed

_STATUS: dict[str, int] = {
    "not_found": SFTP_NO_SUCH_FILE,
    "not_a_directory": SFTP_NO_SUCH_FILE,
    "permission": SFTP_PERMISSION_DENIED,
    "path_refused": SFTP_PERMISSION_DENIED,
}


class DemoFiles(paramiko.SFTPServerInterface):
    """Paths are relative to the folder, absolute ones too; none leads out of it."""

    def __init__(self, server: paramiko.ServerInterface, confined: Confined) -> None:
        super().__init__(server)
        self._confined = confined

    def canonicalize(self, path: str) -> str:
        """Paths are made absolute by the client's asking; ours begin at the folder."""
        return os.path.normpath("/" + path)

    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> paramiko.SFTPHandle | int:
        """A regular file, to read."""
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return SFTP_PERMISSION_DENIED
        try:
            with self._confined.open_file(self._inside(path)) as fd:
                return _OpenFile(os.fdopen(os.dup(fd), "rb"))
        except OperationFailed as error:
            return _STATUS.get(error.failure_code, SFTP_FAILURE)

    def stat(self, path: str) -> paramiko.SFTPAttributes | int:
        """What a path is."""
        try:
            with self._confined.open_file(self._inside(path)) as fd:
                return paramiko.SFTPAttributes.from_stat(os.fstat(fd))
        except OperationFailed as error:
            if error.failure_code == "is_a_directory":
                with self._confined.open_folder(self._inside(path)) as fd:
                    return paramiko.SFTPAttributes.from_stat(os.fstat(fd))
            return _STATUS.get(error.failure_code, SFTP_FAILURE)

    def lstat(self, path: str) -> paramiko.SFTPAttributes | int:
        """The same: links are followed within the folder."""
        return self.stat(path)

    def list_folder(self, path: str) -> list[paramiko.SFTPAttributes] | int:
        """The folder's entries."""
        try:
            with self._confined.open_folder(self._inside(path)) as fd:
                found: list[paramiko.SFTPAttributes] = []
                for name in sorted(os.listdir(fd)):
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    if not stat.S_ISLNK(status.st_mode):
                        found.append(paramiko.SFTPAttributes.from_stat(status, name))
                return found
        except OperationFailed as error:
            return _STATUS.get(error.failure_code, SFTP_FAILURE)

    def _inside(self, path: str) -> str:
        return path.lstrip("/") or "."


class _OpenFile(paramiko.SFTPHandle):
    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self.readfile = file

    def stat(self) -> paramiko.SFTPAttributes | int:
        return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))
