"""Who calls: the bearer key of a request, compared in constant time, and never logged, returned or kept in clear."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.types import ASGIApp

from routing.front import Caller
from store.sections import Secret
from toolswarm.errors import AuthenticationFailed, ConfigurationError

Handler = Callable[[Request], Awaitable[ASGIApp]]
CallerHandler = Callable[[Request, Caller], Awaitable[ASGIApp]]

NO_KEY = Secret("")
# One key, one tenant: keys of tenants with scopes replace these lines.
_CALLER = Caller()
_OPERATOR = Caller(operator=True)


class Authenticator:
    """Knows the digests of the key that lets callers in, and of the operator's; without one, the first is his.

    Raises:
        ConfigurationError: no key is configured; the gateway never runs open.
    """

    def __init__(self, api_key: Secret, operator_key: Secret = NO_KEY) -> None:
        if not api_key:
            raise ConfigurationError(
                "gateway.api_key is empty: set MCP_API_KEY (or MCP_API_KEY_FILE), or start everything with `make up`",
                key="gateway.api_key",
            )
        # 256 random bits need no slow hash; digests of equal length keep the comparison blind to the key's length.
        self._digest = _digest(api_key.reveal().encode())
        self._operators = _digest(operator_key.reveal().encode()) if operator_key else self._digest

    def caller(self, request: Request) -> Caller:
        """Whom the request's key stands for.

        Raises:
            AuthenticationFailed: no key, or not this one.
        """
        header = request.headers.get("authorization", "")
        scheme, _, key = header.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise AuthenticationFailed("send the API key as `Authorization: Bearer KEY`")
        # Headers arrive as latin-1; encoding them back gives the very bytes that were sent.
        given = _digest(key.strip().encode("latin-1"))
        is_operator, is_caller = (hmac.compare_digest(given, one) for one in (self._operators, self._digest))
        if is_operator:
            return _OPERATOR
        if is_caller:
            return _CALLER
        raise AuthenticationFailed("the API key is not known")

    def required(self, handler: CallerHandler) -> Handler:
        """The handler, run only for a known caller; the body of anybody else is not even read."""

        async def run(request: Request) -> ASGIApp:
            return await handler(request, self.caller(request))

        return run


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
