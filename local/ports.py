"""Choosing a TCP port: the wanted one, or the next free one with a word on who holds the wanted one."""

import errno
import os
import socket
from collections.abc import Collection
from pathlib import Path

import msgspec

from local.processes import command_of
from toolswarm.errors import ConfigurationError

_LISTEN = "0A"
_STEPS = 100


class PortChoice(msgspec.Struct, frozen=True):
    """The port to use, and a sentence when it is not the one that was wanted."""

    port: int
    note: str = ""


def choose_port(host: str, wanted: int, taken: Collection[int] = ()) -> PortChoice:
    """The first free port from `wanted` on, leaving out those in `taken`.

    Raises:
        ConfigurationError: no port near it is free, or the host is not an address of this machine.
    """
    for port in range(wanted, min(wanted + _STEPS, 65536)):
        if port not in taken and is_free(host, port):
            if port == wanted:
                return PortChoice(port)
            holder = f" by {name}" if (name := holder_of(wanted)) else ""
            reason = "taken by another service" if wanted in taken else f"held{holder}"
            return PortChoice(port, f"port {wanted} is {reason}; using {port}")
    raise ConfigurationError(f"no free port from {wanted} to {wanted + _STEPS - 1} on {host}", port=wanted)


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on the port now.

    Raises:
        ConfigurationError: the host is not an address of this machine, or the port needs privileges.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror or error}", port=port) from error
    return True


def holder_of(port: int) -> str:
    """Who listens on the port, as `python -m http.server (pid 42)`; empty when the kernel does not tell us."""
    inodes = _listening_inodes(port)
    if not inodes:
        return ""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for name in filter(str.isdigit, os.listdir("/proc")):
        if _holds(int(name), wanted):
            command = command_of(int(name))
            shown = command if len(command) <= 60 else command[:59] + "…"
            return f"{shown or 'a process'} (pid {name})"
    return "a process of another user"


def _holds(pid: int, sockets: set[str]) -> bool:
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False  # another user's, or it ended
    for descriptor in descriptors:
        try:
            if os.readlink(f"/proc/{pid}/fd/{descriptor}") in sockets:
                return True
        except OSError:
            continue  # closed while we looked
    return False


def _listening_inodes(port: int) -> set[str]:
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue  # no such kernel: then we cannot name the holder
        for fields in map(str.split, lines):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes
