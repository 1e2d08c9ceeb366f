"""Names of remote files as text, and back: nothing is lost, and nothing hidden is shown.

A file name on a host is bytes; arguments and results are text. Bytes that are no UTF-8, control characters and
characters that nobody sees are spelled `\\xNN`, a backslash is spelled `\\\\`; so what a listing shows can be given as
a path, and means the same file. In a path that people write, any other backslash stands for itself.
"""

import re

from tasks.text import printable

_SPELLED = re.compile(rb"\\(?:\\|x([0-9a-fA-F]{2}))")
_PLAIN = re.compile(rb"[ -\[\]-~]*")


def spelled(name: bytes) -> str:
    """The name or path as results show it."""
    if _PLAIN.fullmatch(name):
        return name.decode("ascii")
    return "".join(_spell(character) for character in name.decode("utf-8", "surrogateescape"))


def unspelled(text: str) -> bytes:
    """The bytes that an argument means.

    Raises:
        UnicodeEncodeError: it has half of a surrogate pair.
    """
    return _SPELLED.sub(_meant, text.encode("utf-8"))


def _spell(character: str) -> str:
    if character == "\\":
        return "\\\\"
    raw = character.encode("utf-8", "surrogateescape")
    if character in "\n\r\t" or printable(raw) != character:
        return "".join(f"\\x{byte:02x}" for byte in raw)
    return character


def _meant(match: re.Match[bytes]) -> bytes:
    digits = match.group(1)
    return b"\\" if digits is None else bytes([int(digits, 16)])
