"""What the fake's searches share: the query checked, the repositories it may look in, the page of results.

Like GitHub: a search sees what the viewer may read, and a scope that names nothing of it is refused.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from tests.servers.github_query import LONGEST, MOST_OPERATORS, Query, Term, operators, parse
from tests.servers.github_routes import Answer, Context, Json, Refused, invalid
from tests.servers.github_world import Repository

_MOST_RESULTS = 1000
_SCOPES = ("repo", "user", "org")
_NO_SCOPE = (
    "The listed users and repositories cannot be searched either because the resources do not exist "
    "or you do not have permission to view them."
)
Found = TypeVar("Found")


def checked_query(context: Context, known: str) -> Query:
    """The query that was sent, taken apart; `known` has the names of the qualifiers.

    Raises:
        Refused: it is missing, or beyond GitHub's limits.
    """
    text = context.query.get("q", "").strip()
    if not text:
        raise invalid("Search", "q", "missing")
    if len(text) > LONGEST:
        raise invalid("Search", "q", message=f"The search is longer than {LONGEST} characters.")
    if operators(text) > MOST_OPERATORS:
        raise invalid("Search", "q", message="More than five AND / OR / NOT operators were used.")
    first = (context.number("page", 1) - 1) * context.number("per_page", 30)
    if first >= _MOST_RESULTS:
        raise Refused(422, "Only the first 1000 search results are available")
    return parse(text, frozenset(known.split()))


def in_scope(context: Context, query: Query) -> list[Repository]:
    """The repositories that the query's `repo:`, `user:` and `org:` leave, of those that the viewer may read.

    Raises:
        Refused: they name nothing that there is for the viewer.
    """
    names = set(query.values("repo"))
    owners = {(context.viewer.login or "").lower() if each == "@me" else each for each in query.values("user")}
    owners |= set(query.values("org"))
    readable = [each for each in context.world.repositories.values() if context.world.may_read(context.viewer, each)]
    if not names and not owners:
        return readable
    known = {each.full_name.lower() for each in readable}
    if not names & known and not owners & context.world.accounts.keys():
        raise invalid("Search", "q", message=_NO_SCOPE)
    return [each for each in readable if each.full_name.lower() in names or each.owner.lower() in owners]


def all_fit(terms: Iterable[Term], fits: Callable[[str, str], bool]) -> bool:
    """Whether each term of the query fits; those of the scope have been applied, unless they are negated."""
    return all(
        fits(term.name, term.value.lower()) != term.negated
        for term in terms
        if term.negated or term.name not in _SCOPES
    )


def text_fits(query: Query, value: str, parts: dict[str, str], default: Sequence[str]) -> bool:
    """Whether a word stands in the parts that `in:` names, or in the default ones."""
    wanted = [part for each in query.values("in") for part in each.split(",")] or default
    return value in "\n".join(parts.get(part, "") for part in wanted).lower()


def results(
    context: Context,
    found: list[Found],
    show: Callable[[Found], Json],
    orders: Mapping[str, Callable[[Found], float]] | None = None,
    **more: str,
) -> Answer:
    """The page of results that is asked for; `more` goes into the body beside them."""
    order = orders.get(context.query.get("sort", "")) if orders is not None else None
    if order is not None:
        found.sort(key=order, reverse=context.query.get("order", "desc") != "asc")
    page, headers = context.page(found[:_MOST_RESULTS])
    body: dict[str, Any] = {"total_count": len(found), "incomplete_results": False}
    return Answer(body={**body, "items": [show(each) for each in page], **more}, headers=headers)
