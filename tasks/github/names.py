"""Names that go into GitHub's URLs, checked part by part before PyGithub puts them there.

PyGithub and what is below it join and collapse paths: `a/../../../other/repo` would reach another repository than the
one that the caller may use. So a part that could be read as anything but a name is refused.
"""

import re

from tasks.confined import shown
from tasks.text import has_controls
from toolswarm.errors import OperationFailed

_OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9])?")
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]{1,100}")
_NEVER_IN_A_PART = frozenset("%?#\\")
_LONGEST_PATH = 4096
_LONGEST_QUERY = 256


def full_repository_name(repo: str, default_owner: str) -> str:
    """`owner/name`; the owner is filled in when only a name is given.

    Raises:
        OperationFailed: `path_refused`.
    """
    owner, slash, name = repo.partition("/")
    if not slash:
        owner, name = default_owner, repo
        if not owner:
            raise _refused("repo", repo, "has no owner; write owner/name, or set github.default_owner")
    if not _OWNER.fullmatch(owner):
        raise _refused("repo", repo, "has no valid owner before the slash")
    if not _REPOSITORY.fullmatch(name) or name in (".", ".."):
        raise _refused("repo", repo, "is not of the form owner/name")
    return f"{owner}/{name}"


def checked_path(path: str) -> str:
    """A path within a repository; empty or `.` for its top folder.

    Raises:
        OperationFailed: `path_refused`.
    """
    if path in ("", "."):
        return ""
    _check_parts("path", path)
    return path


def checked_ref(ref: str) -> str:
    """A branch, tag or commit.

    Raises:
        OperationFailed: `path_refused`.
    """
    _check_parts("ref", ref)
    if ref.startswith("-") or " " in ref:
        raise _refused("ref", ref, "is not the name of a branch, tag or commit")
    return ref


def checked_query(query: str) -> str:
    """A search query within GitHub's limits.

    Raises:
        OperationFailed: `query_refused`.
    """
    if not query.strip() or len(query) > _LONGEST_QUERY or has_controls(query):
        raise OperationFailed(
            f"query must be 1 to {_LONGEST_QUERY} characters without control characters",
            code="query_refused",
            before_effect=True,
        )
    return query


def _check_parts(argument: str, value: str) -> None:
    if len(value) > _LONGEST_PATH or has_controls(value):
        raise _refused(argument, value, "is too long or has control characters")
    for part in value.split("/"):
        if part in ("", ".", ".."):
            raise _refused(argument, value, "must have neither empty parts nor `.` or `..`, and no slash at its ends")
        if not _NEVER_IN_A_PART.isdisjoint(part):
            raise _refused(argument, value, "must not have any of % ? # \\")


def _refused(argument: str, value: str, why: str) -> OperationFailed:
    return OperationFailed(
        f"{argument} {shown(value)} {why}", code="path_refused", before_effect=True, argument=argument
    )
