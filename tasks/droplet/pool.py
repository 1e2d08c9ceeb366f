"""The connections to one host, shared by what this process does there.

Operations come here through `Hosts` (tasks/droplet/hosts.py), whose interface this is:

```python
host = hosts.find(name, attempt)                     # a HostEntry that the call's tenant may use, or OperationFailed
roots = hosts.roots(attempt)                         # remote folders that the tenant's file operations stay in
with hosts.session(host, attempt) as session:        # a fresh channel, for one command
    session.channel.exec_command(line)
with hosts.sftp(host, attempt) as files:             # a channel that speaks SFTP, and that nobody else uses meanwhile
    files.state = files.state or greet(files.channel)
```

Both wait for a free channel, connect when needed, and see that the connection is alive; they wait no longer than
`timeout_s` (default: the attempt's remaining time) and look at `attempt.stop_requested()`. What they raise themselves
is raised before anything was begun: `host_busy`, `host_unreachable`, `host_key`, `authentication`, `stopped`. Both
give a `Session`'s `host` (the entry), `is_connected()` (asks the host; a dead connection is taken out of use) and
`tell(command)` (a short command on a channel kept for it). An SFTP channel is kept for the next one, with the `state`
that was left with it (None on a fresh one: nobody has greeted the server yet), unless the block was left by an
exception: then it is closed, since an answer may still be on its way. Say `files.keep()` before an exception that
leaves no answer open (the server said no).

How many: a server takes ten sessions a connection and notices late that one was closed, so a connection carries
`CHANNELS` at a time and one more for `tell`. When all are in use the next connection is made, up to the limit;
connections that nobody has used for `idle_s` are closed by the next `expire`.
"""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

import paramiko

from tasks.droplet.connect import unreachable
from tasks.droplet.dialling import Dial, again, busy, check, dialled, pause
from tasks.droplet.inventory import HostEntry
from tasks.droplet.patience import Patience
from tasks.droplet.session import LOST, OPEN_TIMEOUT_S, Connection, Session, SftpSession, close_quietly
from toolswarm.errors import OperationFailed

T = TypeVar("T")

CHANNELS = 5
"""With the one for `tell` six: see above."""
_REFUSED = (2, 4)
"""`connect failed`, `resource shortage`: the server has too many channels open just now."""
_CROWDED_S = 1.0
_HANDSHAKES = 3
"""At a time: servers drop who knocks when ten are at the door (MaxStartups)."""
_PROBE_AFTER_S = 5.0
"""After so long without use a kept channel is not trusted before its host has answered."""
_TICK_S = 0.05


