"""Ids of calls: UUID version 7 (RFC 9562, section 5.7), so that they sort by the time they were made."""

import secrets
import time
from typing import NewType
from uuid import UUID

CallId = NewType("CallId", str)


def new_call_id() -> CallId:
    """A fresh call id: 48 bits of Unix milliseconds, then 74 random bits; also the id of the Celery task."""
    unix_ts_ms = time.time_ns() // 1_000_000
    value = (unix_ts_ms & 0xFFFF_FFFF_FFFF) << 80 | secrets.randbits(80)
    value &= ~(0xF << 76) & ~(0x3 << 62)  # version and variant are written over the random bits
    return CallId(str(UUID(int=value | 0x7 << 76 | 0b10 << 62)))


def is_call_id(text: str) -> bool:
    """Whether `text` is a UUID in its usual spelling (anything else is never looked up)."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
