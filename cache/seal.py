"""The cache's secret: what entries are named with, and what they are sealed with under their own name.

Whoever can write to the cache Redis, but does not know the secret, can make no entry that is believed: one that was
made up, changed or moved to another name does not open. Names tell nothing of what they are made from.
"""

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from store.configuration import Cache as Settings
from toolswarm.errors import ConfigurationError

logger = logging.getLogger(__name__)

MIN_BYTES = 32
_NONCE_BYTES = 12
_NAME_BYTES = 20


def open_seal(settings: Settings) -> "Sealer":
    """The sealer of the configured secret.

    Raises:
        ConfigurationError: the secret is there, and unfit.
    """
    file = Path(settings.secret_file)
    try:
        return Sealer(provide_secret(file))
    except ConfigurationError as error:
        if file.exists():
            raise
        logger.warning("%s; what this process remembers, no other one can read", error.message)
        return Sealer(secrets.token_bytes(MIN_BYTES), shared=False)


def provide_secret(file: Path) -> bytes:
    """Read the secret; make it when it is missing, so that of several processes one wins and all read the same.

    Raises:
        ConfigurationError: it cannot be read or made, or is too short.
    """
    try:
        if not file.exists():
            _make(file)
        secret = file.read_bytes().strip()
    except OSError as error:
        message = f"cache.secret_file: {file} cannot be read or made: {error.strerror}"
        raise ConfigurationError(message, file=str(file)) from error
    if len(secret) < MIN_BYTES:
        message = f"cache.secret_file: {file} has {len(secret)} bytes; put {MIN_BYTES} or more secret ones there"
        raise ConfigurationError(message, file=str(file))
    return secret


def _make(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(secrets.token_hex(MIN_BYTES).encode() + b"\n")
            out.flush()
            os.fsync(out.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first: its secret is everybody's
            os.link(part, file)
    finally:
        part.unlink()


class Sealer:
    """Names and seals; one key for each, and for each name one of its own, so that no nonce is used twice with it."""

    def __init__(self, secret: bytes, *, shared: bool = True) -> None:
        self.shared = shared
        """Whether other processes have the same secret."""
        self._name_key = hmac.digest(secret, b"toolswarm cache: names", "sha256")
        self._seal_key = hmac.digest(secret, b"toolswarm cache: seals", "sha256")

    def name(self, text: bytes) -> str:
        """The name that stands for a text."""
        return hmac.digest(self._name_key, text, "sha256")[:_NAME_BYTES].hex()

    def seal(self, name: str, plain: bytes, extra: bytes = b"") -> bytes:
        """The text for this name, encrypted; `extra` is vouched for with it, and must be given again to open it."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._key(name)).encrypt(nonce, plain, extra)

    def open(self, name: str, sealed: bytes, extra: bytes = b"") -> bytes | None:
        """The text again; None when it was not sealed under this name, or was changed."""
        try:
            return AESGCM(self._key(name)).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], extra)
        except (InvalidTag, ValueError):
            return None

    def _key(self, name: str) -> bytes:
        return hmac.digest(self._seal_key, name.encode(), "sha256")


def tag_digest(tag: str) -> str:
    """A tag as it is written in keys: the same for all, whatever their secret, for an invalidation must reach all."""
    return hashlib.sha256(tag.encode()).hexdigest()[:32]
