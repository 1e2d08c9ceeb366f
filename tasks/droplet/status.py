"""Which hosts there are, and how one is."""

from typing import Annotated

import msgspec
from msgspec import Meta

from tasks.confined import shown
from tasks.droplet.asking import ask
from tasks.droplet.hosts import HostName, Hosts
from tasks.droplet.inventory import not_configured
from tasks.droplet.order import status_line
from tasks.droplet.remembered import GLANCE, HOST
from tasks.operation import Run, operation
from tasks.text import printable
from toolswarm.messages import Effect

_MOST_BYTES = 65_536


class ListedHost(msgspec.Struct, frozen=True, kw_only=True):
    """One host as callers know it."""

    name: str
    address: str
    port: int
    user: str
    """Whom commands run as."""
    groups: tuple[str, ...]
    jump: str | None
    """The host that the connection goes through."""
    is_default: bool
    """Whether it is taken when a call names none."""


class HostList(msgspec.Struct, frozen=True, kw_only=True):
    """The hosts that the caller may use."""

    hosts: tuple[ListedHost, ...]
    groups: dict[str, tuple[str, ...]]
    """Group -> its hosts; only groups that the caller may use as a whole."""


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """One file system."""

    mounted_on: str
    size_bytes: int
    used_bytes: int
    available_bytes: int


class HostStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a host is; what it does not tell is none."""

    host: str
    system: str
    """Kernel, release and machine."""
    uptime_s: float | None
    load: tuple[float, float, float] | None
    """Mean number of runnable processes over 1, 5 and 15 minutes."""
    processors: int | None
    memory_bytes: int | None
    memory_available_bytes: int | None
    disks: tuple[Disk, ...]
    """Where `/` and the home folder lie."""
    untrusted: bool = True


@operation(effect=Effect.READ, time_limit_s=10)
def list_hosts(
    hosts: Hosts,
    attempt: Run,
    *,
    group: Annotated[
        Annotated[str, Meta(min_length=1)] | None, Meta(description="Only hosts of this group.", examples=["web"])
    ] = None,
) -> HostList:
    """List the configured remote hosts.

    The hosts and groups that you may name in other calls, from the operator's settings; no host is connected to.
    """
    allowed = hosts.inventory.allowed(attempt.call.tenant)
    groups = hosts.inventory.allowed_groups(attempt.call.tenant)
    default = hosts.settings.default_host or (next(iter(allowed)) if len(allowed) == 1 else "")
    if group is not None and group not in groups:
        known = f"; there are: {', '.join(sorted(groups))}" if groups else ""
        raise not_configured(f"group {shown(group)} is not configured, or not for you as a whole{known}")
    wanted = allowed if group is None else dict.fromkeys(groups[group])
    return HostList(
        hosts=tuple(
            ListedHost(
                name=name,
                address=entry.address,
                port=entry.port,
                user=entry.user,
                groups=tuple(sorted(group for group, members in groups.items() if name in members)),
                jump=None if entry.jump is None else entry.jump.name,
                is_default=name == default,
            )
            for name, entry in sorted(allowed.items())
            if name in wanted
        ),
        groups=groups,
    )


@operation(effect=Effect.READ, time_limit_s=30, from_context={"host": "host"}, tags=HOST, remember=GLANCE)
def host_status(hosts: Hosts, attempt: Run, *, host: HostName = None) -> HostStatus:
    """Ask a remote host how it is.

    Uptime, load, memory, and the disks that `/` and the home folder lie on, by fixed commands that change nothing.
    What is none or missing, the host does not tell (load and memory come from Linux' `/proc`).
    """
    found = hosts.find(host, attempt)
    attempt.executed_on(found.name)
    answer = ask(hosts, found, attempt, status_line, max_bytes=_MOST_BYTES)
    return _parsed(found.name, printable(answer.stdout))


def _parsed(host: str, text: str) -> HostStatus:
    said: dict[str, str] = {}
    memory: dict[str, int] = {}
    disks: dict[str, Disk] = {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        fields = rest.split(" ", 3)
        if word == "memory" and len(fields) == 2 and fields[1].isdecimal():
            memory[fields[0]] = int(fields[1]) * 1024
        elif word == "disk" and len(fields) == 4 and all(field.isdecimal() for field in fields[:3]):
            size, used, free = (int(field) * 1024 for field in fields[:3])
            disks[fields[3]] = Disk(mounted_on=fields[3], size_bytes=size, used_bytes=used, available_bytes=free)
        else:
            said[word] = rest.strip()
    uptime, load = _numbers(said.get("uptime", "")), _numbers(said.get("load", ""))
    processors = said.get("processors", "")
    return HostStatus(
        host=host,
        system=said.get("uname", ""),
        uptime_s=uptime[0] if uptime else None,
        load=(load[0], load[1], load[2]) if len(load) >= 3 else None,
        processors=int(processors) if processors.isdecimal() else None,
        memory_bytes=memory.get("MemTotal:"),
        memory_available_bytes=memory.get("MemAvailable:"),
        disks=tuple(disks.values()),
    )


def _numbers(text: str) -> list[float]:
    """The numbers that a line starts with."""
    numbers: list[float] = []
    for word in text.split():
        try:
            numbers.append(float(word))
        except ValueError:
            break
    return numbers
