"""What the operations of `droplet` share: one connection to each host, used by several commands at a time."""

import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress

import paramiko

from store.configuration import Configuration
from store.tool_settings import Droplet, DropletHost
from tasks.confined import shown
from tasks.droplet.connect import connect, not_configured, unreachable
from toolswarm.errors import OperationFailed

_COMMAND_CHANNELS = 5
_KILL_CHANNELS = 1
"""Six in all: servers allow ten, and take a while to notice that one was closed."""
_OPEN_TIMEOUT_S = 3.0
"""A connection that does not open a channel in this time is taken for dead."""
_REFUSED = (2, 4)  # "connect failed", "resource shortage": the server has too many channels open just now


class Hosts:
    """The configured hosts, connected to when first used; not carried over a fork."""

    def __init__(self, settings: Droplet) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._lines: dict[str, Line] = {}

    @classmethod
    def open(cls, configuration: Configuration) -> "Hosts":
        """The hosts of one worker process; connects to none yet."""
        return cls(configuration.droplet)

    def line(self, host: str | None) -> "Line":
        """The line to a host; None: the default one.

        Raises:
            OperationFailed: `host_not_configured`.
        """
        name = self._name(host)
        if self._pid != os.getpid():
            # The parent's connections live on in the parent; one message of ours on them would break them.
            self._lock, self._pid, self._lines = threading.Lock(), os.getpid(), {}
        with self._lock:
            if name not in self._lines:
                self._lines[name] = Line(name, self._settings.hosts[name], self._settings.connect_timeout_s)
            return self._lines[name]

    def close(self) -> None:
        """Hang up; bears being called twice."""
        with self._lock:
            for line in self._lines.values():
                line.close()

    def _name(self, host: str | None) -> str:
        hosts = self._settings.hosts
        if host is not None:
            if host not in hosts:
                known = f"; configured: {', '.join(sorted(hosts))}" if hosts else ""
                raise not_configured(f"host {shown(host)} is not configured; set droplet.hosts.NAME{known}")
            return host
        if self._settings.default_host in hosts:
            return self._settings.default_host
        if self._settings.default_host:
            name = self._settings.default_host
            raise not_configured(
                f"droplet.default_host is {shown(name)}, which is not configured; set droplet.hosts.NAME"
            )
        if len(hosts) == 1:
            return next(iter(hosts))
        if hosts:
            raise not_configured(f"name a host ({', '.join(sorted(hosts))}), or set droplet.default_host")
        raise not_configured("no remote host is configured; set droplet.hosts.NAME (address, user, key_file, host_key)")


class _Connection:
    """A transport, and how many use it; closed by the last one after it was retired."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self.transport = transport
        self.users = 0
        self.retired = False


class Session:
    """One channel for one piece of work, and the connection it goes over."""

    def __init__(self, line: "Line", connection: _Connection, channel: paramiko.Channel) -> None:
        self._line = line
        self._connection = connection
        self.channel = channel

    def is_connected(self) -> bool:
        """Whether the host still answers on this connection, asked just now."""
        try:
            self._connection.transport.open_session(timeout=_OPEN_TIMEOUT_S).close()
        except paramiko.ChannelException:
            return True  # it said no
        except (paramiko.SSHException, EOFError, OSError):
            self._line.retire(self._connection)
            return False
        return True

    def tell(self, command: str) -> bool:
        """Run a short command on a second channel; whether it succeeded."""
        with self._line.kill_slot:
            try:
                channel = self._connection.transport.open_session(timeout=_OPEN_TIMEOUT_S)
            except (paramiko.SSHException, EOFError, OSError):
                return False
            try:
                channel.settimeout(_OPEN_TIMEOUT_S)
                channel.exec_command(command)
                return channel.status_event.wait(_OPEN_TIMEOUT_S) and channel.recv_exit_status() == 0
            except (paramiko.SSHException, EOFError, OSError):
                return False
            finally:
                _close(channel)


class Line:
    """The way to one host."""

    def __init__(self, name: str, settings: DropletHost, connect_timeout_s: float) -> None:
        self.name = name
        self.kill_slot = threading.BoundedSemaphore(_KILL_CHANNELS)
        self._settings = settings
        self._connect_timeout_s = connect_timeout_s
        self._slots = threading.BoundedSemaphore(_COMMAND_CHANNELS)
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._connection: _Connection | None = None

    @contextmanager
    def session(self, timeout_s: float) -> Generator[Session, None, None]:
        """A fresh channel; connects when there is no connection, or the one there is does not answer.

        Raises:
            OperationFailed: `host_busy`, `host_unreachable`, `host_key`, `authentication`, …: nothing was begun.
        """
        give_up_at = time.monotonic() + timeout_s
        if not self._slots.acquire(timeout=timeout_s):
            raise self._busy()
        try:
            connection, channel = self._open(give_up_at)
            try:
                yield Session(self, connection, channel)
            finally:
                _close(channel)
                self._release(connection)
        finally:
            self._slots.release()

    def retire(self, connection: _Connection) -> None:
        """Give the connection to nobody any more; who is still on it may finish."""
        with self._lock:
            connection.retired = True
            if self._connection is connection:
                self._connection = None
            unused = connection.users == 0
        if unused:
            connection.transport.close()

    def close(self) -> None:
        """Hang up at once."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.transport.close()

    def _open(self, give_up_at: float) -> tuple[_Connection, paramiko.Channel]:
        wait_s = 0.02
        while True:
            connection, fresh = self._take()
            try:
                return connection, connection.transport.open_session(timeout=_OPEN_TIMEOUT_S)
            except paramiko.ChannelException as error:
                self._release(connection)
                if error.code not in _REFUSED or time.monotonic() + wait_s > give_up_at:
                    raise self._busy() from error
                time.sleep(wait_s)
                wait_s = min(1.0, 2 * wait_s)
            except (paramiko.SSHException, EOFError, OSError) as error:
                self._release(connection)
                self.retire(connection)
                if fresh:
                    raise unreachable(self.name, "it opens no channel") from error
            except BaseException:
                self._release(connection)
                raise

    def _take(self) -> tuple[_Connection, bool]:
        """A connection, counted as in use, and whether it was made just now."""
        with self._connecting:  # one handshake at a time: servers drop the others
            with self._lock:
                connection = self._connection
                if connection is not None and connection.transport.is_active():
                    connection.users += 1
                    return connection, False
            connection = _Connection(connect(self.name, self._settings, self._connect_timeout_s))
            connection.users = 1
            with self._lock:
                self._connection = connection
            return connection, True

    def _release(self, connection: _Connection) -> None:
        with self._lock:
            connection.users -= 1
            unused = connection.retired and connection.users == 0
        if unused:
            connection.transport.close()

    def _busy(self) -> OperationFailed:
        return OperationFailed(
            f"host {self.name} has no channel free; try again later",
            code="host_busy",
            retryable=True,
            before_effect=True,
            host=self.name,
        )


def _close(channel: paramiko.Channel) -> None:
    with suppress(paramiko.SSHException, EOFError, OSError):  # the connection is gone, and the channel with it
        channel.close()
