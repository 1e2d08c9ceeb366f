"""The mark that a creation carries, so that it is found again when its answer was lost.

It is an HTML comment at the end of the text, which GitHub does not show: `<!-- toolswarm:CALL_ID -->`. It is looked
for in lists, which are up to date, and never by search, whose index lags. Whoever sees it can copy it into a text of
their own: so the author counts too, and the oldest one.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tasks.confined import shown
from tasks.github.call import GithubCall
from tasks.github.refs import cannot_tell
from tasks.operation import Run
from toolswarm.errors import OperationFailed

LONGEST_BODY = 65_536
"""Characters; GitHub refuses more."""
_CLOCKS_DIFFER_S = 3600.0
"""The call's id was made by the clock of another machine than GitHub's."""


def mark(run: Run) -> str:
    """The call's mark."""
    return f"<!-- toolswarm:{run.call.id} -->"


def marked(body: str, run: Run) -> str:
    """The text with the call's mark at its end.

    Raises:
        OperationFailed: `too_large`.
    """
    text = f"{body}\n\n{mark(run)}" if body else mark(run)
    if len(text) > LONGEST_BODY:
        limit = LONGEST_BODY - len(mark(run)) - 2
        raise OperationFailed(
            f"body has {len(body)} characters, and GitHub takes {limit} with our mark; shorten it",
            code="too_large",
            before_effect=True,
            argument="body",
            limit=limit,
        )
    return text


def has_mark(body: str | None, run: Run) -> bool:
    """Whether a text is the one that this call made."""
    return body is not None and mark(run) in body


def made_by(
    github: GithubCall,
    run: Run,
    rows: Iterable[dict[str, Any]],
    *,
    is_as_wanted: Callable[[dict[str, Any]], bool] = lambda _: True,
) -> dict[str, Any] | None:
    """The oldest of the rows that bears the call's mark, is by the credential's own account, and is as it was wanted.

    Raises:
        OperationFailed: `cannot_tell`, when what the credential wrote with this mark is otherwise by now.
    """
    bearing = [row for row in rows if has_mark(row.get("body"), run)]
    author = github.own_author() if bearing else ""
    own = [row for row in bearing if not author or _login_of(row) == author.lower()]
    wanted = [row for row in own if is_as_wanted(row)]
    if own and author and not wanted:
        raise cannot_tell(f"what bears the mark of this call was changed: {shown(str(own[-1].get('html_url')))}")
    return min(wanted, key=lambda row: (str(row["created_at"]), int(row["id"])), default=None)


def is_titled(row: dict[str, Any], title: str) -> bool:
    """Whether it has this title; GitHub takes away the blanks around it."""
    return str(row.get("title")).split() == title.split()


def _login_of(row: dict[str, Any]) -> str:
    user: dict[str, Any] = row.get("user") or {}  # null: the account is gone
    return str(user.get("login", "")).lower()


def earliest(run: Run) -> str | None:
    """A time (ISO 8601) before which the call cannot have made anything; None when its id does not say."""
    try:
        call_id = UUID(run.call.id)
    except ValueError:
        return None
    if call_id.version != 7:
        return None
    made_at = (call_id.int >> 80) / 1000
    return datetime.fromtimestamp(max(made_at - _CLOCKS_DIFFER_S, 0), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
