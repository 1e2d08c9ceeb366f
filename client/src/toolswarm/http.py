"""The way through the gateway for code that blocks: urllib3, pooled, shared by any number of threads."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

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

CONNECTIONS = 64
"""Connections kept open; more threads than that open one for each request."""

Decoded = TypeVar("Decoded")


class HttpTransport:
    """Speaks to the gateway of an endpoint; follows no redirect and repeats nothing."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._base = endpoint.url.rstrip("/")
        self._shown = shown_url(self._base)
        self._api_key = endpoint.api_key
        self._pool = urllib3.PoolManager(maxsize=CONNECTIONS, retries=False)

    def submit(self, body: SubmitBody, *, wait_s: float) -> ToolResult:
        """Submit a call; the answer is not terminal when `wait_s` was over first."""
        return self._ask(wire.submit_request(body, wait_s), ToolResult)

    def submit_many(self, bodies: Sequence[SubmitBody], *, wait_s: float) -> list[Outcome]:
        """Submit each for itself; the answers are in the same order."""
        status, body, headers = self._send(wire.batch_request(bodies, wait_s))
        return wire.decode_batch(status, body, headers, len(bodies))

    def result(self, call_id: str, *, wait_s: float) -> ToolResult:
        """The result, or after `wait_s` the state so far."""
        return self._ask(wire.result_request(call_id, wait_s), ToolResult)

    def value(self, call_id: str) -> bytes:
        """The JSON of the call's whole value."""
        return wire.value_bytes(*self._send(wire.value_request(call_id)))

    def cancel(self, call_id: str) -> ToolResult:
        """Ask that the call stop."""
        return self._ask(wire.cancel_request(call_id), ToolResult)

    def route(self, body: SubmitBody) -> Route:
        """Where the call would go, and why."""
        return self._ask(wire.route_request(body), Route)

    def tools(self, name: str | None) -> list[Operation]:
        """The catalogue, or the part of it that `name` (operation, alias or tool) means."""
        return self._ask(wire.tools_request(name), wire.Catalogue).operations

    def status(self) -> SwarmStatus:
        """Workers, backlogs and counts."""
        return self._ask(wire.Request(method="GET", path=wire.STATUS), SwarmStatus)

    def fallbacks(self, name: str | None, chain: Sequence[str] | None) -> FallbackChains:
        """The fallback chains, after the named one was set, or given back to the configuration (no chain)."""
        return self._ask(wire.fallbacks_request(name, chain), FallbackChains)

    def dead(self, action: str, request: DeadRequest) -> DeadPage:
        """List, retry, resolve or drop dead letters."""
        return self._ask(wire.dead_request(action, request), DeadPage)

    def cache(self, action: str, request: CacheRequest) -> CachePage:
        """Look at the result cache, invalidate tags, or warm it."""
        return self._ask(wire.cache_request(action, request), CachePage)

    def events(self, call_id: str) -> Iterator[CallEvent]:
        """The states of the call from now on, ending with the terminal one."""
        response = self._open(wire.events_request(call_id), read_s=wire.EVENT_SILENCE_S, preload=False)
        try:
            if response.status >= 300:
                wire.decode_answer(response.status, response.data, _lower(response.headers), CallEvent)
            lines = wire.EventLines()
            while chunk := response.read1(65536):
                for data in lines.feed(chunk):
                    event = msgspec.json.decode(data, type=CallEvent)
                    yield event
                    if event.state.terminal:
                        return
        except HTTPError as error:
            raise self._unreachable(error) from error
        except msgspec.DecodeError as error:
            raise ToolswarmError("the gateway sent an event that is not well-formed") from error
        finally:
            response.close()
        raise GatewayUnreachable(f"the gateway at {self._shown} ended the events before the call ended", id=call_id)

    def probe(self, path: str) -> int:
        """The HTTP status of a page that needs no key, such as /healthz."""
        return self._send(wire.Request(method="GET", path=path))[0]

    def close(self) -> None:
        """Give connections back; bears being called twice."""
        self._pool.clear()

    def _ask(self, request: wire.Request, kind: type[Decoded]) -> Decoded:
        return wire.decode_answer(*self._send(request), kind)

    def _send(self, request: wire.Request) -> tuple[int, bytes, Mapping[str, str]]:
        response = self._open(request, read_s=request.wait_s + wire.ANSWER_MARGIN_S, preload=True)
        return response.status, response.data, _lower(response.headers)

    def _open(self, request: wire.Request, *, read_s: float, preload: bool) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request(
                request.method,
                self._base + request.path,
                body=request.body,
                headers=wire.all_headers(request, self._api_key),
                timeout=urllib3.Timeout(connect=wire.CONNECT_TIMEOUT_S, read=read_s),
                redirect=False,
                preload_content=preload,
            )
        except HTTPError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: HTTPError) -> GatewayUnreachable:
        return GatewayUnreachable(
            f"the gateway at {self._shown} does not answer ({_reason(error)}); is it running?", url=self._shown
        )


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _reason(error: HTTPError) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return type(error).__name__
