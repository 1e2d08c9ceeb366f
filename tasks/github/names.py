"""Names that go into GitHub's URLs, checked part by part before PyGithub puts them there.

PyGithub and what is below it join and collapse paths: `a/../../../other/repo` would reach another repository than the
one that the caller may use. So a part that could be read as anything but a name is refused. Names of files may have
`#`, `%` and `?` in them, and branches `#` and `%`: whoever puts one into a URL quotes it.
"""

import re
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from tasks.confined import shown
from tasks.text import has_controls
from toolswarm.errors import OperationFailed

_OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9])?")
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]{1,100}")
_SHA = re.compile(r"[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64}")
_URL = re.compile(r"https?://([^/?#@\\\s]+)/([^?#@\\\s]+)", re.IGNORECASE)
_SSH = re.compile(r"(?:ssh://)?git@([^/:?#@\\\s]+)[:/]([^?#@\\\s]+)", re.IGNORECASE)
_NEVER_IN_A_BRANCH = frozenset(" ~^:*[?")
_NEVER_IN_A_REF = frozenset(" ?")
_LONGEST_PATH = 4096


def full_repository_name(repo: str, default_owner: Callable[[], str], *, web_host: str, argument: str = "repo") -> str:
    """`owner/name` for a name, `owner/name` or a URL on `web_host`; the owner is asked for when it is missing.

    `argument` is what the caller calls it, here and in the other checks: errors name it.

    Raises:
        OperationFailed: `path_refused`.
    """
    owner, slash, name = _without_url(repo, web_host, argument).partition("/")
    if not slash:
        owner, name = "", owner
    if not _REPOSITORY.fullmatch(name) or name in (".", "..") or name.lower() == ".git":
        raise _refused(argument, repo, "is not of the form owner/name")
    if not slash:
        return f"{checked_owner(default_owner())}/{name}"
    if not _OWNER.fullmatch(owner):
        raise _refused(argument, repo, "has no valid owner before the slash")
    return f"{owner}/{name}"


def checked_owner(owner: str, argument: str = "owner") -> str:
    """The login of a user or an organization.

    Raises:
        OperationFailed: `path_refused`.
    """
    if not _OWNER.fullmatch(owner):
        raise _refused(argument, owner, "is not the login of a user or an organization")
    return owner


def checked_new_name(name: str) -> str:
    """The name of a repository that is to be made, without its owner.

    Raises:
        OperationFailed: `path_refused`.
    """
    if not _REPOSITORY.fullmatch(name) or name in (".", "..") or name.lower().endswith((".git", ".wiki")):
        raise _refused("name", name, "must be letters, digits, `.`, `_` and `-`, and not end in .git or .wiki")
    return name


def web_host_of(base_url: str) -> str:
    """The host of the pages that belong to an API: `github.com` for `https://api.github.com`."""
    host = urlsplit(base_url).netloc.rpartition("@")[2].lower()
    return host.removeprefix("api.")


def checked_path(path: str, argument: str = "path") -> str:
    """A path within a repository; empty or `.` for its top folder.

    Raises:
        OperationFailed: `path_refused`.
    """
    if path in ("", "."):
        return ""
    _check_parts(argument, path)
    return path


def checked_ref(ref: str, argument: str = "ref") -> str:
    """A branch, tag or commit.

    Raises:
        OperationFailed: `path_refused`.
    """
    _check_parts(argument, ref)
    if ref.startswith("-") or not _NEVER_IN_A_REF.isdisjoint(ref):
        raise _refused(argument, ref, "is not the name of a branch, tag or commit")
    return ref


def checked_branch(branch: str, argument: str = "branch") -> str:
    """The name of a branch, by Git's own rules (`git check-ref-format`), without `refs/heads/` before it.

    Raises:
        OperationFailed: `path_refused`.
    """
    _check_parts(argument, branch)
    parts = branch.split("/")
    if (
        branch.startswith(("-", "refs/"))
        or branch in ("HEAD", "@")
        or ".." in branch
        or "@{" in branch
        or branch.endswith(".")
        or not _NEVER_IN_A_BRANCH.isdisjoint(branch)
        or any(part.startswith(".") or part.endswith(".lock") for part in parts)
    ):
        raise _refused(argument, branch, "is not a valid name of a branch; give it without refs/heads/")
    return branch


def checked_head(head: str, argument: str = "head") -> str:
    """`branch`, or `owner:branch` for a branch of a fork.

    Raises:
        OperationFailed: `path_refused`.
    """
    owner, colon, branch = head.rpartition(":")
    if colon:
        checked_owner(owner, argument)
    checked_branch(branch, argument)
    return head


def checked_sha(sha: str, argument: str = "sha") -> str:
    """A whole hash of Git's: 40 hexadecimal digits (64 with SHA-256).

    Raises:
        OperationFailed: `path_refused`.
    """
    if not _SHA.fullmatch(sha):
        raise _refused(argument, sha, "is not a whole Git hash of 40 or 64 hexadecimal digits")
    return sha.lower()


def _without_url(repo: str, web_host: str, argument: str) -> str:
    match = _URL.fullmatch(repo) or _SSH.fullmatch(repo)
    if match is None:
        return repo
    if match[1].lower() not in (web_host, f"www.{web_host}"):
        raise _refused(argument, match[0], f"is not on {web_host}, the host of github.base_url")
    path = match[2].removesuffix("/").removesuffix(".git")
    if "/" not in path:
        raise _refused(argument, repo, "names an owner and no repository")
    return path


def _check_parts(argument: str, value: str) -> None:
    if len(value) > _LONGEST_PATH or has_controls(value):
        raise _refused(argument, value, "is too long or has control characters")
    for part in value.split("/"):
        if part in ("", ".", ".."):
            raise _refused(argument, value, "must have neither empty parts nor `.` or `..`, and no slash at its ends")
        if _leads_away(part) or _leads_away(unquote(part)):  # a proxy that decodes twice must not be led away either
            raise _refused(argument, value, "must not have \\, nor what would be read as one, as / or as `..`")


def _leads_away(part: str) -> bool:
    return part in (".", "..") or "/" in part or "\\" in part or has_controls(part)


def _refused(argument: str, value: str, why: str) -> OperationFailed:
    return OperationFailed(
        f"{argument} {shown(value)} {why}", code="path_refused", before_effect=True, argument=argument
    )
