"""Reading OpenSSH's `known_hosts`: names, patterns, negations, hashed names, and the mark of a revoked key.

Keys of certificate authorities are skipped: paramiko does not check host certificates.
"""

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_REVOKED = "@revoked"


@dataclass(frozen=True, kw_only=True)
class KnownKeys:
    """What a file says of one host: pairs of kind and key."""

    trusted: frozenset[tuple[str, bytes]]
    revoked: frozenset[bytes]


def read_known_hosts(file: str, name: str) -> KnownKeys:
    """The keys for `name`, which is an address, or `[address]:port` for another port than 22.

    Raises:
        OSError: the file cannot be read.
    """
    trusted: set[tuple[str, bytes]] = set()
    revoked: set[bytes] = set()
    text = Path(os.path.expanduser(file)).read_text(encoding="utf-8", errors="replace")
    for mark, names, kind, key in _lines(text):
        if not _matches(names, name):
            continue
        if mark == _REVOKED:
            revoked.add(key)
        elif not mark:
            trusted.add((kind, key))
    return KnownKeys(trusted=frozenset(trusted), revoked=frozenset(revoked))


def _lines(text: str) -> Iterator[tuple[str, str, str, bytes]]:
    for line in text.splitlines():
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        mark = fields.pop(0) if fields[0].startswith("@") else ""
        if len(fields) < 3:
            continue
        try:
            yield mark, fields[0], fields[1], base64.b64decode(fields[2], validate=True)
        except binascii.Error:
            continue


def _matches(names: str, name: str) -> bool:
    if names.startswith("|1|"):
        return _is_hash_of(names, name)
    found = False
    for pattern in names.lower().split(","):
        # Brackets are literal here ([address]:port), not a set of characters.
        literal = pattern.removeprefix("!").replace("[", "[[]")
        if fnmatch.fnmatchcase(name.lower(), literal):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _is_hash_of(hashed: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in hashed.split("|")[2:4])
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)
