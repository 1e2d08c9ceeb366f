"""A seal for tests that need no secret: it binds a text to its name."""

import hmac


class Sealed:
    """What was moved to another name, or changed, does not open."""

    def seal(self, name: str, plain: bytes) -> bytes:
        return hmac.digest(name.encode(), plain, "sha256") + plain

    def open(self, name: str, sealed: bytes) -> bytes | None:
        mac, plain = sealed[:32], sealed[32:]
        return plain if hmac.compare_digest(mac, hmac.digest(name.encode(), plain, "sha256")) else None
