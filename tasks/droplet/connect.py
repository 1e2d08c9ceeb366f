"""Making one SSH connection: own socket, pinned host key, one key of ours, nothing guessed."""

import logging
import os
import socket

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from store.tool_settings import DropletHost
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


def connect(name: str, settings: DropletHost, timeout_s: float) -> paramiko.Transport:
    """An authenticated connection.

    Raises:
        OperationFailed: `host_key`, `authentication`, `host_not_configured`, `host_unreachable`.
    """
    pinned = PinnedKeys.of(name, settings)
    key = _private_key(name, settings)
    try:
        sock = socket.create_connection((settings.address, settings.port), timeout_s)
    except OSError as error:
        why = "does not answer in time" if isinstance(error, TimeoutError) else os.strerror(error.errno or 0)
        raise unreachable(name, why) from error
    transport: paramiko.Transport | None = None
    try:
        _tune(sock)
        transport = paramiko.Transport(sock, disabled_algorithms=_DISABLED)
        _log_in(transport, name, pinned=pinned, user=settings.user, key=key, timeout_s=timeout_s)
    except BaseException:
        if transport is not None:
            transport.close()
        sock.close()
        raise
    return transport


def unreachable(name: str, why: str) -> OperationFailed:
    """The host is not there, or not now: nothing was begun."""
    return OperationFailed(
        f"host {name} cannot be reached: {why}; check that it is up and droplet.hosts.{name}",
        code="host_unreachable",
        retryable=True,
        before_effect=True,
        host=name,
    )


def _log_in(
    transport: paramiko.Transport,
    name: str,
    *,
    pinned: PinnedKeys,
    user: str,
    key: paramiko.PKey,
    timeout_s: float,
) -> None:
    transport.banner_timeout = timeout_s
    transport.auth_timeout = timeout_s
    transport.channel_timeout = timeout_s  # its own default is an hour
    try:
        transport.get_security_options().key_types = pinned.algorithms()
        transport.start_client(timeout=timeout_s)
        pinned.check(transport.get_remote_server_key())
        transport.auth_publickey(user, key)
    except ValueError as error:
        raise failed(name, "its pinned key is of a kind that is not supported") from error
    except paramiko.AuthenticationException as error:
        raise OperationFailed(
            f"host {name} does not let user {user} in with this key; check droplet.hosts.{name}.user and key_file",
            code="authentication",
            before_effect=True,
            host=name,
        ) from error
    except IncompatiblePeer as error:
        if "host key" in str(error):
            raise failed(name, "it does not have a key of the pinned kind") from error
        raise unreachable(name, "it offers only outdated cryptography") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise unreachable(name, f"the SSH handshake broke off ({type(error).__name__})") from error


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # without it each command waits 40 ms
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _DEAD_AFTER_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _DEAD_AFTER_S // 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_S * 1000)


def _private_key(name: str, settings: DropletHost) -> paramiko.PKey:
    setting = f"droplet.hosts.{name}.key_file"
    if not settings.key_file:
        raise not_configured(f"host {name} has no key to log in with; set {setting}")
    try:
        return paramiko.PKey.from_path(os.path.expanduser(settings.key_file))
    except OSError as error:
        raise not_configured(f"{setting} cannot be read ({error.strerror})") from error
    except (paramiko.PasswordRequiredException, TypeError) as error:
        raise not_configured(f"{setting} is encrypted; give a key without a passphrase") from error
    except (paramiko.SSHException, ValueError) as error:
        raise not_configured(f"{setting} is not a private key in OpenSSH's format") from error


def not_configured(message: str) -> OperationFailed:
    """The operator has to set something first."""
    return OperationFailed(message, code="host_not_configured", before_effect=True)
