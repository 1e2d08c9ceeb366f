"""Lists and objects of GitHub's as plain JSON, typed on arrival: one request a page, and none for what is missing.

PyGithub's own objects ask GitHub again when a field is read that a list leaves out; here such a field has a default.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from github.GithubObject import NonCompletableGithubObject
from github.PaginatedList import PaginatedList

from tasks.github.call import GithubCall
from tasks.github.pages import Page
from toolswarm.errors import OperationFailed

_Upstream = TypeVar("_Upstream", bound=msgspec.Struct)
_MOST_PAGES = 20
_PAGE_SIZE = 100


class Row(NonCompletableGithubObject):
    """An object of a list, of which PyGithub knows no field."""

    def _initAttributes(self) -> None: ...

    def _useAttributes(self, attributes: dict[str, Any]) -> None:
        del attributes


def rows(
    github: GithubCall, path: str, parameters: Mapping[str, str], *, limit: int, cursor: str | None
) -> Page[dict[str, Any]]:
    """One page of the list at `path`, which has only checked or quoted parts.

    Raises:
        OperationFailed: `cursor_refused`.
    """
    found = PaginatedList(Row, github.client.requester, path, dict(parameters))
    key = "&".join([path, *(f"{name}={value}" for name, value in sorted(parameters.items()))])
    page = github.page(found, key=key, limit=limit, cursor=cursor)
    return Page(items=[row.raw_data for row in page.items], next_cursor=page.next_cursor)


def all_rows(github: GithubCall, path: str, parameters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """All rows of a list that should be short, page by page.

    Raises:
        OperationFailed: `list_too_long`, when it does not end: what was not seen may be there or not.
    """
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        page = rows(github, path, parameters, limit=_PAGE_SIZE, cursor=cursor)
        yield from page.items
        if page.next_cursor is None:
            return
        cursor = page.next_cursor
    raise OperationFailed(
        f"GitHub lists more than {_MOST_PAGES * _PAGE_SIZE} items that could be the one; look for it by hand",
        code="list_too_long",
    )


def typed(data: Any, type_: type[_Upstream]) -> _Upstream:
    """GitHub's object as a struct of ours.

    Raises:
        msgspec.ValidationError: it has not the fields or types that GitHub's have; `for_call` turns it into an error.
    """
    return msgspec.convert(data, type_, strict=True)
