"""The ways in which a path may be spelled, all made one: names from the root, joined by `/`.

`.` and doubled or trailing slashes vanish; `..` takes away the name before it, as in a URL (so `link/..` is the folder
that the link lies in). An absolute path is taken when it begins with the root's own. Nothing else has a meaning: `~`,
`$HOME`, `%2e`, `file://` are names. Two spellings are tried only when the literal name is not there: backslashes as
separators, and `\\xNN` for a byte that is no UTF-8 (as lists and results spell it). Names that are written with other
code points for the same letters (NFC, NFD) mean the one that is there.
"""

import os
import re
import unicodedata
from collections.abc import Iterator

_LONGEST_PATH_BYTES = 4095
_SPELLED_BYTE = re.compile(rb"\\x([89a-f][0-9a-f])")


def as_bytes(path: str) -> bytes:
    """The path as the system wants it.

    Raises:
        ValueError: it says why no file can have this path.
    """
    if not path:
        raise ValueError("is empty; use '.' for the root itself")
    if "\0" in path:
        raise ValueError("contains a NUL character")
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise ValueError("cannot be a file name") from error
    if len(raw) > _LONGEST_PATH_BYTES:
        raise ValueError("is too long")
    return raw


def beneath_root(raw: bytes, root_names: tuple[bytes, ...]) -> bytes:
    """The path from the root; the root itself is `.`.

    Raises:
        ValueError: it leads outside.
    """
    if raw.startswith(b"/"):
        whole = b"/" + b"/".join(_names(raw, outside_is_top=True))
        for root in root_names:
            top = root.rstrip(b"/") + b"/"
            if whole == root:
                return b"."
            if whole.startswith(top):
                return whole[len(top) :]
        raise ValueError("is outside the root; give a path relative to it")
    return b"/".join(_names(raw, outside_is_top=False)) or b"."


def other_spellings(raw: bytes) -> Iterator[bytes]:
    """What a path with backslashes may mean besides itself, to be taken if it is there."""
    if _SPELLED_BYTE.search(raw):
        yield _SPELLED_BYTE.sub(lambda match: bytes.fromhex(match[1].decode()), raw)


def folded(raw: bytes) -> bytes:
    """The path with its backslashes as separators."""
    return raw.replace(b"\\", b"/")


def other_forms(name: bytes) -> list[bytes]:
    """The name in the other Unicode forms, composed and decomposed."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return []
    forms = {unicodedata.normalize("NFC", text).encode(), unicodedata.normalize("NFD", text).encode()}
    return sorted(forms - {name})


def _names(raw: bytes, *, outside_is_top: bool) -> list[bytes]:
    names: list[bytes] = []
    for name in raw.split(b"/"):
        if name == b"..":
            if names:
                names.pop()
            elif not outside_is_top:
                raise ValueError("leads outside the root; give a path relative to it")
        elif name not in (b"", b"."):
            names.append(name)
    return names
