"""Answers that are too long are cut so that what is left has the same shape: texts and lists lose their ends."""

from typing import Any

import msgspec

from gateway.json_values import is_array, is_object

_MARK = "… [cut]"
_LEAST_CHARACTERS = 64
_DEEPEST = 64


def cut_text(text: str, limit_bytes: int) -> str:
    """The beginning of the text, in at most so many bytes, ending with a whole character."""
    return text.encode(errors="replace")[:limit_bytes].decode(errors="ignore")


def shrink(value: Any, limit_bytes: int) -> Any:
    """The value in at most so many bytes of JSON, or as near as cutting texts and lists comes."""
    if len(msgspec.json.encode(value)) <= limit_bytes:
        return value
    characters, items = limit_bytes // 2, 10_000
    while True:
        smaller = _cut(value, characters, items, _DEEPEST)
        if len(msgspec.json.encode(smaller)) <= limit_bytes or (characters <= _LEAST_CHARACTERS and items <= 1):
            return smaller
        characters = max(_LEAST_CHARACTERS, characters // 2)
        items = max(1, items // 2)


def _cut(value: Any, characters: int, items: int, depth: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= characters else value[:characters] + _MARK
    if is_array(value):
        return [_cut(one, characters, items, depth - 1) for one in value[:items]] if depth else []
    if is_object(value):
        return {name: _cut(one, characters, items, depth - 1) for name, one in value.items()} if depth else {}
    return value
