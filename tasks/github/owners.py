"""Who is meant when a repository is named without its owner."""

import threading
import time
from collections.abc import Callable

import msgspec

from tasks.github.exchange import Exchange
from tasks.github.failures import refusal
from tasks.github.names import checked_owner
from toolswarm.errors import OperationFailed

_REMEMBERED_S = 3600.0
_MOST_REMEMBERED = 10_000


class _Login(msgspec.Struct):
    login: str = ""


class _Account(msgspec.Struct):
    """A user, or an installation of an App with the account that it is installed in."""

    login: str = ""
    account: _Login | None = None
    app_slug: str = ""

    @property
    def owner(self) -> str:
        return self.login or (self.account.login if self.account else "")

    @property
    def author(self) -> str:
        """An App writes as its bot, whoever it is installed for."""
        return self.login or (f"{self.app_slug}[bot]" if self.app_slug else "")


class Owners:
    """The configured owner of a credential, else its account at GitHub, which is asked for once an hour."""

    def __init__(self, web_host: str) -> None:
        self.web_host = web_host
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, float]] = {}

    def default(self, exchange: Exchange, argument: str) -> str:
        """The owner; an error names the argument that was left out, or has none.

        Raises:
            OperationFailed: `no_default_owner`, and what asking GitHub may end with.
        """
        credential = exchange.credential
        if credential.default_owner:
            return credential.default_owner
        return self._remembered(f"own {credential.fingerprint}", lambda: self._account(exchange, argument).owner)

    def own_login(self, exchange: Exchange) -> str:
        """The account of the credential; empty when it has none."""
        try:
            return self._remembered(f"own {exchange.credential.fingerprint}", lambda: self._account(exchange).owner)
        except OperationFailed as error:
            if error.failure_code != "no_default_owner":
                raise
            return ""

    def is_own(self, exchange: Exchange, login: str) -> bool:
        """Whether a login is the account that the credential speaks for."""
        return exchange.credential.is_user and login.lower() == self.own_login(exchange).lower()

    def author(self, exchange: Exchange) -> str:
        """Who everything is by that the credential writes: a person, or an App's bot; empty when it has neither."""
        try:
            return self._remembered(f"author {exchange.credential.fingerprint}", lambda: self._account(exchange).author)
        except OperationFailed as error:
            if error.failure_code != "no_default_owner":
                raise
            return ""

    def _remembered(self, key: str, ask: Callable[[], str]) -> str:
        with self._lock:
            known, until = self._known.get(key, ("", 0.0))
        if time.monotonic() < until:
            return known
        known = ask()
        with self._lock:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[key] = known, time.monotonic() + _REMEMBERED_S
        return known

    def _account(self, exchange: Exchange, argument: str = "repo") -> _Account:
        credential = exchange.credential
        if not credential.account_path:
            raise _no_owner(argument)
        answer = exchange.send("GET", credential.account_path, headers=credential.account_headers())
        if answer.status == 401 or answer.status >= 500:
            raise refusal(answer.status, message="", subject="the account of the token")
        try:
            account = msgspec.json.decode(answer.body, type=_Account)
        except msgspec.MsgspecError:
            raise _no_owner(argument) from None
        if not account.owner:
            raise _no_owner(argument)
        checked_owner(account.owner)
        return account


def _no_owner(argument: str) -> OperationFailed:
    return OperationFailed(
        f"{argument} names no owner, and there is no default one; name the owner, or set github.default_owner",
        code="no_default_owner",
        before_effect=True,
        argument=argument,
    )
