"""The fake's answers about issues and their comments."""

from typing import Any

from tests.servers.github_git import moment
from tests.servers.github_issue_bodies import comment as comment_body
from tests.servers.github_issue_bodies import issue as issue_body
from tests.servers.github_routes import Answer, Context, Json, Refused, answers, invalid
from tests.servers.github_world import Comment, Issue, Repository

_LONGEST_BODY = 65_536
_LONGEST_TITLE = 256


@answers("GET /repos/{owner}/{repo}/issues")
def list_issues(context: Context) -> Answer:
    found = context.repository()
    query = context.query
    items = [each for each in found.issues.values() if _is_wanted(each, context)]
    by = query.get("sort", "created")
    items.sort(key=lambda each: (_order(found, each, by), each.number), reverse=query.get("direction") != "asc")
    page, headers = context.page(items, repository=found)
    return Answer(body=[issue_body(context, found, each) for each in page], headers=headers)


def _order(found: Repository, item: Issue, by: str) -> float:
    if by == "comments":
        return sum(each.issue == item.number for each in found.comments.values())
    return item.updated_at if by == "updated" else item.created_at


def _is_wanted(item: Issue, context: Context) -> bool:
    query = context.query
    state = query.get("state", "open")
    labels = [name.strip().lower() for name in query.get("labels", "").split(",") if name.strip()]
    have = {name.lower() for name in item.labels}
    assignee = query.get("assignee")
    since = query.get("since")
    try:
        fresh = not since or item.updated_at >= moment(since)
    except ValueError as error:
        raise Refused(422, "since must be a timestamp") from error
    return (
        state in (item.state, "all")
        and have.issuperset(labels)
        and query.get("creator", item.author).lower() == item.author.lower()
        and (assignee is None or _is_assigned(item, assignee))
        and fresh
    )


def _is_assigned(item: Issue, to: str) -> bool:
    if to in ("*", "none"):
        return bool(item.assignees) == (to == "*")
    return to.lower() in [each.lower() for each in item.assignees]


def new_issue(context: Context, found: Repository, body: Json, resource: str) -> Issue:
    """An issue, also the one of a new pull request, with the next number."""
    _check(body, resource)
    now = context.world.now()
    number = max(found.issues, default=0) + 1
    item = Issue(
        number=number,
        id=next(context.world.ids),
        author=context.actor(),
        title=str(body["title"]),
        body=body.get("body"),
        created_at=now,
        updated_at=now,
        labels=_labels(body.get("labels") or []),
        assignees=list(body.get("assignees") or ([body["assignee"]] if body.get("assignee") else [])),
    )
    for login in item.assignees:
        context.world.add_account(login)
    found.issues[number] = item
    found.updated_at = now
    return item


def _check(body: Json, resource: str) -> None:
    title = body.get("title")
    if title is not None and not str(title).strip():
        raise invalid(resource, "title", "missing_field")
    if title is not None and len(str(title)) > _LONGEST_TITLE:
        message = f"title is too long (maximum is {_LONGEST_TITLE} characters)"
        raise invalid(resource, "title", "custom", message=message)
    if len(body.get("body") or "") > _LONGEST_BODY:
        message = f"body is too long (maximum is {_LONGEST_BODY} characters)"
        raise invalid(resource, "body", "custom", message=message)


def _labels(given: list[Any]) -> list[str]:
    names = (each if isinstance(each, str) else each["name"] for each in given)
    return list(dict.fromkeys(names))


@answers("POST /repos/{owner}/{repo}/issues")
def create_issue(context: Context) -> Answer:
    context.author()
    found = context.repository()
    if not found.has_issues:
        raise Refused(410, "Issues has been disabled in this repository.")
    body = dict(context.body)
    if not context.world.may_write(context.viewer, found):
        for name in ("labels", "assignees", "assignee", "milestone"):
            body.pop(name, None)  # GitHub drops them silently
    shown = issue_body(context, found, new_issue(context, found, body, "Issue"))
    return Answer(status=201, body=shown, headers={"Location": shown["url"]})


def issue_of(context: Context, found: Repository, place: str = "issue_number") -> Issue:
    """The issue that the path names.

    Raises:
        Refused: there is none.
    """
    number = context.places[place]
    item = found.issues.get(int(number)) if number.isdigit() else None
    if item is None:
        raise Refused(404, "Not Found")
    return item


