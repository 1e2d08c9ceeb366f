"""Keys of clients for tests: one of each kind that people have."""

from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

PASSPHRASE = "correct horse 'battery' staple"


@dataclass(frozen=True, kw_only=True)
class ClientKey:
    """A private key in OpenSSH's format, and its line for authorized_keys."""

    file: Path
    line: str
    passphrase: str = ""


def ed25519_key(folder: Path) -> ClientKey:
    return _write(folder / "id_ed25519", Ed25519PrivateKey.generate())


def rsa_key(folder: Path) -> ClientKey:
    return _write(folder / "id_rsa", generate_private_key(public_exponent=65537, key_size=2048))


def encrypted_key(folder: Path) -> ClientKey:
    return _write(folder / "id_encrypted", Ed25519PrivateKey.generate(), passphrase=PASSPHRASE)


def host_line(key_file: Path) -> str:
    """`ssh-rsa AAAA…` of a private key that is not encrypted."""
    key = paramiko.PKey.from_path(key_file)
    return f"{key.get_name()} {key.get_base64()}"


def _write(file: Path, key: Ed25519PrivateKey | RSAPrivateKey, passphrase: str = "") -> ClientKey:
    file.parent.mkdir(parents=True, exist_ok=True)
    encryption = (
        serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    )
    raw = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, encryption)
    file.touch(0o600)
    file.write_bytes(raw)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return ClientKey(file=file, line=public.decode(), passphrase=passphrase)
