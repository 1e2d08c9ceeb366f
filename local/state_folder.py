"""The folder that remembers a system on this machine: its lock, its keys, its logs, and where it can be reached.

| file | what |
|---|---|
| `lock` | held (flock) by the supervisor while it lives; holds its process id |
| `broker/` | the broker's append-only file; `broker/lock` is held by the broker process itself |
| `logs/SERVICE.log` | what a service said |
| `services.json` | the supervisor's snapshot |
| `endpoint.json` | where clients find the gateway; gone when it is stopped |
| `api_key`, `signing_key.pem`, `signing_key.pub.pem` | made once |
"""

import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from local.snapshot import Endpoint, Snapshot
from toolswarm.errors import ConfigurationError

_SOCKET_PATH_MOST_BYTES = 103
"""What the kernels' socket addresses hold (macOS: 104 with the closing zero)."""
_LOG_MOST_BYTES = 10 * 1024 * 1024


class AlreadyLocked(ConfigurationError):
    """Another process holds the lock; `details["pid"]` names it when it is known."""


class StateFolder:
    """The paths in the folder, and the few files that are written in one step."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.logs = self.path / "logs"
        self.broker = self.path / "broker"
        self.endpoint_file = self.path / "endpoint.json"
        self.services_file = self.path / "services.json"
        self.api_key_file = self.path / "api_key"
        self._lock_file = self.path / "lock"
        self._sockets: Path | None = None

    def create(self) -> None:
        """Make the folder and its parts, for their owner alone."""
        for folder in (self.path, self.logs, self.broker):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def lock(self) -> int:
        """Take the lock for the life of this process; the descriptor keeps it.

        Raises:
            AlreadyLocked: a supervisor runs.
        """
        descriptor = _take_lock(self._lock_file)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())
        return descriptor

    def lock_broker(self) -> int:
        """Take the lock that keeps two servers off one append-only file; the broker inherits the descriptor.

        Raises:
            AlreadyLocked: a broker of an earlier supervisor has not ended yet.
        """
        return _take_lock(self.broker / "lock")

    def running_pid(self) -> int | None:
        """The process id of the supervisor, if one runs."""
        try:
            descriptor = os.open(self._lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.read(descriptor, 32) or b"0")
        finally:
            os.close(descriptor)
        return None

    def read_snapshot(self) -> Snapshot | None:
        """The supervisor's last words on its services; trust it only while one runs."""
        try:
            return msgspec.json.decode(self.services_file.read_bytes(), type=Snapshot)
        except FileNotFoundError:
            return None

    def write_snapshot(self, snapshot: Snapshot) -> None:
        """Replace `services.json`."""
        _replace(self.services_file, msgspec.json.format(msgspec.json.encode(snapshot), indent=2))

    def write_endpoint(self, endpoint: Endpoint) -> None:
        """Tell clients on this machine where the gateway is."""
        _replace(self.endpoint_file, msgspec.json.format(msgspec.json.encode(endpoint), indent=2))

    def remove_endpoint(self) -> None:
        """Tell them that it is gone."""
        self.endpoint_file.unlink(missing_ok=True)

    def rotate_logs(self) -> None:
        """Set aside each log that has grown beyond 10 MiB; one older log is kept."""
        for log in self.logs.glob("*.log"):
            if log.stat().st_size > _LOG_MOST_BYTES:
                log.replace(log.with_suffix(".log.1"))

    def socket_folder(self, environ: Mapping[str, str]) -> Path:
        """A private folder with a path short enough for sockets; its name follows from this folder's path.

        Raises:
            ConfigurationError: somebody else made a folder of that name.
        """
        name = hashlib.sha256(str(self.path).encode()).hexdigest()[:8]
        runtime = environ.get("XDG_RUNTIME_DIR", "")
        candidates = [Path(runtime) / "toolswarm" / name] if runtime and _is_private(Path(runtime)) else []
        candidates.append(Path(f"/tmp/toolswarm-{os.getuid()}-{name}"))  # noqa: S108  # made private and checked below
        folder = next(path for path in candidates if len(os.fsencode(path)) + 12 <= _SOCKET_PATH_MOST_BYTES)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(folder):
            raise ConfigurationError(f"{folder} belongs to somebody else or is open to others; remove it")
        self._sockets = folder
        return folder

    def remove_socket_folder(self) -> None:
        """Remove the folder of sockets that was made for this system, when no server uses it any more."""
        if self._sockets is None:
            return
        shutil.rmtree(self._sockets)
        self._sockets = None


def _is_private(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def _take_lock(file: Path) -> int:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode().strip()
        os.close(descriptor)
        raise AlreadyLocked(f"{file} is held by process {holder or '?'}", pid=int(holder or 0)) from error
    return descriptor


def _replace(file: Path, content: bytes) -> None:
    """Write a file in one step: readers see the old content or the new."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(file)
