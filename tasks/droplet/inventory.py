"""Which hosts there are, how each is reached, and which tenant may use it: decided once, from the settings alone.

What the settings of a host leave out comes from the OpenSSH configuration file, if one is set.
"""

import re
from dataclasses import dataclass, replace

from store.sections import Secret
from store.tool_settings import Droplet, DropletHost, DropletTenant
from tasks.confined import shown
from tasks.droplet.ssh_files import ConfiguredHost, SshConfiguration
from toolswarm.errors import ConfigurationError, OperationFailed

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}", re.ASCII)
_ADDRESS = re.compile(r"[A-Za-z0-9_.:%-]+", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_.@\\$+-]+", re.ASCII)
_PORT = 22
ALL = "*"


@dataclass(frozen=True, kw_only=True)
class HostEntry:
    """One host, and all that is needed to get there."""

    name: str
    address: str
    port: int
    user: str
    key_files: tuple[str, ...]
    key_passphrase: Secret
    agent: bool
    host_key: str
    known_hosts_file: str
    known_as: str
    """Its name in known_hosts."""
    jump: "HostEntry | None"
    """The host that the connection goes through."""


class Inventory:
    """The hosts and groups of the settings.

    Raises:
        ConfigurationError: a name, address or user cannot be one, or names a host that is not there.
    """

    def __init__(self, settings: Droplet) -> None:
        self._settings = settings
        self._ssh = SshConfiguration.read(settings.ssh_config_file) if settings.ssh_config_file else None
        names = (*settings.hosts, *(self._ssh.names if self._ssh is not None else ()))
        self.hosts = {name: self._entry(name, ()) for name in dict.fromkeys(names)}
        self.groups = {group: tuple(dict.fromkeys(members)) for group, members in settings.groups.items()}
        self._check_names()

    def find(self, name: str | None, tenant: str) -> HostEntry:
        """The host of that name, or the default one, if the tenant may use it.

        Raises:
            OperationFailed: `host_not_configured`, `host_not_allowed`.
        """
        allowed = self.allowed(tenant)
        if name is None:
            name = self._default(allowed)
        entry = self.hosts.get(name)
        if entry is None:
            known = f"; configured: {', '.join(sorted(allowed))}" if allowed else ""
            raise not_configured(f"host {shown(name)} is not configured; set droplet.hosts.NAME{known}")
        if name not in allowed:
            raise OperationFailed(
                f"host {name} may not be used by this tenant; its operator can allow it in droplet.tenants",
                code="host_not_allowed",
                before_effect=True,
                host=name,
            )
        return entry

    def find_all(self, names: list[str], tenant: str) -> list[HostEntry]:
        """The hosts that the names of hosts and groups stand for, each once, in that order.

        Raises:
            OperationFailed: `host_not_configured`, `host_not_allowed`: all of them must be there for the tenant.
        """
        spelled = [member for name in names for member in self.groups.get(name, (name,))]
        return [self.find(name, tenant) for name in dict.fromkeys(spelled)]

    def allowed(self, tenant: str) -> dict[str, HostEntry]:
        """The hosts that the tenant may use."""
        rule = self._rule(tenant)
        if rule is None:
            return {} if self._settings.tenants else self.hosts
        hosts = {member for name in rule.hosts for member in self.groups.get(name, (name,))}
        return {
            name: entry
            for name, entry in self.hosts.items()
            if (ALL in hosts or name in hosts) and (not rule.users or entry.user in rule.users)
        }

    def allowed_groups(self, tenant: str) -> dict[str, tuple[str, ...]]:
        """The groups all of whose hosts the tenant may use."""
        allowed = self.allowed(tenant)
        return {group: members for group, members in self.groups.items() if all(name in allowed for name in members)}

    def roots(self, tenant: str) -> tuple[str, ...]:
        """The remote folders that the tenant's file operations stay in; none: wherever the remote user may."""
        rule = self._rule(tenant)
        return () if rule is None else rule.roots

    def _rule(self, tenant: str) -> DropletTenant | None:
        return self._settings.tenants.get(tenant) or self._settings.tenants.get(ALL)

    def _default(self, allowed: dict[str, HostEntry]) -> str:
        default = self._settings.default_host
        if default:
            return default
        if len(allowed) == 1:
            return next(iter(allowed))
        if allowed:
            raise not_configured(f"name a host ({', '.join(sorted(allowed))}), or set droplet.default_host")
        if self.hosts:
            raise not_configured("no remote host may be used by this tenant; its operator can set droplet.tenants")
        raise not_configured("no remote host is configured; set droplet.hosts.NAME (address, user, key_file, host_key)")

    # -- putting an entry together ---------------------------------------------------------------------------

    def _entry(self, name: str, seen: tuple[str, ...]) -> HostEntry:
        where = f"droplet.hosts.{name}"
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"droplet.hosts: {shown(name)} cannot be the name of a host (letters, digits, . _ -)"
            )
        if name in seen:
            raise ConfigurationError(f"{where}.jump leads in a circle: {' -> '.join((*seen, name))}")
        own = self._settings.hosts.get(name, DropletHost())
        ssh = self._ssh.lookup(name) if self._ssh is not None else ConfiguredHost()
        jump = self._jump(own.jump, ssh.jump, (*seen, name))
        address = own.address or ssh.address or name
        port = own.port or ssh.port or _PORT
        return _checked(
            where,
            HostEntry(
                name=name,
                address=address,
                port=port,
                user=own.user or ssh.user,
                key_files=(own.key_file,) if own.key_file else ssh.key_files,
                key_passphrase=own.key_passphrase,
                agent=own.agent,
                host_key=own.host_key,
                known_hosts_file=own.known_hosts_file or ssh.known_hosts_file or self._settings.known_hosts_file,
                known_as=ssh.known_as or (address if port == _PORT else f"[{address}]:{port}"),
                jump=jump,
            ),
        )

    def _jump(self, named: str, spelled: tuple[str, ...], seen: tuple[str, ...]) -> HostEntry | None:
        if named:
            if named not in self._settings.hosts and (self._ssh is None or named not in self._ssh.names):
                raise ConfigurationError(f"droplet.hosts.{seen[-1]}.jump: host {shown(named)} is not configured")
            return self._entry(named, seen)
        before: HostEntry | None = None
        for one in spelled:
            entry = self._spelled_jump(one, seen)
            before = entry if before is None else replace(entry, name=f"{entry.name} via {before.name}", jump=before)
        return before

    def _spelled_jump(self, spelled: str, seen: tuple[str, ...]) -> HostEntry:
        """A `[user@]host[:port]` of ProxyJump; the host may be one of the same file."""
        spelled = spelled.removeprefix("ssh://")
        user, _, place = spelled.rpartition("@")
        host, port = (place, "") if place.count(":") != 1 else tuple(place.split(":"))
        if not _NAME.fullmatch(host) or (port and not port.isdecimal()):
            raise ConfigurationError(f"{self._settings.ssh_config_file}: ProxyJump {shown(spelled)} cannot be used")
        entry = self._entry(host, seen)
        if not user and not port:
            return entry
        number = int(port) if port else entry.port
        known_as = entry.address if number == _PORT else f"[{entry.address}]:{number}"
        changed = replace(entry, name=spelled, user=user or entry.user, port=number, known_as=known_as)
        return _checked(self._settings.ssh_config_file, changed)

    def _check_names(self) -> None:
        settings = self._settings
        for group, members in self.groups.items():
            if not _NAME.fullmatch(group) or group in self.hosts:
                raise ConfigurationError(f"droplet.groups: {shown(group)} cannot be a group's name, or is a host's")
            for name in members:
                self._check_host(name, f"droplet.groups.{group}")
        for tenant, rule in settings.tenants.items():
            for name in rule.hosts:
                if name != ALL and name not in self.groups:
                    self._check_host(name, f"droplet.tenants.{tenant}.hosts")
            for root in rule.roots:
                if not root.startswith("/") or "\0" in root or ".." in root.split("/"):
                    raise ConfigurationError(f"droplet.tenants.{tenant}.roots: {shown(root)} is not an absolute path")
        if settings.default_host:
            self._check_host(settings.default_host, "droplet.default_host")

    def _check_host(self, name: str, where: str) -> None:
        if name not in self.hosts:
            raise ConfigurationError(f"{where} names {shown(name)}, which is not a configured host")


def not_configured(message: str) -> OperationFailed:
    """The operator has to set something first."""
    return OperationFailed(message, code="host_not_configured", before_effect=True)


def _checked(where: str, entry: HostEntry) -> HostEntry:
    for field, text, pattern in (("address", entry.address, _ADDRESS), ("user", entry.user, _USER)):
        if text and (not pattern.fullmatch(text) or text.startswith("-")):
            raise ConfigurationError(f"{where}.{field}: {shown(text)} cannot be one")
    if not 0 < entry.port < 65_536:
        raise ConfigurationError(f"{where}.port: {entry.port} is not a port")
    for field, path in (
        ("known_hosts_file", entry.known_hosts_file),
        *(("key_file", file) for file in entry.key_files),
    ):
        if "\0" in path or "\n" in path:
            raise ConfigurationError(f"{where}.{field}: {shown(path)} is not a usable path")
    return entry
