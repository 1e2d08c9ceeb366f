"""Text and bytes: which encoding a file says it has, and what its content is as a string for JSON. Nothing is guessed.

The three encodings that have a byte order mark (`utf-8-sig`, `utf-16-le`, `utf-16-be`) are known by it; it is taken off
when text is read and put before it when it is written. Without a mark text is UTF-8, and what is not comes as base64.
"""

import base64
import binascii
from typing import Literal

from toolswarm.errors import OperationFailed

Encoding = Literal["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "latin-1", "base64"]
MARKS = {"utf-8-sig": b"\xef\xbb\xbf", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}
_UTF_32_LE = b"\xff\xfe\0\0"


def mark_of(head: bytes) -> str | None:
    """The encoding that the file's first bytes say."""
    if head.startswith(_UTF_32_LE):
        return None
    return next((encoding for encoding, mark in MARKS.items() if head.startswith(mark)), None)


def codec(encoding: str) -> str:
    """Python's name for the encoding without its mark."""
    return "utf-8" if encoding == "utf-8-sig" else encoding


def to_bytes(content: str, encoding: str, *, what: str = "content") -> bytes:
    """The bytes that a file gets.

    Raises:
        OperationFailed: `invalid_text`.
    """
    if encoding == "base64":
        try:
            return base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError) as error:
            raise _invalid(f"{what} is not base64; send it as it was read, or as text with another encoding") from error
    return MARKS.get(encoding, b"") + encoded(content, encoding, what=what)


def encoded(text: str, encoding: str, *, what: str) -> bytes:
    """The text without a mark.

    Raises:
        OperationFailed: `invalid_text`.
    """
    try:
        return text.encode(codec(encoding))
    except UnicodeEncodeError as error:
        if encoding == "latin-1":
            raise _invalid(f"{what} has a character that latin-1 cannot hold; write it as utf-8") from error
        why = f"{what} has half of a surrogate pair, which {encoding} cannot hold; send whole characters"
        raise _invalid(why) from error


def to_text(raw: bytes, encoding: str) -> str | None:
    """The text, or None when the bytes are not in this encoding."""
    try:
        return raw.decode(codec(encoding))
    except UnicodeDecodeError:
        return None


def as_base64(raw: bytes) -> str:
    """The bytes as JSON can hold them."""
    return base64.b64encode(raw).decode("ascii")


def _invalid(why: str) -> OperationFailed:
    return OperationFailed(why, code="invalid_text", before_effect=True)
