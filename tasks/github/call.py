"""What one call may do with GitHub; made by `Clients.for_call`."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

import msgspec
from github import Github, GithubException
from github.GithubObject import GithubObject
from github.PaginatedList import PaginatedList
from github.Repository import Repository

from store.budgets import Known
from tasks.github.exchange import Exchange
from tasks.github.failures import NOT_GITHUBS, InDoubt, asking
from tasks.github.names import full_repository_name
from tasks.github.owners import Owners
from tasks.github.pages import Page, cursor_of, page_of
from tasks.github.requester import ExchangeGithub, ExchangeRequester
from tasks.operation import NOT_DONE, Postponed
from toolswarm.errors import OperationFailed

_Item = TypeVar("_Item", bound=GithubObject)
_Result = TypeVar("_Result")


class GithubCall:
    """GitHub, as one call sees it; `client.py` shows how an operation uses it."""

    def __init__(self, exchange: Exchange, *, base_url: str, owners: Owners) -> None:
        self._exchange = exchange
        self._requester = ExchangeRequester(exchange, base_url=base_url)
        self._owners = owners
        self._subject = "what was asked for"
        self.client: Github = ExchangeGithub(self._requester)

    @property
    def api_requests(self) -> int:
        """How many requests were sent so far."""
        return self._exchange.requests

    @property
    def changed(self) -> bool:
        """Whether a write was sent that was not refused."""
        return self._exchange.changed

    def about(self, subject: str) -> None:
        """What the next errors speak of: `repository acme/weather`."""
        self._subject = subject

    def asking(self) -> AbstractContextManager[None]:
        """Turn what goes wrong in the block into our errors; `for_call` has done so already."""
        return asking(lambda: self._subject, changed=lambda: self._exchange.changed)

    def preparing(self) -> AbstractContextManager[None]:
        """Writes in the block are no effect: nobody sees them until a later one refers to them."""
        return self._exchange.preparing()

    def default_owner(self, argument: str = "owner") -> str:
        """Who is meant when nobody is named by `argument`; may ask GitHub, once for each credential.

        Raises:
            OperationFailed: `no_default_owner`.
        """
        return self._owners.default(self._exchange, argument)

    def is_own(self, login: str) -> bool:
        """Whether a login is the credential's own account, which is asked for once an hour."""
        return self._owners.is_own(self._exchange, login)

    def own_author(self) -> str:
        """Login that what the credential writes is by; empty when it cannot be known. Asked for once an hour."""
        return self._owners.author(self._exchange)

    def full_name(self, repo: str, argument: str = "repo") -> str:
        """`owner/name` for a name, `owner/name` or a URL of this GitHub's; errors name the argument.

        Raises:
            OperationFailed: `path_refused`, `no_default_owner`.
        """
        return full_repository_name(
            repo, lambda: self.default_owner(argument), web_host=self._owners.web_host, argument=argument
        )

    def repository(self, full_name: str) -> Repository:
        """PyGithub's object of a repository, of which nothing was asked yet; the name comes from `full_name`."""
        return self.client.get_repo(full_name)

    def budgets(self, buckets: tuple[str, ...]) -> dict[str, Known]:
        """What all workers together know of the credential's rate buckets."""
        return self._exchange.known(buckets)

    def remaining_s(self) -> float:
        """Seconds that are left to the call."""
        return self._exchange.run.remaining_s()

    def pause(self, seconds: float) -> bool:
        """Wait; False when the call is to stop."""
        return self._exchange.pause(seconds)

    def page(self, found: PaginatedList[_Item], *, key: str, limit: int, cursor: str | None = None) -> Page[_Item]:
        """One page of a list, in one request; `key` names the list with all that was asked of it.

        Raises:
            OperationFailed: `cursor_refused`.
        """
        number, size = page_of(cursor, limit=limit, key=key)
        self._requester.per_page = size
        items = found.get_page(number)[:size]
        following = cursor_of(number + 1, size, key) if self._exchange.has_next else None
        return Page(items=items, next_cursor=following)

    def json(
        self,
        verb: str,
        path: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        body: Any = None,
        accept: str | None = None,
    ) -> Any:
        """GitHub's plain answer; `path` begins with a slash and has only checked or quoted parts."""
        headers = {} if accept is None else {"Accept": accept}
        _, data = self._requester.requestJsonAndCheck(verb, path, dict(parameters or {}), headers, body)
        return data

    def raw(self, path: str, *, parameters: Mapping[str, str], accept: str) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and bytes of a GET, whatever they are."""
        url = self._requester.add_parameters_to_url(path, dict(parameters))
        answer = self._exchange.send("GET", url, headers={"Accept": accept})
        return answer.status, answer.headers, answer.body

    def refuse(self, status: int, headers: Mapping[str, str], body: bytes) -> GithubException:
        """The error that PyGithub would raise for an answer of `raw`."""
        try:
            data = msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            data = {}
        return self._requester.createException(status, dict(headers), data)

    def once(self, act: Callable[[], _Result], *, look: Callable[[], object]) -> _Result:
        """What `act` returns; when its answer does not say whether it was done, what `look` finds of it.

        Nothing is sent twice. `look` returns the result, or NOT_DONE: then the call is in doubt, and the worker has it
        looked for again before it repeats it.

        Raises:
            InDoubt: it was not found, or could not be looked for.
        """
        try:
            return act()
        except InDoubt as error:
            doubt = error
        except NOT_GITHUBS as error:
            if not self._exchange.changed:
                raise
            doubt = InDoubt(
                f"the answer to the write of {self._subject} is not one of GitHub's; look whether it was done",
                code="upstream_failed",
                reason=type(error).__name__,
            )
        try:
            found = look()
        except (OperationFailed, Postponed, GithubException, *NOT_GITHUBS) as error:
            raise doubt from error
        if found is NOT_DONE:
            raise doubt
        return cast("_Result", found)
