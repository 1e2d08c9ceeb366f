"""The way through the gateway for code on an event loop: httpx, pooled."""

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TypeVar

import httpx
import msgspec

from toolswarm import wire
from toolswarm.cache_messages import CachePage, CacheRequest
from toolswarm.endpoint import Endpoint, shown_url
from toolswarm.errors import GatewayUnreachable, ToolswarmError
from toolswarm.messages import (
    CallEvent,
    DeadPage,
    DeadRequest,
    FallbackChains,
    Operation,
    Route,
    SubmitBody,
    SwarmStatus,
    ToolResult,
)
from toolswarm.transport import Outcome

CONNECTIONS = 1000
"""Most connections at once: each waiting call holds one."""
KEPT_CONNECTIONS = 64

Decoded = TypeVar("Decoded")


class AsyncHttpTransport:
    """Speaks to the gateway of an endpoint; follows no redirect and repeats nothing."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._base = endpoint.url.rstrip("/")
        self._shown = shown_url(self._base)
        self._api_key = endpoint.api_key
        self._http = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,  # as the blocking client: the same environment gives the same way
            verify=ssl.create_default_context() if endpoint.scheme == "https" else False,  # plain http needs none
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=KEPT_CONNECTIONS),
        )

    async def submit(self, body: SubmitBody, *, wait_s: float) -> ToolResult:
        """Submit a call; the answer is not terminal when `wait_s` was over first."""
        return await self._ask(wire.submit_request(body, wait_s), ToolResult)

    async def submit_many(self, bodies: Sequence[SubmitBody], *, wait_s: float) -> list[Outcome]:
        """Submit each for itself; the answers are in the same order."""
        status, body, headers = await self._send(wire.batch_request(bodies, wait_s))
        return wire.decode_batch(status, body, headers, len(bodies))

    async def result(self, call_id: str, *, wait_s: float) -> ToolResult:
        """The result, or after `wait_s` the state so far."""
        return await self._ask(wire.result_request(call_id, wait_s), ToolResult)

    async def value(self, call_id: str) -> bytes:
        """The JSON of the call's whole value."""
        return wire.value_bytes(*await self._send(wire.value_request(call_id)))

    async def cancel(self, call_id: str) -> ToolResult:
        """Ask that the call stop."""
        return await self._ask(wire.cancel_request(call_id), ToolResult)

    async def route(self, body: SubmitBody) -> Route:
        """Where the call would go, and why."""
        return await self._ask(wire.route_request(body), Route)

    async def tools(self, name: str | None) -> list[Operation]:
        """The catalogue, or the part of it that `name` (operation, alias or tool) means."""
        return (await self._ask(wire.tools_request(name), wire.Catalogue)).operations

    async def status(self) -> SwarmStatus:
        """Workers, backlogs and counts."""
        return await self._ask(wire.Request(method="GET", path=wire.STATUS), SwarmStatus)

    async def fallbacks(self, name: str | None, chain: Sequence[str] | None) -> FallbackChains:
        """The fallback chains, after the named one was set, or given back to the configuration (no chain)."""
        return await self._ask(wire.fallbacks_request(name, chain), FallbackChains)

    async def dead(self, action: str, request: DeadRequest) -> DeadPage:
        """List, retry, resolve or drop dead letters."""
        return await self._ask(wire.dead_request(action, request), DeadPage)

    async def cache(self, action: str, request: CacheRequest) -> CachePage:
        """Look at the result cache, invalidate tags, or warm it."""
        return await self._ask(wire.cache_request(action, request), CachePage)

    async def events(self, call_id: str) -> AsyncIterator[CallEvent]:
        """The states of the call from now on, ending with the terminal one."""
        request = self._request(wire.events_request(call_id), read_s=wire.EVENT_SILENCE_S)
        try:
            response = await self._http.send(request, stream=True)
            try:
                if response.status_code >= 300:
                    wire.decode_answer(response.status_code, await response.aread(), response.headers, CallEvent)
                lines = wire.EventLines()
                async for chunk in response.aiter_bytes():
                    for data in lines.feed(chunk):
                        event = msgspec.json.decode(data, type=CallEvent)
                        yield event
                        if event.state.terminal:
                            return
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        except msgspec.DecodeError as error:
            raise ToolswarmError("the gateway sent an event that is not well-formed") from error
        raise GatewayUnreachable(f"the gateway at {self._shown} ended the events before the call ended", id=call_id)

    async def close(self) -> None:
        """Give connections back; bears being called twice."""
        await self._http.aclose()

    async def _ask(self, request: wire.Request, kind: type[Decoded]) -> Decoded:
        return wire.decode_answer(*await self._send(request), kind)

    async def _send(self, request: wire.Request) -> tuple[int, bytes, Mapping[str, str]]:
        try:
            response = await self._http.send(self._request(request, read_s=request.wait_s + wire.ANSWER_MARGIN_S))
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        return response.status_code, response.content, response.headers

    def _request(self, request: wire.Request, *, read_s: float) -> httpx.Request:
        return self._http.build_request(
            request.method,
            self._base + request.path,
            content=request.body,
            headers=wire.all_headers(request, self._api_key),
            timeout=httpx.Timeout(read_s, connect=wire.CONNECT_TIMEOUT_S),
        )

    def _unreachable(self, error: httpx.HTTPError) -> GatewayUnreachable:
        return GatewayUnreachable(
            f"the gateway at {self._shown} does not answer ({type(error).__name__}); is it running?", url=self._shown
        )
