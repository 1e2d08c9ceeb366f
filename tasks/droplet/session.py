"""One piece of work on a connection: a channel for a command or for SFTP (see tasks/droplet/pool.py)."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import paramiko

from tasks.droplet.inventory import HostEntry

OPEN_TIMEOUT_S = 3.0
"""A connection that does not open a channel in this time is taken for dead."""
_TELL_TIMEOUT_S = 10.0
_TICK_S = 0.05
LOST = (paramiko.SSHException, EOFError, OSError)
"""What paramiko raises when the connection is gone."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A fresh connection, and how to end it together with the way to it."""

    transport: paramiko.Transport
    hang_up: Callable[[], None]


@dataclass(eq=False, kw_only=True)
class Connection:
    """A connection in the pool; only the pool changes it, under its lock."""

    opened: Opened
    used_at: float
    room: int
    """How many channels may be open at a time."""
    crowded_until: float = 0.0
    """Until then `room` is what the server has shown to take; then it is tried again."""
    channels: int = 0
    """In use, without the idle one."""
    tunnels: int = 0
    idle: tuple[paramiko.Channel, object | None] | None = None
    """A channel that speaks SFTP, and the state that was left with it."""
    retired: bool = False
    reserve: threading.Lock = field(default_factory=threading.Lock)

    @property
    def transport(self) -> paramiko.Transport:
        """The connection itself."""
        return self.opened.transport

    @property
    def unused(self) -> bool:
        """Whether nobody is on it."""
        return self.channels == 0 and self.tunnels == 0


class Owner(Protocol):
    """The pool, as a session sees it."""

    @property
    def host(self) -> HostEntry:
        """Where its connections lead."""
        ...

    def retire(self, connection: Connection) -> None:
        """Give the connection to nobody any more."""
        ...


class Session:
    """One channel for one piece of work."""

    def __init__(self, owner: Owner, connection: Connection, channel: paramiko.Channel) -> None:
        self._owner = owner
        self._connection = connection
        self.host = owner.host
        self.channel = channel

    def is_connected(self) -> bool:
        """Whether the host still answers on this connection, asked just now; a dead one is taken out of use."""
        try:
            self._connection.transport.open_session(timeout=OPEN_TIMEOUT_S).close()
        except paramiko.ChannelException:
            return True  # it said no
        except LOST:
            self._owner.retire(self._connection)
            return False
        return True

    def say(self, command: str) -> tuple[int, bytes] | None:
        """Run a short command on this channel: exit code and output; None when it cannot be told."""
        return _said(self.channel, command)

    def tell(self, command: str) -> tuple[int, bytes] | None:
        """The same on the channel that is kept for it, beside what this one is used for."""
        give_up_at = time.monotonic() + OPEN_TIMEOUT_S
        if not self._connection.reserve.acquire(timeout=_TELL_TIMEOUT_S):
            return None
        try:
            channel = self._reserved(give_up_at)
            if channel is None:
                return None
            try:
                return _said(channel, command)
            finally:
                close_quietly(channel)
        finally:
            self._connection.reserve.release()

    def _reserved(self, give_up_at: float) -> paramiko.Channel | None:
        while True:
            try:
                return self._connection.transport.open_session(timeout=OPEN_TIMEOUT_S)
            except paramiko.ChannelException:  # too many just now: a server notices late that one was closed
                if time.monotonic() > give_up_at:
                    return None
                time.sleep(_TICK_S)
            except LOST:
                return None


class SftpSession(Session):
    """A channel that speaks SFTP, for one piece of work."""

    def __init__(self, owner: Owner, connection: Connection, channel: paramiko.Channel, state: object | None) -> None:
        super().__init__(owner, connection, channel)
        self.state = state
        """What the last piece of work on this channel has left for the next one; None on a fresh channel."""
        self.kept = False

    def keep(self) -> None:
        """The channel is good for the next piece of work, whatever happens now: no answer is open."""
        self.kept = True


def close_quietly(channel: paramiko.Channel) -> None:
    """Close it; when the connection is gone, it went with it."""
    with suppress(*LOST):
        channel.close()


def _said(channel: paramiko.Channel, command: str) -> tuple[int, bytes] | None:
    try:
        channel.settimeout(_TELL_TIMEOUT_S)
        channel.exec_command(command)
        output = b"".join(iter(lambda: channel.recv(4096), b""))
        ended = channel.status_event.wait(_TELL_TIMEOUT_S) and channel.exit_status >= 0
    except LOST:
        return None
    return (channel.exit_status, output) if ended else None
