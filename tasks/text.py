"""Bytes and text from outside, made safe to show and to put into JSON."""

import base64
import re
import unicodedata

_HIDDEN = re.compile(
    "[\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\u206a-\u206f\ufeff\U000e0000-\U000e007f]"
)
_CONTROLS = re.compile("\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def text_or_base64(raw: bytes) -> tuple[str, str]:
    """The content and the name of its encoding: `utf-8` when it is that exactly, else `base64`; never guessed."""
    try:
        return raw.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode("ascii"), "base64"


def printable(raw: bytes) -> str:
    """Output of a program: control sequences, lone carriage returns and bytes that are no UTF-8 are spelled out."""
    text = raw.decode("utf-8", "backslashreplace")
    return _HIDDEN.sub(_spelled, _CONTROLS.sub(_spelled, text))


def without_hidden(text: str) -> str:
    """Text of strangers, without the characters that people do not see and models read."""
    return _CONTROLS.sub("", _HIDDEN.sub("", text))


def has_controls(text: str) -> bool:
    """Whether there is any control character or half of a surrogate pair in it."""
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
