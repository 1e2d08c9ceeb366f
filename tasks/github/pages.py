"""Pages of long lists: a bounded number of items, and a cursor for the next ones."""

import hashlib
import re
from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta

from toolswarm.errors import OperationFailed

LARGEST_PAGE = 100
_CURSOR = re.compile(r"([0-9]{1,6})\.([0-9]{1,4})\.([0-9a-f]{12})")
_Item = TypeVar("_Item")

Limit = Annotated[int, Meta(description="How many at most in one answer.", ge=1, le=LARGEST_PAGE)]
Cursor = Annotated[
    str | None,
    Meta(description="`next_cursor` of the answer before, with otherwise the same arguments; none: from the start."),
]


class Page(msgspec.Struct, Generic[_Item], frozen=True, kw_only=True):
    """Some items of a list."""

    items: list[_Item]
    next_cursor: str | None
    """Gives the next page; None after the last one."""


def cursor_of(number: int, size: int, key: str) -> str:
    """The cursor of a page (counted from 0) of the list that `key` names."""
    return f"{number}.{size}.{_digest(key)}"


def page_of(cursor: str | None, *, limit: int, key: str, largest: int = LARGEST_PAGE) -> tuple[int, int]:
    """Number (from 0) and size of the page that a cursor stands for: all pages of a list have one size.

    Raises:
        OperationFailed: `cursor_refused`.
    """
    if cursor is None:
        return 0, limit
    match = _CURSOR.fullmatch(cursor)
    if match is None or match[3] != _digest(key) or not 1 <= int(match[2]) <= largest:
        raise OperationFailed(
            "cursor is not the next_cursor of an answer to the same arguments; leave it out to start again",
            code="cursor_refused",
            before_effect=True,
            argument="cursor",
        )
    return int(match[1]), int(match[2])


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:12]
