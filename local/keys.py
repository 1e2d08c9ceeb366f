"""The secrets of a system on one machine: made on its first start, kept in the state folder, never printed again."""

import os
import secrets
from pathlib import Path

import msgspec

from local.state_folder import StateFolder
from store.configuration import Configuration
from toolswarm.errors import ConfigurationError

_API_KEY_PREFIX = "tsk_"


class Keys(msgspec.Struct, frozen=True):
    """Where the keys lie."""

    private_key_file: Path
    public_key_file: Path
    api_key_file: Path | None
    """None when the user configured a key."""
    new_api_key: str = ""
    """The API key, if it was made just now: the one time to show it."""

    def __repr__(self) -> str:
        return f"Keys({self.private_key_file}, {self.api_key_file})"


def provide_keys(configuration: Configuration, folder: StateFolder) -> Keys:
    """Use the keys that are configured or were made before, and make those that are missing.

    Raises:
        ConfigurationError: only one half of the signing keys is configured, or a file is missing.
    """
    private, public = _signing_keys(configuration, folder)
    if configuration.gateway.api_key:
        return Keys(private, public, None)
    new = "" if folder.api_key_file.exists() else _API_KEY_PREFIX + secrets.token_urlsafe(32)
    if new:
        _write(folder.api_key_file, f"{new}\n".encode(), 0o600)
    return Keys(private, public, folder.api_key_file, new)


def _signing_keys(configuration: Configuration, folder: StateFolder) -> tuple[Path, Path]:
    signing = configuration.signing
    if signing.private_key_file or signing.public_key_file:
        files = Path(signing.private_key_file), Path(signing.public_key_file)
        for name, file in zip(("private_key_file", "public_key_file"), files, strict=True):
            if not file.is_file():
                raise ConfigurationError(f"signing.{name}: there is no file {file}; both halves are needed")
        return files[0].resolve(), files[1].resolve()
    private, public = folder.path / "signing_key.pem", folder.path / "signing_key.pub.pem"
    if not (private.exists() and public.exists()):
        _make_pair(private, public)
    return private, public


def _make_pair(private_file: Path, public_file: Path) -> None:
    # Imported here because it is needed once in the life of a system, and costs the supervisor 10 MB.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _write(public_file, public, 0o644)
    _write(private_file, pem, 0o600)


def _write(file: Path, content: bytes, mode: int) -> None:
    """Write a file in one step, with its mode from the first moment on."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as out:
        os.fchmod(out.fileno(), mode)
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
