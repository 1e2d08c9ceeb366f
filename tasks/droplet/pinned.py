"""The keys a host may show: those that were configured, and no others; nothing is ever learned on the way."""

import base64
import binascii
import hashlib
from dataclasses import dataclass

import paramiko

from tasks.droplet.inventory import HostEntry
from tasks.droplet.known_hosts import read_known_hosts
from toolswarm.errors import OperationFailed

_SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
"""Kind of key -> the algorithms that a server offers it under, where they differ."""
_KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
_FINGERPRINT = "SHA256:"


@dataclass(frozen=True, kw_only=True)
class _Pin:
    kind: str
    """Empty: any."""
    key: bytes = b""
    sha256: bytes = b""

    def accepts(self, shown: paramiko.PKey) -> bool:
        raw = shown.asbytes()
        if self.kind and self.kind != shown.get_name():
            return False
        return raw == self.key if self.key else hashlib.sha256(raw).digest() == self.sha256


class PinnedKeys:
    """The keys of one host."""

    def __init__(self, host: str, pins: list[_Pin], revoked: frozenset[bytes] = frozenset()) -> None:
        self._host = host
        self._pins = pins
        self._revoked = revoked

    @classmethod
    def of(cls, entry: HostEntry) -> "PinnedKeys":
        """From `host_key`, else from the known_hosts file.

        Raises:
            OperationFailed: `host_key` when no key is configured for this host.
        """
        name = entry.name
        if entry.host_key.strip():
            return cls(name, [_parse(name, line) for line in entry.host_key.splitlines() if line.strip()])
        if not entry.known_hosts_file:
            raise failed(
                name, f"no key of it is known; set droplet.hosts.{name}.host_key to the key that it should have"
            )
        try:
            known = read_known_hosts(entry.known_hosts_file, entry.known_as)
        except OSError as error:
            raise failed(name, f"its known_hosts file cannot be read ({error.strerror})") from error
        pins = [_Pin(kind=kind, key=key) for kind, key in known.trusted if key not in known.revoked]
        if not pins:
            raise failed(
                name,
                f"no key of it is known: its known_hosts file has none for {entry.known_as}; add the key that it "
                f"should have there, or set droplet.hosts.{name}.host_key",
            )
        return cls(name, pins, known.revoked)

    def algorithms(self) -> tuple[str, ...]:
        """What to negotiate: a server that has other keys too must show the pinned one."""
        named = {pin.kind for pin in self._pins}
        kinds = _KINDS if "" in named else [kind for kind in _KINDS if kind in named] or sorted(named)
        return tuple(name for kind in kinds for name in _SIGNATURES.get(kind, (kind,)))

    def check(self, shown: paramiko.PKey) -> None:
        """Accept exactly a pinned key.

        Raises:
            OperationFailed: `host_key`.
        """
        if shown.asbytes() in self._revoked:
            raise failed(self._host, f"it shows a key that was revoked ({shown.fingerprint})")
        if not any(pin.accepts(shown) for pin in self._pins):
            raise failed(
                self._host,
                f"it shows another key ({shown.get_name()} {shown.fingerprint}) than the pinned one: somebody may be "
                f"in between; if it was really changed, set droplet.hosts.{self._host}.host_key",
            )


def failed(host: str, why: str) -> OperationFailed:
    """The error that never falls back, and is never worked around."""
    return OperationFailed(f"host {host} is not trusted: {why}", code="host_key", before_effect=True, host=host)


def _parse(name: str, line: str) -> _Pin:
    fields = line.split()
    kind = fields[0] if len(fields) > 1 and not fields[0].startswith(_FINGERPRINT) else ""
    encoded = fields[1] if kind else fields[0]
    digest = encoded.removeprefix(_FINGERPRINT)
    unusable = failed(name, f"droplet.hosts.{name}.host_key must be like `ssh-ed25519 AAAA…` or `SHA256:…`")
    try:
        raw = base64.b64decode(encoded if digest == encoded else digest + "=", validate=True)
    except (ValueError, binascii.Error) as error:
        raise unusable from error
    if digest == encoded and kind:
        return _Pin(kind=kind, key=raw)
    if digest != encoded and len(raw) == hashlib.sha256().digest_size:
        return _Pin(kind=kind, sha256=raw)
    raise unusable
