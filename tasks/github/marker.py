"""The mark that a creation carries, so that it is found again when its answer was lost.

It is an HTML comment at the end of the text, which GitHub does not show: `<!-- toolswarm:CALL_ID -->`. It is looked
for in lists, which are up to date, and never by search, whose index lags.
"""

from datetime import UTC, datetime
from uuid import UUID

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
