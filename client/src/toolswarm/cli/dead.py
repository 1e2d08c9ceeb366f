"""`dead`: the calls that somebody should look at, and what may be done with them."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from cyclopts import Parameter

from toolswarm.cli.exits import FAILED, OK
from toolswarm.cli.flags import Json, Url
from toolswarm.cli.output import pretty, print_json, print_line, print_table
from toolswarm.client import Client
from toolswarm.errors import InvalidRequest
from toolswarm.messages import DeadLetter, DeadPage, DeadRequest
from toolswarm.states import State

Action = Literal["list", "show", "retry", "resolve", "drop"]


def dead(
    action: Action = "list",
    /,
    *ids: str,
    operation: str | None = None,
    code: str | None = None,
    state: Literal["failed", "unknown"] | None = None,
    outcome: Annotated[Literal["succeeded", "failed"] | None, Parameter(name="--as")] = None,
    note: str = "",
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    limit: int = 100,
    json: Json = False,
    url: Url = None,
) -> int:
    """Look at dead letters: calls whose last attempt failed, and calls whose outcome is unknown.

    Args:
        action: list (groups and letters), show ID, retry, resolve ID --as succeeded|failed, or drop.
        ids: The calls that are meant; without any, those that the flags choose.
        operation: Only calls of this operation, e.g. github.create_issue.
        code: Only calls that failed with this code.
        state: Only failed calls, or only those of unknown outcome.
        outcome: For resolve: what you have found out.
        note: For resolve: how.
        every: For retry and drop without ids or flags: yes, all of them.
        limit: How many at most.
        json: Print one JSON document.
        url: The swarm, when it should not be found by itself.
    """
    chosen = ids or operation or code or state
    if action in ("retry", "drop", "resolve") and not (chosen or every):
        raise InvalidRequest(f"dead {action}: name calls, choose some with --operation, --code, --state, or say --all")
    if action == "show" and not ids:
        raise InvalidRequest("dead show: name a call; `toolswarm dead list` shows the ids")
    request = DeadRequest(
        ids=ids,
        operation=operation,
        code=code,
        state=None if state is None else State(state),
        limit=limit,
        outcome=None if outcome is None else State(outcome),
        note=note,
    )
    with Client(url) as client:
        page = client.dead("list" if action == "show" else action, request)
    if json:
        print_json(page)
    elif action == "show":
        _show(page)
    else:
        _list(page, action)
    return FAILED if ids and len(page.letters) < len(ids) else OK


def _list(page: DeadPage, action: Action) -> None:
    if not page.letters:
        print_line("no dead letter" + ("" if action == "list" else f" to {action}"))
        return
    print_table(
        ("COUNT", "OPERATION", "STATE", "CODE", "LAST", "MESSAGE"),
        [
            (str(each.count), each.operation, each.state, each.code, _when(each.last_at), each.message)
            for each in page.groups
        ],
    )
    print_line("")
    print_table(("ID", "OPERATION", "STATE", "CODE", "ENDED", "NOW"), [_row(each, action) for each in page.letters])
    if page.total > len(page.letters):
        print_line(f"and {page.total - len(page.letters)} more; --limit shows them")


def _row(each: DeadLetter, action: Action) -> tuple[str, ...]:
    now = {"retry": f"runs again as {each.retried_as}", "drop": "dropped", "resolve": f"resolved: {each.resolved}"}
    return each.id, each.operation, each.state, each.code, _when(each.ended_at), now.get(action, "")


def _show(page: DeadPage) -> None:
    if not page.letters:
        print_line("no dead letter of that id")
    for each in page.letters:
        print_line(f"{each.id}  {each.operation}  {each.state}: {each.code}")
        print_line(f"  {each.message}")
        print_line(f"  accepted {_when(each.accepted_at)}, ended {_when(each.ended_at)}, attempts: {each.attempts}")
        print_line(f"  arguments: {pretty(each.arguments)}".replace("\n", "\n  "))
        if each.details:
            print_line(f"  details: {pretty(each.details)}".replace("\n", "\n  "))


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
