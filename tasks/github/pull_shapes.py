"""Pull requests: as GitHub's answers have them, and as ours show them."""

from datetime import datetime
from typing import Any

import msgspec

from tasks.github.arguments import visible
from tasks.github.issue_shapes import Entry, UpstreamLabel, UpstreamUser, Whole, login_of, names_of
from tasks.github.repositories import moment
from tasks.github.rows import typed
from tasks.github.trust import EXCERPT_LENGTH, LONGEST_TEXT, beginning, foreign


class UpstreamRepository(msgspec.Struct, frozen=True):
    """A repository, by its name."""

    full_name: str


class UpstreamSide(msgspec.Struct, frozen=True):
    """Where a pull request comes from or goes to."""

    ref: str
    sha: str
    repo: UpstreamRepository | None = None


class UpstreamPull(msgspec.Struct, frozen=True, kw_only=True):
    """What we take of a pull request; a list has only some of it."""

    number: int
    title: str
    state: str
    html_url: str
    user: UpstreamUser | None
    body: str | None = None
    labels: list[UpstreamLabel | str]
    draft: bool = False
    head: UpstreamSide
    base: UpstreamSide
    created_at: datetime
    updated_at: datetime
    closed_at: datetime | None = None
    merged_at: datetime | None = None
    merge_commit_sha: str | None = None
    mergeable: bool | None = None
    mergeable_state: str | None = None
    merged_by: UpstreamUser | None = None
    comments: int | None = None
    commits: int | None = None
    additions: int | None = None
    deletions: int | None = None
    changed_files: int | None = None


class PullEntry(Entry, frozen=True, kw_only=True, omit_defaults=True):
    """One pull request in a list."""

    state: str
    """`open`, `closed` or `merged`."""
    draft: bool
    head: str
    """`owner:branch` that it comes from."""
    head_sha: str
    base: str
    """Branch that it goes to."""


class PullRequest(Whole, frozen=True, kw_only=True, omit_defaults=True):
    """One pull request with its text."""

    state: str
    """`open`, `closed` or `merged`."""
    draft: bool
    head: str
    """`owner:branch` that it comes from."""
    head_sha: str
    """What `merge_pull` has to be told."""
    base: str
    """Branch that it goes to."""
    base_sha: str
    mergeable: bool | None = None
    """None: GitHub has not worked it out yet (ask again), or it is closed."""
    mergeable_state: str | None = None
    """`clean`, `dirty` (conflicts), `blocked`, `behind`, `unstable`, `draft` or `unknown`."""
    merge_commit_sha: str | None = None
    """The commit that it was merged with; for an open one GitHub's trial merge."""
    comments: int | None = None
    commits: int | None = None
    additions: int | None = None
    deletions: int | None = None
    changed_files: int | None = None
    merged_at: str | None = None
    merged_by: str | None = None


def _head_of(found: UpstreamPull) -> str:
    owner = found.head.repo.full_name.partition("/")[0] if found.head.repo else "unknown"
    return f"{owner}:{foreign(found.head.ref)}"


def _state_of(found: UpstreamPull) -> str:
    return "merged" if found.merged_at else found.state


def pull_entry(data: dict[str, Any], *, full: bool) -> PullEntry:
    """A pull request of a list."""
    found = typed(data, UpstreamPull)
    return PullEntry(
        number=found.number,
        title=foreign(found.title),
        state=_state_of(found),
        draft=found.draft,
        author=login_of(found.user),
        labels=names_of(found.labels),
        head=_head_of(found),
        head_sha=found.head.sha,
        base=foreign(found.base.ref),
        created_at=found.created_at.isoformat(),
        updated_at=found.updated_at.isoformat(),
        url=found.html_url,
        excerpt=beginning(found.body, EXCERPT_LENGTH).text,
        full=visible(data) if full else None,
    )


def whole_pull(data: dict[str, Any], *, repo: str, full: bool, api_requests: int) -> PullRequest:
    """A pull request on its own."""
    found = typed(data, UpstreamPull)
    body = beginning(found.body, LONGEST_TEXT)
    return PullRequest(
        repo=found.base.repo.full_name if found.base.repo else repo,
        number=found.number,
        title=foreign(found.title),
        state=_state_of(found),
        draft=found.draft,
        author=login_of(found.user),
        labels=names_of(found.labels),
        head=_head_of(found),
        head_sha=found.head.sha,
        base=foreign(found.base.ref),
        base_sha=found.base.sha,
        mergeable=found.mergeable,
        mergeable_state=found.mergeable_state,
        merge_commit_sha=found.merge_commit_sha,
        comments=found.comments,
        commits=found.commits,
        additions=found.additions,
        deletions=found.deletions,
        changed_files=found.changed_files,
        created_at=found.created_at.isoformat(),
        updated_at=found.updated_at.isoformat(),
        closed_at=moment(found.closed_at),
        merged_at=moment(found.merged_at),
        merged_by=login_of(found.merged_by),
        url=found.html_url,
        body=body.text,
        body_truncated=body.truncated,
        full=visible(data) if full else None,
        api_requests=api_requests,
        untrusted=True,
    )
