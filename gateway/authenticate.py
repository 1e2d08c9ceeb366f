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

_CALLER = Caller()  # one key, one tenant: keys of tenants with scopes replace this line


class Authenticator:
    """Knows the digest of the key that lets callers in.

    Raises:
        ConfigurationError: no key is configured; the gateway never runs open.
    """

    def __init__(self, api_key: Secret) -> None:
        if not api_key:
            raise ConfigurationError(
                "gateway.api_key is empty: set MCP_API_KEY (or MCP_API_KEY_FILE), or start everything with `make up`",
                key="gateway.api_key",
            )
        # 256 random bits need no slow hash; digests of equal length keep the comparison blind to the key's length.
        self._digest = hashlib.sha256(api_key.reveal().encode()).digest()

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
        if not hmac.compare_digest(hashlib.sha256(key.strip().encode("latin-1")).digest(), self._digest):
            raise AuthenticationFailed("the API key is not known")
        return _CALLER

    def required(self, handler: CallerHandler) -> Handler:
        """The handler, run only for a known caller; the body of anybody else is not even read."""

        async def run(request: Request) -> ASGIApp:
            return await handler(request, self.caller(request))

        return run
