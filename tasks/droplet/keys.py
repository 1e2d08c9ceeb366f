"""The keys that we log in with: from files, read once, and from the worker's SSH agent; no agent is ever forwarded."""

import os
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import paramiko

from tasks.droplet.inventory import HostEntry, not_configured
from toolswarm.errors import OperationFailed


class KeyRing:
    """Keys of this process; a file is read again when it has changed (to decrypt one takes half a second)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: dict[tuple[str, int], paramiko.PKey] = {}

    @contextmanager
    def keys(self, entry: HostEntry) -> Generator[Iterator[paramiko.PKey], None, None]:
        """The keys to try for a host, in order: its files, then the agent's.

        Raises:
            OperationFailed: `host_not_configured` when there is none, or a file cannot be used.
        """
        files = [self._from_file(entry, file) for file in _present(entry)]
        if not files and not entry.agent:
            raise not_configured(
                f"host {entry.name} has no key to log in with; set droplet.hosts.{entry.name}.key_file"
            )
        agent: list[paramiko.Agent] = []

        def each() -> Iterator[paramiko.PKey]:
            yield from files
            if entry.agent:
                agent.append(_agent(entry))
                yield from agent[0].get_keys()

        try:
            yield each()
        finally:
            for opened in agent:
                opened.close()

    def _from_file(self, entry: HostEntry, file: str) -> paramiko.PKey:
        setting = f"droplet.hosts.{entry.name}.key_file"
        try:
            version = os.stat(file).st_mtime_ns
        except OSError as error:
            raise not_configured(f"{setting} cannot be read ({error.strerror})") from error
        with self._lock:
            if (file, version) not in self._read:
                self._read[file, version] = _load(entry, file, setting)
            return self._read[file, version]


def _present(entry: HostEntry) -> list[str]:
    """Of several files those that are there, as OpenSSH does it; a single one has to be."""
    files = [os.path.expanduser(file) for file in entry.key_files]
    return files if len(files) == 1 and not entry.agent else [file for file in files if Path(file).exists()]


def _load(entry: HostEntry, file: str, setting: str) -> paramiko.PKey:
    passphrase = entry.key_passphrase.reveal().encode() if entry.key_passphrase else None
    try:
        return paramiko.PKey.from_path(file, cast("str", passphrase))  # it wants bytes, whatever it says
    except OSError as error:
        raise not_configured(f"{setting} cannot be read ({error.strerror})") from error
    except (paramiko.PasswordRequiredException, TypeError) as error:
        if passphrase is None:
            raise not_configured(f"{setting} is encrypted; set droplet.hosts.{entry.name}.key_passphrase") from error
        raise _not_a_key(setting) from None
    except (paramiko.SSHException, ValueError) as error:
        if passphrase is not None:
            raise not_configured(
                f"{setting} cannot be opened with droplet.hosts.{entry.name}.key_passphrase"
            ) from None  # no word of what was tried
        raise _not_a_key(setting) from error


def _not_a_key(setting: str) -> OperationFailed:
    return not_configured(f"{setting} is not a private key in OpenSSH's format")


def _agent(entry: HostEntry) -> paramiko.Agent:
    try:
        return paramiko.Agent()
    except (paramiko.SSHException, OSError) as error:
        raise not_configured(
            "the SSH agent of the worker does not answer; check SSH_AUTH_SOCK, or set "
            f"droplet.hosts.{entry.name}.key_file"
        ) from error
