"""The HTTP face, assembled: which path and method lead to which handler, and who may pass."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.requests import Request
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.authenticate import Authenticator, Handler
from gateway.bounds import BoundedFront
from gateway.calls import Calls, json_response
from gateway.drain import Drain
from gateway.errors import MethodNotAllowed, NoSuchPath
from gateway.mcp.endpoint import Endpoint
from gateway.mcp.server import McpFace
from gateway.outermost import TEMPLATE, Outermost
from gateway.tools import Tools
from routing.front import Front
from store.configuration import Gateway, Mcp
from store.mcp_records import McpRecords

CLOSE_TIMEOUT_S = 0.5
"""What closing connections may add to a shutdown."""

_log = logging.getLogger("gateway")


class Resource:
    """One path template with the handlers of its methods."""

    def __init__(self, template: str, **methods: Handler) -> None:
        self._template = template
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the handler of the request's method.

        Raises:
            MethodNotAllowed: there is none.
        """
        scope[TEMPLATE] = self._template
        handler = self._methods.get(scope["method"])
        if handler is None:
            allowed = sorted(self._methods)
            raise MethodNotAllowed(f"{self._template} takes {' or '.join(allowed)}", allowed=allowed)
        response = await handler(Request(scope, receive))
        await response(scope, receive, send)

    def route(self) -> Route:
        """The resource where the router finds it."""
        return Route(self._template, self)


def make_app(
    front: Front, settings: Gateway, drain: Drain, *, mcp: Mcp | None = None, records: McpRecords | None = None
) -> ASGIApp:
    """The gateway as an ASGI application that closes `front` at its end; without `records` it does not speak MCP.

    Raises:
        ConfigurationError: no API key is configured.
    """
    bounded = BoundedFront(front, settings, drain)
    calls = Calls(bounded, settings, drain)
    tools = Tools(bounded, settings)
    known = Authenticator(settings.api_key, settings.operator_key).required

    async def health(_request: Request) -> ASGIApp:
        return json_response({"status": "alive"})

    async def readiness(_request: Request) -> ASGIApp:
        await bounded.ready()
        return json_response({"status": "ready"})

    face = None if records is None else McpFace(bounded, records, gateway=settings, settings=mcp or Mcp(), drain=drain)
    endpoint = None if face is None else Endpoint(face, settings, mcp or Mcp())

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            if face is not None and endpoint is not None:
                await stack.enter_async_context(endpoint.running())
                stack.push_async_callback(face.close)
            yield
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await front.close()
        except TimeoutError:
            _log.warning("the connections to the broker did not close within %g s", CLOSE_TIMEOUT_S)

    resources = [  # tried in this order: the busiest first
        Resource("/v1/calls", POST=known(calls.submit)),
        Resource("/v1/calls/{id}", GET=known(calls.state), DELETE=known(calls.cancel)),
        Resource("/tools/{tool}/{operation}", POST=known(tools.run)),
        Resource("/v1/calls:batch", POST=known(calls.submit_batch)),
        Resource("/v1/calls/{id}/value", GET=known(calls.value)),
        Resource("/v1/calls/{id}/events", GET=known(calls.events)),
        Resource("/v1/tools", GET=known(tools.list_all)),
        Resource("/v1/tools/{name}", GET=known(tools.find)),
        Resource("/v1/route", POST=known(calls.route)),
        Resource("/v1/dead:{action}", POST=known(calls.dead)),
        Resource("/v1/fallbacks", GET=known(calls.fallbacks)),
        Resource("/v1/fallbacks/{name}", PUT=known(calls.set_fallbacks), DELETE=known(calls.set_fallbacks)),
        Resource("/v1/cache:{action}", POST=known(calls.cache)),
        Resource("/v1/status", GET=known(calls.status)),
        Resource("/openapi.json", GET=tools.openapi, HEAD=tools.openapi),
        Resource("/healthz", GET=health, HEAD=health),
        Resource("/readyz", GET=readiness, HEAD=readiness),
    ]
    if endpoint is not None:
        mcp_at = Resource(
            "/mcp", POST=known(endpoint.post), GET=known(endpoint.session), DELETE=known(endpoint.session)
        )
        resources.insert(0, mcp_at)
    routes = [resource.route() for resource in resources]
    router = Router(routes=routes, default=_no_such_path, redirect_slashes=False, lifespan=lifespan)
    return Outermost(router, drain)


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    raise NoSuchPath("there is nothing at this path; /openapi.json lists what there is")
