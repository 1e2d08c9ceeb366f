"""What comes to the fake GitHub over the wire, what goes back, and what is remembered of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from tests.servers.github_faults import Fault


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """A request that came in, and what became of it."""

    method: str
    path: str
    """Decoded, without the query; as it was sent (`/repositories/5/…` stays)."""
    query: dict[str, str]
    operation: str
    """`GET /repos/{owner}/{repo}`; empty for what the fake does not know."""
    repository: str
    """`owner/name` that the path names, in lower case."""
    credential: str
    """Fingerprint of the token (12 hex digits); empty without one."""
    bucket: str
    status: int
    """0 when the connection was broken instead."""
    fault: str
    """Kind of the fault, if there was one."""
    applied: bool
    """Whether the request reached GitHub and was done (or refused by it)."""
    charged: bool
    """Whether it counted for the rate limit."""
    conditional: bool
    """Whether it had If-None-Match or If-Modified-Since."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """As it came over the wire."""

    method: str
    target: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    host: str


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What is to be sent, or (by the fault) done instead."""

    status: int
    headers: dict[str, str]
    body: bytes
    fault: Fault | None


def fingerprint(token: str) -> str:
    """How the log names a token."""
    return hashlib.sha256(token.encode()).hexdigest()[:12]
