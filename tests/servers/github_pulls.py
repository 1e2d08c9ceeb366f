"""The fake's answers about pull requests."""

from tests.servers.github_git import Commit
from tests.servers.github_issue_bodies import pull_request
from tests.servers.github_issues import issue_of, new_issue
from tests.servers.github_routes import Answer, Context, Refused, answers, invalid
from tests.servers.github_world import Pull, Repository

_HEADS = "refs/heads/"
_METHODS = ("merge", "squash", "rebase")


@answers("GET /repos/{owner}/{repo}/pulls")
def list_pulls(context: Context) -> Answer:
    found = context.repository()
    query = context.query
    state = query.get("state", "open")
    pulls = [each for each in found.pulls.values() if state in ("all", found.issues[each.number].state)]
    if "head" in query:
        owner, _, branch = query["head"].rpartition(":")
        pulls = [each for each in pulls if each.head == branch and owner.lower() in ("", found.owner.lower())]
    if "base" in query:
        pulls = [each for each in pulls if each.base == query["base"]]
    by_update = query.get("sort") == "updated"
    descending = query.get("direction", "asc" if query.get("sort") not in (None, "created") else "desc") == "desc"
    pulls.sort(
        key=lambda each: (found.issues[each.number].updated_at if by_update else 0, each.number), reverse=descending
    )
    page, headers = context.page(pulls, repository=found)
    return Answer(body=[pull_request(context, found, each, full=False) for each in page], headers=headers)


@answers("POST /repos/{owner}/{repo}/pulls")
def create_pull(context: Context) -> Answer:
    context.author()
    found = context.repository(empty=False)
    body = context.body
    owner, _, head = body["head"].rpartition(":")
    base = body["base"]
    for name, branch in (("head", head), ("base", base)):
        if _HEADS + branch not in found.git.refs or (name == "head" and owner.lower() not in ("", found.owner.lower())):
            raise invalid("PullRequest", name)
    head_sha, base_sha = found.git.refs[_HEADS + head], found.git.refs[_HEADS + base]
    if any(
        (each.head, each.base) == (head, base) and found.issues[each.number].state == "open"
        for each in found.pulls.values()
    ):
        raise _custom(f"A pull request already exists for {found.owner}:{head}.")
    if found.git.is_ancestor(head_sha, base_sha):
        raise _custom(f"No commits between {base} and {head}")
    if "title" not in body:
        raise invalid("PullRequest", "title", "missing_field")
    item = new_issue(context, found, {"title": body["title"], "body": body.get("body")}, "PullRequest")
    pull = Pull(number=item.number, head=head, base=base, head_sha=head_sha, draft=bool(body.get("draft")))
    found.pulls[item.number] = pull
    shown = pull_request(context, found, pull, full=True)
    return Answer(status=201, body=shown, headers={"Location": shown["url"]})


def _custom(message: str) -> Refused:
    return Refused(422, "Validation Failed", errors=[{"resource": "PullRequest", "code": "custom", "message": message}])


def _pull_of(context: Context, found: Repository) -> Pull:
    number = context.places["pull_number"]
    pull = found.pulls.get(int(number)) if number.isdigit() else None
    if pull is None:
        raise Refused(404, "Not Found")
    return pull


@answers("GET /repos/{owner}/{repo}/pulls/{pull_number}")
def get_pull(context: Context) -> Answer:
    found = context.repository()
    pull = _pull_of(context, found)
    at = found.issues[pull.number].updated_at
    return Answer(body=pull_request(context, found, pull, full=True), modified_at=at)


@answers("GET /repos/{owner}/{repo}/pulls/{pull_number}/merge")
def is_merged(context: Context) -> Answer:
    pull = _pull_of(context, context.repository())
    if pull.merged_at is None:
        raise Refused(404, "Not Found")
    return Answer(status=204)


@answers("PUT /repos/{owner}/{repo}/pulls/{pull_number}/merge")
def merge_pull(context: Context) -> Answer:
    found = context.repository(write=True)
    pull = _pull_of(context, found)
    body = context.body
    item = issue_of(context, found, "pull_number")
    if pull.draft:
        raise Refused(405, "Pull Request is still a draft")
    if item.state != "open":
        raise Refused(405, "Pull Request is not mergeable")
    git, login = found.git, context.actor()
    head = git.refs.get(_HEADS + pull.head)
    if head is None or body.get("sha", head) != head:
        raise Refused(409, "Head branch was modified. Review and try the merge again.")
    base = git.refs[_HEADS + pull.base]
    files = git.merged(base, head)
    if files is None:
        raise Refused(405, "Pull Request is not mergeable")
    method = body.get("merge_method", _METHODS[0])
    title = body.get("commit_title") or f"Merge pull request #{pull.number} from {found.owner}/{pull.head}"
    message = body.get("commit_message")
    sha = git.add_commit(
        Commit(
            tree=git.add_tree(files),
            parents=(base, head) if method == _METHODS[0] else (base,),
            message=f"{title}\n\n{item.title if message is None else message}",
            author=context.world.signature(login),
            committer=context.world.signature(login),
            login=login,
        )
    )
    git.refs[_HEADS + pull.base] = sha
    now = context.world.now()
    pull.merged_at, pull.merged_by, pull.merge_sha, pull.head_sha = now, login, sha, head
    item.state, item.closed_at, item.closed_by, item.updated_at = "closed", now, login, now
    return Answer(body={"sha": sha, "merged": True, "message": "Pull Request successfully merged"})
