"""A search before it is sent, and the page of what it finds: the query within its scope, the order, the cursor."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from tasks.github.call import GithubCall
from tasks.github.names import checked_owner
from tasks.github.pages import cursor_of, page_of
from tasks.github.query_rule import Kind
from tasks.github.query_scope import Scope
from tasks.github.query_words import OPERATORS, names_a_scope, outside_quotes, split
from tasks.github.rows import typed
from tasks.github.search_shapes import UpstreamHits
from tasks.github.smart_query import SmartQuery, smart_query
from tasks.operation import Run
from toolswarm.errors import OperationFailed

_MOST_RESULTS = 1000
"""GitHub shows no more of a search, however much it has found."""
_WITH_FRAGMENTS = "application/vnd.github.text-match+json"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of GitHub."""

    kind: Kind
    smart: SmartQuery
    order: dict[str, str]
    number: int
    size: int
    key: str


def plan_of(
    github: GithubCall,
    run: Run,
    kind: Kind,
    *,
    query: str,
    where: tuple[str | None, str | None] = ("", None),
    raw: bool,
    order: tuple[str | None, str] = (None, "desc"),
    page: tuple[str | None, int],
) -> Plan:
    """The query within its scope; `where` is repository and owner, `page` cursor and limit."""
    now = datetime.now(UTC)
    repo, owner = where
    if repo and owner:
        raise OperationFailed(
            "repo and owner exclude each other; leave owner out",
            code="invalid_arguments",
            before_effect=True,
            argument="owner",
        )
    scope = Scope(repo=github.full_name(repo) if repo else "", owner=checked_owner(owner) if owner else "")
    smart = smart_query(query, kind, now=now, scope=scope, raw=raw)
    nearby = run.call.context.repo
    if nearby and repo is None and not owner and not raw and not any(map(_settles_the_scope, split(smart.query))):
        scope = Scope(repo=github.full_name(nearby))
        smart = smart_query(query, kind, now=now, scope=scope)
    key = " ".join([kind, scope.term, str(raw), str(order), query])
    number, size = page_of(page[0], limit=page[1], key=key)
    ordered = {"sort": order[0], "order": order[1]} if order[0] else {}
    return Plan(kind=kind, smart=smart, order=ordered, number=number, size=size, key=key)


def _settles_the_scope(token: str) -> bool:
    return names_a_scope(token) or token in OPERATORS or not set("()").isdisjoint(outside_quotes(token))


def found(github: GithubCall, plan: Plan) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What GitHub found, and the fields that all results of searches have."""
    github.about(f"search for {plan.kind}")
    parameters = {"q": plan.smart.query, "per_page": plan.size, "page": plan.number + 1, **plan.order}
    accept = _WITH_FRAGMENTS if plan.kind is Kind.CODE else None
    answer = github.json("GET", f"/search/{plan.kind}", parameters=parameters, accept=accept)
    hits = typed(answer, UpstreamHits)
    seen = (plan.number + 1) * plan.size
    more = seen < min(hits.total_count, _MOST_RESULTS)
    fields: dict[str, Any] = {
        "query": plan.smart.query,
        "applied": plan.smart.applied,
        "dropped": plan.smart.dropped,
        "total": hits.total_count,
        "incomplete": hits.incomplete_results,
        "next_cursor": cursor_of(plan.number + 1, plan.size, plan.key) if more else None,
        "api_requests": github.api_requests,
        "untrusted": True,
    }
    return hits.items[: plan.size], fields
