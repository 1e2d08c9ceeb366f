"""The keys a host may show: those that were configured, and no others; nothing is ever learned on the way."""

import base64
import binascii
import os

import paramiko

from store.tool_settings import DropletHost
from toolswarm.errors import OperationFailed

_SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
"""Kind of key -> the algorithms that a server offers it under, where they differ."""


class PinnedKeys:
    """The keys of one host."""

    def __init__(self, host: str, keys: dict[str, bytes]) -> None:
        self._host = host
        self._keys = keys

    @classmethod
    def of(cls, name: str, settings: DropletHost) -> "PinnedKeys":
        """From `host_key`, else from `known_hosts_file`.

        Raises:
            OperationFailed: `host_key` when no key is configured for this host.
        """
        if settings.host_key:
            return cls(name, dict([_parse(name, settings.host_key)]))
        if settings.known_hosts_file:
            found = _look_up(name, settings)
            if found:
                return cls(name, found)
        raise failed(name, f"no key of it is known; set droplet.hosts.{name}.host_key to the key that it should have")

    def algorithms(self) -> tuple[str, ...]:
        """What to negotiate: a server that has other keys too must show the pinned one."""
        return tuple(name for kind in self._keys for name in _SIGNATURES.get(kind, (kind,)))

    def check(self, shown: paramiko.PKey) -> None:
        """Accept exactly a pinned key.

        Raises:
            OperationFailed: `host_key`.
        """
        if self._keys.get(shown.get_name()) != shown.asbytes():
            raise failed(
                self._host,
                f"it shows another key ({shown.fingerprint}) than the pinned one: somebody may be in between; "
                f"if it was really changed, set droplet.hosts.{self._host}.host_key",
            )


def failed(host: str, why: str) -> OperationFailed:
    """The error that never falls back, and is never worked around."""
    return OperationFailed(f"host {host} is not trusted: {why}", code="host_key", before_effect=True, host=host)


def _parse(name: str, line: str) -> tuple[str, bytes]:
    try:
        kind, encoded = line.split()[:2]
        return kind, base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error) as error:
        raise failed(name, f"droplet.hosts.{name}.host_key must be like `ssh-ed25519 AAAA…`") from error


def _look_up(name: str, settings: DropletHost) -> dict[str, bytes]:
    known = paramiko.HostKeys()
    try:
        known.load(os.path.expanduser(settings.known_hosts_file))
    except OSError as error:
        raise failed(name, f"droplet.hosts.{name}.known_hosts_file cannot be read ({error.strerror})") from error
    entry = settings.address if settings.port == 22 else f"[{settings.address}]:{settings.port}"
    found = known.lookup(entry)
    return {} if found is None else {kind: key.asbytes() for kind, key in found.items()}
