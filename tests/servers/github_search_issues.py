"""The fake's search for issues and pull requests, which really applies the common qualifiers."""

from functools import partial

from tests.servers.github_issue_bodies import issue as issue_body
from tests.servers.github_query import Query, moment_fits, number_fits
from tests.servers.github_routes import Answer, Context, Json, answers
from tests.servers.github_search import all_fit, checked_query, in_scope, results, text_fits
from tests.servers.github_world import Issue, Repository

_KNOWN = (
    "repo user org is type state author assignee mentions commenter involves label milestone no in created updated "
    "closed merged comments draft head base language archived reason"
)
_Hit = tuple[Repository, Issue]


@answers("GET /search/issues")
def search_issues(context: Context) -> Answer:
    query = checked_query(context, _KNOWN)
    newest = context.world.now() - context.world.index_lag_s
    found = [
        (place, item)
        for place in in_scope(context, query)
        for item in place.issues.values()
        if item.created_at <= newest and all_fit(query.terms, partial(_issue_fits, context, query, (place, item)))
    ]
    orders = {"created": _created_at, "updated": _updated_at, "comments": _comments}
    return results(context, found, partial(_shown, context), orders, search_type="lexical")


def _shown(context: Context, hit: _Hit) -> Json:
    shown = issue_body(context, *hit, "found-issue")
    shown["body"] = shown["body"] or ""  # as it is described; an issue itself may have null
    return {**issue_body(context, *hit), **shown}  # recordings have fields that GitHub's example lacks


def _created_at(hit: _Hit) -> float:
    return hit[1].created_at


def _updated_at(hit: _Hit) -> float:
    return hit[1].updated_at


def _comments(hit: _Hit) -> float:
    place, item = hit
    return sum(each.issue == item.number for each in place.comments.values())


def _issue_fits(context: Context, query: Query, hit: _Hit, name: str, value: str) -> bool:
    place, item = hit
    pull = place.pulls.get(item.number)
    value = (context.viewer.login or "").lower() if value == "@me" else value.removeprefix("@")
    comments = [each for each in place.comments.values() if each.issue == item.number]
    match name:
        case "":
            parts = {
                "title": item.title,
                "body": item.body or "",
                "comments": "\n".join(each.body for each in comments),
            }
            return text_fits(query, value, parts, tuple(parts))
        case "repo" | "user" | "org":
            return value in (place.full_name.lower(), place.owner.lower())
        case "is" | "type" | "state":
            return value in _issue_kinds(place, item)
        case "author":
            return item.author.lower() == value
        case "assignee":
            return value in [each.lower() for each in item.assignees] or (value == "*" and bool(item.assignees))
        case "mentions":
            return f"@{value}" in f"{item.title} {item.body or ''}".lower()
        case "commenter":
            return value in [each.author.lower() for each in comments]
        case "involves":
            people = [item.author, *item.assignees, *(each.author for each in comments)]
            return value in [each.lower() for each in people] or f"@{value}" in (item.body or "").lower()
        case "label":
            return not {each.strip() for each in value.split(",")}.isdisjoint(each.lower() for each in item.labels)
        case "no":
            return not {"label": item.labels, "labels": item.labels, "assignee": item.assignees}.get(value)
        case "comments":
            return number_fits(value, len(comments))
        case "created" | "updated" | "closed":
            return moment_fits(value.upper(), getattr(item, f"{name}_at"))
        case "merged":
            return pull is not None and moment_fits(value.upper(), pull.merged_at)
        case "draft":
            return pull is not None and pull.draft == (value == "true")
        case "head" | "base":
            return pull is not None and getattr(pull, name).lower() == value
        case "language":
            return (place.language or "").lower() == value
        case "archived":
            return place.archived == (value == "true")
        case "reason":
            return (item.state_reason or "").replace("_", " ") == value
        case _:
            return name == "in"


def _issue_kinds(place: Repository, item: Issue) -> set[str]:
    pull = place.pulls.get(item.number)
    kinds = {item.state, "private" if place.private else "public", "unlocked"}
    if pull is None:
        return kinds | {"issue"}
    return (
        kinds
        | {"pr", "pull-request", "merged" if pull.merged_at else "unmerged"}
        | ({"draft"} if pull.draft else set())
    )
