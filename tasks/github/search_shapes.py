"""What searches find: as GitHub's answers have it, and as ours show it."""

from datetime import datetime
from typing import Any

import msgspec

from tasks.github.arguments import visible
from tasks.github.repositories import moment
from tasks.github.rows import typed
from tasks.github.trust import EXCERPT_LENGTH, beginning, foreign


class UpstreamHits(msgspec.Struct, frozen=True, kw_only=True):
    """One page of any search."""

    total_count: int
    incomplete_results: bool
    items: list[dict[str, Any]]


class UpstreamMatch(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a file that fits."""

    fragment: str = ""


class UpstreamPlace(msgspec.Struct, frozen=True, kw_only=True):
    """The repository that a file lies in."""

    full_name: str
    private: bool = False


class UpstreamFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a search for code finds."""

    path: str
    sha: str
    html_url: str
    repository: UpstreamPlace
    text_matches: list[UpstreamMatch] = []


class UpstreamFoundRepository(msgspec.Struct, frozen=True, kw_only=True):
    """A repository that a search finds."""

    full_name: str
    description: str | None
    private: bool
    archived: bool
    fork: bool
    language: str | None
    topics: list[str] = []
    stargazers_count: int
    forks_count: int
    open_issues_count: int
    default_branch: str
    pushed_at: datetime | None
    html_url: str


class UpstreamAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A user or organization that a search finds."""

    login: str
    type: str
    html_url: str


class FoundFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file in which the words occur."""

    repo: str
    path: str
    sha: str
    """Git's hash of the file."""
    url: str
    fragments: list[str]
    """The places where they occur, with some text around."""
    full: dict[str, Any] | None = None
    """GitHub's whole answer, when it was asked for."""


class FoundRepository(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One repository."""

    repo: str
    description: str
    default_branch: str
    private: bool
    archived: bool
    fork: bool
    language: str | None
    topics: list[str]
    stars: int
    forks: int
    open_issues: int
    """Pull requests included, as GitHub counts."""
    pushed_at: str | None
    url: str
    full: dict[str, Any] | None = None
    """GitHub's whole answer, when it was asked for."""


class FoundUser(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One user or organization."""

    login: str
    kind: str
    """`User`, `Organization` or `Bot`."""
    url: str
    full: dict[str, Any] | None = None
    """GitHub's whole answer, when it was asked for."""


def found_file(data: dict[str, Any], *, full: bool) -> FoundFile:
    """A file of a search."""
    found = typed(data, UpstreamFile)
    return FoundFile(
        repo=found.repository.full_name,
        path=foreign(found.path),
        sha=found.sha,
        url=found.html_url,
        fragments=[beginning(match.fragment, EXCERPT_LENGTH).text for match in found.text_matches],
        full=visible(data) if full else None,
    )


def found_repository(data: dict[str, Any], *, full: bool) -> FoundRepository:
    """A repository of a search."""
    found = typed(data, UpstreamFoundRepository)
    return FoundRepository(
        repo=found.full_name,
        description=foreign(found.description),
        default_branch=foreign(found.default_branch),
        private=found.private,
        archived=found.archived,
        fork=found.fork,
        language=found.language,
        topics=[foreign(topic) for topic in found.topics],
        stars=found.stargazers_count,
        forks=found.forks_count,
        open_issues=found.open_issues_count,
        pushed_at=moment(found.pushed_at),
        url=found.html_url,
        full=visible(data) if full else None,
    )


def found_user(data: dict[str, Any], *, full: bool) -> FoundUser:
    """A user of a search."""
    found = typed(data, UpstreamAccount)
    return FoundUser(login=found.login, kind=found.type, url=found.html_url, full=visible(data) if full else None)
