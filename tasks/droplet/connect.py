"""Making one SSH connection: own socket, pinned host key, our own keys, nothing guessed."""

import logging
import socket
import time

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from tasks.droplet.inventory import HostEntry, not_configured
from tasks.droplet.keys import KeyRing
from tasks.droplet.pinned import PinnedKeys, failed
from toolswarm.errors import OperationFailed

# It logs as an error what it raises, too, and what we then get over (a channel refused, a connection replaced).
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

_DISABLED = {
    "ciphers": ("3des-cbc", "aes128-cbc", "aes192-cbc", "aes256-cbc"),
    "macs": ("hmac-md5", "hmac-md5-96", "hmac-sha1", "hmac-sha1-96"),
}
"""What paramiko still offers and nobody should take."""
_DEAD_AFTER_S = 10
"""Unanswered data for so long is a dead connection: paramiko's own keepalive never notices."""


class HandshakeDropped(OperationFailed):
    """The host hung up before it had shown its key: too many knock at the same time, or it is no SSH server."""


def connect(
    entry: HostEntry, timeout_s: float, *, keys: KeyRing, through: paramiko.Channel | None = None
) -> paramiko.Transport:
    """An authenticated connection, over a channel of the jump host if one is given.

    Raises:
        OperationFailed: `host_key`, `authentication`, `host_not_configured`, `host_unreachable`.
    """
    give_up_at = time.monotonic() + timeout_s
    pinned = PinnedKeys.of(entry)
    if not entry.user:
        raise not_configured(f"host {entry.name} has no user to log in as; set droplet.hosts.{entry.name}.user")
    sock = through if through is not None else _dial(entry, timeout_s)
    transport: paramiko.Transport | None = None
    try:
        transport = paramiko.Transport(sock, disabled_algorithms=_DISABLED)
        transport.daemon = True
        transport.channel_timeout = timeout_s  # its own default is an hour
        _shake_hands(transport, entry, pinned=pinned, timeout_s=max(0.1, give_up_at - time.monotonic()))
        transport.auth_timeout = max(0.1, give_up_at - time.monotonic())
        _log_in(transport, entry, keys)
    except BaseException:
        if transport is not None:
            transport.close()
        sock.close()
        raise
    return transport


def unreachable(name: str, why: str) -> OperationFailed:
    """The host is not there, or not now: nothing was begun."""
    return OperationFailed(
        _unreachable(name, why), code="host_unreachable", retryable=True, before_effect=True, host=name
    )


def _unreachable(name: str, why: str) -> str:
    return f"host {name} cannot be reached: {why}; check that it is up and droplet.hosts.{name}"


def _dial(entry: HostEntry, timeout_s: float) -> socket.socket:
    try:
        sock = socket.create_connection((entry.address, entry.port), timeout_s)
    except OSError as error:
        why = "does not answer in time" if isinstance(error, TimeoutError) else error.strerror or "no such address"
        raise unreachable(entry.name, why) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # without it each command waits 40 ms
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _DEAD_AFTER_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _DEAD_AFTER_S // 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_S * 1000)
    return sock


def _shake_hands(transport: paramiko.Transport, entry: HostEntry, *, pinned: PinnedKeys, timeout_s: float) -> None:
    transport.banner_timeout = timeout_s
    try:
        transport.get_security_options().key_types = pinned.algorithms()
        transport.start_client(timeout=timeout_s)
        shown = transport.get_remote_server_key()  # raises when the time was up: start_client says nothing
    except ValueError as error:
        raise failed(entry.name, "its pinned key is of a kind that is not supported") from error
    except IncompatiblePeer as error:
        if "host key" in str(error):
            raise failed(entry.name, "it does not have a key of the pinned kind") from error
        raise unreachable(entry.name, "it offers only outdated cryptography") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise HandshakeDropped(
            _unreachable(entry.name, f"the SSH handshake broke off ({type(error).__name__})"),
            code="host_unreachable",
            retryable=True,
            before_effect=True,
            host=entry.name,
        ) from error
    pinned.check(shown)


def _log_in(transport: paramiko.Transport, entry: HostEntry, keys: KeyRing) -> None:
    refused: paramiko.AuthenticationException | None = None
    with keys.keys(entry) as each:
        for key in each:
            try:
                if not transport.auth_publickey(entry.user, key):
                    return
            except paramiko.AuthenticationException as error:
                refused = error
                if not transport.is_active():
                    break
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise unreachable(entry.name, f"the log-in broke off ({type(error).__name__})") from error
    raise OperationFailed(
        f"host {entry.name} does not let user {entry.user} in with the configured keys; check "
        f"droplet.hosts.{entry.name}.user and key_file",
        code="authentication",
        before_effect=True,
        host=entry.name,
    ) from refused
