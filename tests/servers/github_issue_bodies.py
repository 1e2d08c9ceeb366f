"""The fake's issues, comments and pull requests as GitHub's JSON."""

from tests.servers.github_bodies import example, over, repository, user
from tests.servers.github_git import stamp
from tests.servers.github_routes import Context, Json
from tests.servers.github_world import Comment, Issue, Pull, Repository


def label(context: Context, found: Repository, name: str) -> Json:
    """A label."""
    number = sum(name.encode()) + found.id * 10_000
    return {
        "id": number,
        "node_id": f"LA_{number}",
        "url": f"{context.api}/repos/{found.full_name}/labels/{name.replace(' ', '%20')}",
        "name": name,
        "description": None,
        "color": "ededed",
        "default": False,
    }


def issue(context: Context, found: Repository, item: Issue, kind: str = "issue") -> Json:
    """An issue in full, or `found-issue`; a pull request among issues says so."""
    values = _values(context, found, item)
    body = over(example(context, kind, full_name=found.full_name, number=item.number), values)
    pull = found.pulls.get(item.number)
    if pull is None:
        del body["pull_request"]
    else:
        web = f"{context.web}/{found.full_name}/pull/{item.number}"
        body["html_url"] = web
        body["draft"] = pull.draft
        body["pull_request"] = {
            "url": f"{context.api}/repos/{found.full_name}/pulls/{item.number}",
            "html_url": web,
            "diff_url": f"{web}.diff",
            "patch_url": f"{web}.patch",
            "merged_at": None if pull.merged_at is None else stamp(pull.merged_at),
        }
    return body


def _values(context: Context, found: Repository, item: Issue) -> Json:
    assignees = [user(context, login) for login in item.assignees]
    return {
        "id": item.id,
        "node_id": f"I_{item.id}",
        "number": item.number,
        "title": item.title,
        "body": item.body,
        "state": item.state,
        "state_reason": item.state_reason,
        "type": None,
        "locked": False,
        "user": user(context, item.author),
        "labels": [label(context, found, name) for name in item.labels],
        "assignee": assignees[0] if assignees else None,
        "assignees": assignees,
        "comments": sum(comment.issue == item.number for comment in found.comments.values()),
        "created_at": stamp(item.created_at),
        "updated_at": stamp(item.updated_at),
        "closed_at": None if item.closed_at is None else stamp(item.closed_at),
        "closed_by": user(context, item.closed_by),
        "author_association": "OWNER" if item.author == found.owner else "NONE",
        "score": 1.0,
    }


def comment(context: Context, found: Repository, item: Comment) -> Json:
    """A comment."""
    url = f"{context.api}/repos/{found.full_name}/issues"
    page = "pull" if item.issue in found.pulls else "issues"
    return {
        "id": item.id,
        "node_id": f"IC_{item.id}",
        "url": f"{url}/comments/{item.id}",
        "html_url": f"{context.web}/{found.full_name}/{page}/{item.issue}#issuecomment-{item.id}",
        "issue_url": f"{url}/{item.issue}",
        "body": item.body,
        "user": user(context, item.author),
        "created_at": stamp(item.created_at),
        "updated_at": stamp(item.updated_at),
        "author_association": "OWNER" if item.author == found.owner else "NONE",
        "performed_via_github_app": None,
    }


def pull_request(context: Context, found: Repository, pull: Pull, *, full: bool) -> Json:
    """A pull request; a list has less of each."""
    item = found.issues[pull.number]
    kind = "pull-request" if full else "listed-pull-request"
    git = found.git
    head_sha = git.refs.get(f"refs/heads/{pull.head}", pull.head_sha) if item.state == "open" else pull.head_sha
    base_sha = git.refs.get(f"refs/heads/{pull.base}", head_sha)
    values = _values(context, found, item)
    del values["type"], values["comments"]
    values |= {
        "draft": pull.draft,
        "merged": pull.merged_at is not None,
        "merged_at": None if pull.merged_at is None else stamp(pull.merged_at),
        "merged_by": user(context, pull.merged_by),
        "merge_commit_sha": pull.merge_sha,
        "head": _side(context, found, pull.head, head_sha),
        "base": _side(context, found, pull.base, base_sha),
        "auto_merge": None,
    }
    if full:
        mergeable = None if item.state == "closed" else git.merged(base_sha, head_sha) is not None
        ahead = [sha for sha in git.history(head_sha) if sha not in set(git.history(base_sha))]
        values |= {
            "mergeable": mergeable,
            "rebaseable": mergeable,
            "mergeable_state": {None: "unknown", True: "clean", False: "dirty"}[mergeable],
            "comments": sum(each.issue == pull.number for each in found.comments.values()),
            "commits": len(ahead),
            "additions": 0,
            "deletions": 0,
            "changed_files": len({path for sha in ahead for path in git.changes(sha)}),
        }
    return over(example(context, kind, full_name=found.full_name, number=pull.number), values)


def _side(context: Context, found: Repository, branch: str, sha: str) -> Json:
    return {
        "label": f"{found.owner}:{branch}",
        "ref": branch,
        "sha": sha,
        "user": user(context, found.owner),
        "repo": repository(context, found),
    }