@answers("GET /repos/{owner}/{repo}/issues/{issue_number}")
def get_issue(context: Context) -> Answer:
    found = context.repository()
    item = issue_of(context, found)
    return Answer(body=issue_body(context, found, item), modified_at=item.updated_at)


@answers("PATCH /repos/{owner}/{repo}/issues/{issue_number}")
def update_issue(context: Context) -> Answer:
    found = context.repository()
    login = context.actor()
    item = issue_of(context, found)
    if not context.world.may_write(context.viewer, found) and item.author != login:
        raise Refused(403, "Must have admin rights to Repository.")
    body = context.body
    _check(body, "Issue")
    if "title" in body:
        item.title = str(body["title"])
    if "body" in body:
        item.body = body["body"]
    if "labels" in body:
        item.labels = _labels(body["labels"])
    if "assignees" in body:
        item.assignees = list(body["assignees"])
        for each in item.assignees:
            context.world.add_account(each)
    now = context.world.now()
    if body.get("state", item.state) != item.state:
        item.state = body["state"]
        closed = item.state == "closed"
        item.closed_at, item.closed_by = (now, login) if closed else (None, None)
        item.state_reason = (body.get("state_reason") or "completed") if closed else "reopened"
    elif "state_reason" in body:
        item.state_reason = body["state_reason"]
    item.updated_at = now
    return Answer(body=issue_body(context, found, item))


@answers("GET /repos/{owner}/{repo}/issues/{issue_number}/comments")
def list_comments(context: Context) -> Answer:
    found = context.repository()
    item = issue_of(context, found)
    comments = [each for each in found.comments.values() if each.issue == item.number]
    if context.query.get("since"):
        comments = [each for each in comments if each.updated_at >= moment(context.query["since"])]
    page, headers = context.page(comments, repository=found)
    return Answer(body=[comment_body(context, found, each) for each in page], headers=headers)


@answers("POST /repos/{owner}/{repo}/issues/{issue_number}/comments")
def create_comment(context: Context) -> Answer:
    login = context.author()
    found = context.repository()
    item = issue_of(context, found)
    _check_comment(context.body["body"])
    now = context.world.now()
    made = Comment(
        id=next(context.world.ids),
        issue=item.number,
        author=login,
        body=context.body["body"],
        created_at=now,
        updated_at=now,
    )
    found.comments[made.id] = made
    item.updated_at = now
    shown = comment_body(context, found, made)
    return Answer(status=201, body=shown, headers={"Location": shown["url"]})


def _check_comment(body: str) -> None:
    if not body.strip():
        raise invalid("IssueComment", "body", "missing_field")
    if len(body) > _LONGEST_BODY:
        message = f"body is too long (maximum is {_LONGEST_BODY} characters)"
        raise invalid("IssueComment", "body", "unprocessable", message=message)


def _comment_of(context: Context, found: Repository) -> Comment:
    number = context.places["comment_id"]
    item = found.comments.get(int(number)) if number.isdigit() else None
    if item is None:
        raise Refused(404, "Not Found")
    return item


@answers("GET /repos/{owner}/{repo}/issues/comments/{comment_id}")
def get_comment(context: Context) -> Answer:
    found = context.repository()
    item = _comment_of(context, found)
    return Answer(body=comment_body(context, found, item), modified_at=item.updated_at)


@answers("PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}")
def update_comment(context: Context) -> Answer:
    found = context.repository()
    item = _own_comment(context, found)
    _check_comment(context.body["body"])
    item.body = context.body["body"]
    item.updated_at = context.world.now()
    return Answer(body=comment_body(context, found, item))


@answers("DELETE /repos/{owner}/{repo}/issues/comments/{comment_id}")
def delete_comment(context: Context) -> Answer:
    found = context.repository()
    del found.comments[_own_comment(context, found).id]
    return Answer(status=204)


def _own_comment(context: Context, found: Repository) -> Comment:
    login = context.actor()
    item = _comment_of(context, found)
    if not context.world.may_write(context.viewer, found) and item.author != login:
        raise Refused(403, "Must have admin rights to Repository.")
    return item
