"""Reading an OpenSSH client configuration: what it says of a host, for what the tool's own settings leave out.

Taken: Host, Match (but `exec`), HostName, User, Port, IdentityFile, ProxyJump, UserKnownHostsFile, HostKeyAlias.
A file that would have us run a program or read another file is refused, not half obeyed.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko

from toolswarm.errors import ConfigurationError

_REFUSED = re.compile(
    r"^[ \t]*(?:(match)\b[^\n]*\b(?:exec|localnetwork)\b"
    r"|(proxycommand|include|canonicalizehostname)\b(?!\s*=?\s*(?:no|none)\s*$))",
    re.IGNORECASE | re.MULTILINE,
)
_NONE = ("", "none")


@dataclass(frozen=True, kw_only=True)
class ConfiguredHost:
    """What the file says of one host; empty where it says nothing."""

    address: str = ""
    user: str = ""
    port: int = 0
    key_files: tuple[str, ...] = ()
    jump: tuple[str, ...] = ()
    """`[user@]host[:port]`, in the order in which they are gone through."""
    known_hosts_file: str = ""
    known_as: str = ""


class SshConfiguration:
    """A file that was read."""

    def __init__(self, file: Path, parsed: paramiko.SSHConfig) -> None:
        self._file = file
        self._parsed = parsed
        self.names = tuple(sorted(name for name in parsed.get_hostnames() if not set(name) & set("*?!")))
        """The hosts that it names outright."""

    @classmethod
    def read(cls, file: str) -> "SshConfiguration":
        """Read and check the file.

        Raises:
            ConfigurationError: it cannot be read, or asks for something that is not done here.
        """
        path = Path(os.path.expanduser(file))
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"droplet.ssh_config_file: {path} cannot be read") from error
        if refused := _REFUSED.search(text):
            what = refused.group(1) or refused.group(2)
            raise ConfigurationError(f"droplet.ssh_config_file: {path} uses {what}, which is not done; leave it out")
        try:
            return cls(path, paramiko.SSHConfig.from_text(text))
        except paramiko.ConfigParseError as error:
            raise ConfigurationError(f"droplet.ssh_config_file: {path} is not valid: {error}") from error

    def lookup(self, name: str) -> ConfiguredHost:
        """What the file says of a host, by the name that is used for it."""
        said: dict[str, Any] = dict(self._parsed.lookup(name))
        port = str(said.get("port", "0"))
        if not port.isdecimal():
            raise ConfigurationError(f"droplet.ssh_config_file: Port {port!r} of host {name} is not a number")
        jump = str(said.get("proxyjump") or "")
        known_hosts = str(said.get("userknownhostsfile") or "").split()
        return ConfiguredHost(
            address=str(said.get("hostname") or ""),
            user=str(said.get("user") or ""),
            port=int(port),
            key_files=tuple(said.get("identityfile") or ()),
            jump=() if jump.lower() in _NONE else tuple(part.strip() for part in jump.split(",")),
            known_hosts_file=known_hosts[0] if known_hosts else self._beside(),
            known_as=str(said.get("hostkeyalias") or ""),
        )

    def _beside(self) -> str:
        """As OpenSSH does it: the file of that name in the same folder."""
        file = self._file.with_name("known_hosts")
        return str(file) if file.is_file() else ""