class HostPool:
    """The connections to one host; `dial` makes another one in the seconds that it is given."""

    def __init__(
        self,
        host: HostEntry,
        *,
        dial: Dial,
        connect_timeout_s: float,
        connections: int,
        idle_s: float,
    ) -> None:
        self.host = host
        self._dial = dial
        self._connect_timeout_s = connect_timeout_s
        self._most = connections
        self._idle_s = idle_s
        self._changed = threading.Condition()
        self._connections: list[Connection] = []
        self._connecting = 0
        self._waiting = 0
        self._failed: tuple[float, OperationFailed] | None = None

    @contextmanager
    def session(self, patience: Patience) -> Generator[Session, None, None]:
        """A fresh channel on a connection that answers."""
        connection, channel = self._open(patience, self._session_channel)
        try:
            yield Session(self, connection, channel)
        finally:
            close_quietly(channel)
            self._give_back(connection)

    @contextmanager
    def sftp(self, patience: Patience) -> Generator[SftpSession, None, None]:
        """A channel that speaks SFTP on a connection that answers."""
        connection, (channel, state) = self._open(patience, self._sftp_channel)
        files = SftpSession(self, connection, channel, state)
        try:
            yield files
            files.keep()
        finally:
            self._give_back(connection, files)

    @contextmanager
    def tunnel(self, patience: Patience, address: tuple[str, int]) -> Generator[paramiko.Channel, None, None]:
        """A TCP connection from this host to `address`; servers do not count it as a session."""

        def ask(connection: Connection) -> paramiko.Channel:
            limit_s = max(0.1, min(self._connect_timeout_s, patience.remaining_s()))
            try:
                return connection.transport.open_channel("direct-tcpip", address, ("127.0.0.1", 0), timeout=limit_s)
            except paramiko.ChannelException as error:
                raise unreachable(f"{address[0]}:{address[1]}", f"host {self.host.name} does not get there") from error

        connection, channel = self._open(patience, ask, tunnel=True)
        try:
            yield channel
        finally:
            close_quietly(channel)
            self._give_back(connection, tunnel=True)

    @property
    def connections(self) -> int:
        """How many there are just now."""
        with self._changed:
            return len(self._connections)

    def retire(self, connection: Connection) -> None:
        """Give the connection to nobody any more; who is still on it may finish."""
        with self._changed:
            connection.retired = True
            if connection in self._connections:
                self._connections.remove(connection)
            unused = connection.unused
            self._changed.notify_all()
        if unused:
            connection.opened.hang_up()

    def expire(self, now: float) -> bool:
        """Close what was idle for too long by the monotonic clock; whether anything is left."""
        with self._changed:
            old = [
                connection
                for connection in self._connections
                if connection.unused and now - connection.used_at > self._idle_s
            ]
            for connection in old:
                connection.retired = True
                self._connections.remove(connection)
            left = bool(self._connections) or self._connecting > 0
        for connection in old:
            connection.opened.hang_up()
        return left

    def close(self) -> None:
        """Hang up at once; bears being called twice."""
        with self._changed:
            connections, self._connections = self._connections, []
            for connection in connections:
                connection.retired = True
        for connection in connections:
            connection.opened.hang_up()

    # -- taking and giving back ------------------------------------------------------------------------------

    def _open(
        self, patience: Patience, ask: Callable[[Connection], T], *, tunnel: bool = False
    ) -> tuple[Connection, T]:
        wait_s = 0.02
        while True:
            connection, fresh = self._take(patience, tunnel=tunnel)
            try:
                return connection, ask(connection)
            except paramiko.ChannelException as error:
                self._give_back(connection, tunnel=tunnel)
                if error.code not in _REFUSED:
                    raise busy(self.host.name, "it refuses every channel") from error
                self._crowded(connection)
                pause(wait_s, patience, self.host.name)
                wait_s = min(1.0, 2 * wait_s)
            except LOST as error:
                self.retire(connection)
                self._give_back(connection, tunnel=tunnel)
                if fresh:
                    raise unreachable(self.host.name, "it opens no channel") from error
            except BaseException:
                self._give_back(connection, tunnel=tunnel)
                raise

    def _take(self, patience: Patience, *, tunnel: bool) -> tuple[Connection, bool]:
        """A connection, counted as in use, and whether it was made just now."""
        began = time.monotonic()
        with self._changed:
            self._waiting += 1
            try:
                while True:
                    connection = self._choose(tunnel=tunnel)
                    if connection is not None:
                        _count(connection, 1, tunnel=tunnel)
                        return connection, False
                    failed = self._failure_since(began)
                    if failed is not None and not self._connecting:
                        raise again(failed)
                    if failed is None and self._may_connect():
                        self._connecting += 1
                        break
                    check(patience, self.host.name)
                    self._changed.wait(_TICK_S)
            finally:
                self._waiting -= 1
        return self._make(patience, tunnel=tunnel), True

    def _choose(self, *, tunnel: bool) -> Connection | None:
        now = time.monotonic()
        for connection in [known for known in self._connections if not known.transport.is_active()]:
            connection.retired = True
            self._connections.remove(connection)
        if tunnel:
            return min(self._connections, key=lambda known: known.tunnels, default=None)
        for connection in self._connections:
            if now > connection.crowded_until:
                connection.room = CHANNELS
        free = [known for known in self._connections if known.channels < known.room]
        return min(free, key=lambda known: known.channels, default=None)

    def _may_connect(self) -> bool:
        """Another handshake is worth it when those under way will not have room for all who wait."""
        if len(self._connections) + self._connecting >= self._most or self._connecting >= _HANDSHAKES:
            return False
        return self._waiting + self._connecting > self._connecting * CHANNELS

    def _make(self, patience: Patience, *, tunnel: bool) -> Connection:
        try:
            opened = dialled(self._dial, self.host.name, patience, limit_s=self._connect_timeout_s)
        except BaseException as error:
            with self._changed:
                self._connecting -= 1
                if isinstance(error, OperationFailed) and error.failure_code != "stopped":
                    self._failed = (time.monotonic(), error)
                self._changed.notify_all()
            raise
        connection = Connection(opened=opened, used_at=time.monotonic(), room=CHANNELS)
        _count(connection, 1, tunnel=tunnel)
        with self._changed:
            self._connecting -= 1
            self._connections.append(connection)
            self._changed.notify_all()
        return connection

    def _give_back(self, connection: Connection, files: SftpSession | None = None, *, tunnel: bool = False) -> None:
        with self._changed:
            _count(connection, -1, tunnel=tunnel)
            connection.used_at = time.monotonic()
            if files is not None and files.kept and not connection.retired and connection.idle is None:
                connection.idle = (files.channel, files.state)
                files = None
            hang_up = connection.retired and connection.unused
            self._changed.notify()
        if files is not None:
            close_quietly(files.channel)
        if hang_up:
            connection.opened.hang_up()

    def _sftp_channel(self, connection: Connection) -> tuple[paramiko.Channel, object | None]:
        kept = self._take_idle(connection)
        if kept is not None and not kept[0].closed:
            if time.monotonic() - connection.used_at > _PROBE_AFTER_S:
                connection.transport.open_session(timeout=OPEN_TIMEOUT_S).close()
            return kept
        channel = connection.transport.open_session(timeout=OPEN_TIMEOUT_S)
        channel.settimeout(OPEN_TIMEOUT_S)
        try:
            channel.invoke_subsystem("sftp")
        except BaseException:
            close_quietly(channel)
            raise
        return channel, None

    def _session_channel(self, connection: Connection) -> paramiko.Channel:
        if connection.channels >= CHANNELS and (kept := self._take_idle(connection)) is not None:
            close_quietly(kept[0])
        return connection.transport.open_session(timeout=OPEN_TIMEOUT_S)

    def _take_idle(self, connection: Connection) -> tuple[paramiko.Channel, object | None] | None:
        with self._changed:
            kept, connection.idle = connection.idle, None
        return kept

    # -- waiting ---------------------------------------------------------------------------------------------

    def _crowded(self, connection: Connection) -> None:
        """The server took fewer channels than we thought: until further notice no more than there are."""
        with self._changed:
            connection.room = max(1, connection.channels)
            connection.crowded_until = time.monotonic() + _CROWDED_S
        kept = self._take_idle(connection)
        if kept is not None:
            close_quietly(kept[0])

    def _failure_since(self, began: float) -> OperationFailed | None:
        """Who waited for a handshake that failed need not see another one fail."""
        if self._failed is None or self._connections or self._failed[0] < began:
            return None
        return self._failed[1]


def _count(connection: Connection, change: int, *, tunnel: bool) -> None:
    if tunnel:
        connection.tunnels += change
    else:
        connection.channels += change
