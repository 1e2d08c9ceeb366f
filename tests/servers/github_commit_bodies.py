"""The fake's commits and refs as GitHub's JSON; small enough to be written out."""

from typing import Any
from urllib.parse import quote

from tests.servers.github_bodies import user
from tests.servers.github_git import Commit, Signature, stamp
from tests.servers.github_routes import Context, Json
from tests.servers.github_world import Repository

_UNSIGNED: Json = {
    "verified": False,
    "reason": "unsigned",
    "signature": None,
    "payload": None,
    "verified_at": None,
}


def commit(context: Context, found: Repository, sha: str) -> Json:
    """A commit as the repository shows it."""
    item = found.git.commits[sha]
    api = f"{context.api}/repos/{found.full_name}"
    return {
        "sha": sha,
        "node_id": f"C_{sha[:16]}",
        "url": f"{api}/commits/{sha}",
        "html_url": f"{context.web}/{found.full_name}/commit/{sha}",
        "comments_url": f"{api}/commits/{sha}/comments",
        "commit": {
            "url": f"{api}/git/commits/{sha}",
            "author": _signature(item.author),
            "committer": _signature(item.committer),
            "message": item.message,
            "tree": {"url": f"{api}/git/trees/{item.tree}", "sha": item.tree},
            "comment_count": 0,
            "verification": _UNSIGNED,
        },
        "author": user(context, item.login),
        "committer": user(context, item.login),
        "parents": _parents(context, found, item, "commits"),
    }


def git_commit(context: Context, found: Repository, sha: str) -> Json:
    """A commit as git has it."""
    item = found.git.commits[sha]
    api = f"{context.api}/repos/{found.full_name}/git"
    return {
        "sha": sha,
        "node_id": f"C_{sha[:16]}",
        "url": f"{api}/commits/{sha}",
        "html_url": f"{context.web}/{found.full_name}/commit/{sha}",
        "author": _signature(item.author),
        "committer": _signature(item.committer),
        "message": item.message,
        "tree": {"url": f"{api}/trees/{item.tree}", "sha": item.tree},
        "parents": _parents(context, found, item, "git/commits"),
        "verification": _UNSIGNED,
    }


def reference(context: Context, found: Repository, ref: str) -> Json:
    """A ref."""
    sha = found.git.refs[ref]
    api = f"{context.api}/repos/{found.full_name}/git"
    return {
        "ref": ref,
        "node_id": f"REF_{sha[:16]}",
        "url": f"{api}/{quote(ref)}",
        "object": {"sha": sha, "type": "commit", "url": f"{api}/commits/{sha}"},
    }


def _signature(who: Signature) -> Json:
    return {"name": who.name, "email": who.email, "date": stamp(who.at)}


def _parents(context: Context, found: Repository, item: Commit, where: str) -> list[Any]:
    return [
        {
            "sha": sha,
            "url": f"{context.api}/repos/{found.full_name}/{where}/{sha}",
            "html_url": f"{context.web}/{found.full_name}/commit/{sha}",
        }
        for sha in item.parents
    ]
