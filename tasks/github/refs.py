"""Git's names for commits, as operations that write need them."""

import re
from urllib.parse import quote

import msgspec
from github import GithubException

from tasks.confined import shown
from tasks.github.call import GithubCall
from toolswarm.errors import OperationFailed

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA_ONLY = "application/vnd.github.sha"


class _Commit(msgspec.Struct):
    sha: str


def sha_of(github: GithubCall, full_name: str, ref: str | None) -> str:
    """The commit that a branch, tag or commit names, or the default branch; nothing is asked for a whole hash.

    Raises:
        OperationFailed: `not_found`.
    """
    if ref is None:
        github.about(f"commit of the default branch of {full_name}")
        newest = github.json("GET", f"/repos/{full_name}/commits", parameters={"per_page": "1"})
        return msgspec.convert(newest, list[_Commit])[0].sha
    if _SHA.fullmatch(ref):
        return ref
    github.about(f"branch, tag or commit {shown(ref)} in {full_name}")
    path = f"/repos/{full_name}/commits/{quote(ref, safe='')}"
    status, headers, body = github.raw(path, parameters={}, accept=_SHA_ONLY)
    if status >= 400:
        raise github.refuse(status, headers, body)
    sha = body.decode("ascii", "replace").strip()
    if not _SHA.fullmatch(sha):
        raise ValueError("the answer is not a hash")
    return sha


def head_of(github: GithubCall, full_name: str, branch: str) -> str | None:
    """The commit that a branch stands at; None when there is no such branch."""
    try:
        return github.repository(full_name).get_git_ref(f"heads/{branch}").object.sha
    except GithubException as error:
        if error.status == 404:
            return None
        raise


def branch_or_default(github: GithubCall, full_name: str, branch: str | None) -> str:
    """The branch itself, else the repository's default branch, which is asked for."""
    if branch is not None:
        return branch
    github.about(f"repository {full_name}")
    return github.repository(full_name).default_branch


def cannot_tell(what: str, **details: object) -> OperationFailed:
    """Somebody has changed what would show whether an earlier attempt was done."""
    return OperationFailed(
        f"{what}, so nobody can tell whether this call did its work; look before you repeat it",
        code="cannot_tell",
        before_effect=False,
        **details,  # type: ignore[arg-type]  # facts for the reader, none of the named parameters
    )
