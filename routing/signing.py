"""Whoever submits a call signs its task; workers verify before they claim, and hold only the public key.

Ed25519 (RFC 8032) over the canonical JSON of id, operation, tenant, principal, queue, the SHA-256 of the arguments and
an expiry. Who can write to the broker but has no key can neither invent a task, nor turn one into another, nor move it
to another queue; a replay dies at the claim.
"""

import base64
import hashlib
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from toolswarm.errors import ConfigurationError, OperationFailed
from toolswarm.messages import ToolCall, canonical

HEADER = "toolswarm"
"""Name of the Celery message header that carries the envelope."""
ALLOWED_SKEW_S = 60.0


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a task says about its call, and the signature over it."""

    v: int = 1
    tenant: str
    principal: str
    queue: str
    arguments: str
    """SHA-256 of the canonical arguments, hexadecimal."""
    expires: float
    """Unix seconds."""
    signature: str = ""
    """Base64."""


class SignatureRefused(OperationFailed):
    """A task is not signed by a key we trust, has expired, or does not fit its call."""

    code = "signature_refused"


class SignatureExpired(SignatureRefused):
    """A task is genuine, but its signature has expired by the clock that was asked."""


def arguments_hash(arguments: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON, hexadecimal."""
    return hashlib.sha256(canonical(arguments)).hexdigest()


class Signer:
    """The private key of gateway, router pool and beat."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def from_file(cls, file: str) -> "Signer":
        """Read a PEM file.

        Raises:
            ConfigurationError: no readable Ed25519 private key there.
        """
        key = _load("signing.private_key_file", file, _parse_private_key)
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigurationError("signing.private_key_file: not an Ed25519 key", file=file)
        return cls(key)

    def sign(self, call: ToolCall, queue: str, expires: float) -> Envelope:
        """The envelope of a call for one queue."""
        envelope = Envelope(
            tenant=call.tenant,
            principal=call.principal,
            queue=queue,
            arguments=arguments_hash(call.arguments),
            expires=expires,
        )
        signature = self._key.sign(_signed_bytes(call.id, call.operation, envelope))
        return msgspec.structs.replace(envelope, signature=base64.b64encode(signature).decode())


class Verifier:
    """The public key of the workers."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    @classmethod
    def from_file(cls, file: str) -> "Verifier":
        """Read a PEM file.

        Raises:
            ConfigurationError: no readable Ed25519 public key there.
        """
        key = _load("signing.public_key_file", file, load_pem_public_key)
        if not isinstance(key, Ed25519PublicKey):
            raise ConfigurationError("signing.public_key_file: not an Ed25519 key", file=file)
        return cls(key)

    def verify(self, header: object, *, call_id: str, operation: str, queues: Container[str], now: float) -> Envelope:
        """The envelope of a task, when it is genuine.

        Raises:
            SignatureRefused: it is not; the message says which check failed, `SignatureExpired` the last of them.
        """
        try:
            envelope = msgspec.convert(header, Envelope)
            signature = base64.b64decode(envelope.signature, validate=True)
        except (msgspec.ValidationError, ValueError) as error:
            raise SignatureRefused("the task carries no well-formed signature") from error
        try:
            self._key.verify(signature, _signed_bytes(call_id, operation, envelope))
        except InvalidSignature as error:
            raise SignatureRefused("the task is not signed by a key that this worker trusts") from error
        if envelope.queue not in queues:
            raise SignatureRefused("the task was signed for another queue")
        if envelope.expires + ALLOWED_SKEW_S < now:
            raise SignatureExpired("the task's signature has expired")
        return envelope


def check_call(envelope: Envelope, call: ToolCall, operation: str) -> None:
    """The ledger's record is the call that was signed.

    Raises:
        SignatureRefused: it is not.
    """
    signed = (envelope.tenant, envelope.principal, operation, envelope.arguments)
    if signed != (call.tenant, call.principal, call.operation, arguments_hash(call.arguments)):
        raise SignatureRefused("the ledger's record is not the call that was signed")


def _signed_bytes(call_id: str, operation: str, envelope: Envelope) -> bytes:
    return canonical(
        [
            envelope.v,
            call_id,
            operation,
            envelope.tenant,
            envelope.principal,
            envelope.queue,
            envelope.arguments,
            envelope.expires,
        ]
    )


def _parse_private_key(data: bytes) -> object:
    return load_pem_private_key(data, password=None)


def _load(setting: str, file: str, parse: Callable[[bytes], object]) -> object:
    if not file:
        raise ConfigurationError(f"{setting} is not set: `make up` makes keys, or see docs/configuration.md")
    try:
        return parse(Path(file).read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{setting}: cannot read a PEM key from {file}", file=file) from error
