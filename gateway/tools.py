"""The tools as HTTP: the catalogue, its OpenAPI document, and one plain endpoint per operation.

A plain endpoint waits and answers with the bare value, or with a problem when the call did not succeed.
"""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway import body as bodies
from gateway.bounds import BoundedFront
from gateway.calls import JSON_TYPE, applied, json_response, location_of
from gateway.catalogue import Catalogue, Snapshot
from gateway.errors import ended
from gateway.leaving import unless_gone
from gateway.preferences import preferred_wait_s, prefers_cancel, with_headers
from routing.front import Caller
from store.configuration import Gateway
from toolswarm.messages import SubmitBody
from toolswarm.states import State

_ARGUMENTS = msgspec.json.Decoder(dict[str, Any])


class Tools:
    """The handlers of tools and operations."""

    def __init__(self, front: BoundedFront, settings: Gateway) -> None:
        self._front = front
        self._settings = settings
        self._catalogue = Catalogue()

    async def list_all(self, request: Request, caller: Caller) -> ASGIApp:
        """`GET /v1/tools`: the whole catalogue."""
        snapshot = await self._snapshot()
        return _unless_known(request, snapshot.body, snapshot.etag)

    async def find(self, request: Request, caller: Caller) -> ASGIApp:
        """`GET /v1/tools/{name}`: the operations that go by this name."""
        snapshot = await self._snapshot()
        return json_response({"operations": snapshot.find(request.path_params["name"])})

    async def openapi(self, request: Request) -> ASGIApp:
        """`GET /openapi.json`: one POST per operation, and the endpoints of /v1."""
        snapshot = await self._snapshot()
        return _unless_known(request, snapshot.openapi_body, snapshot.openapi_etag)

    async def run(self, request: Request, caller: Caller) -> ASGIApp:
        """`POST /tools/{tool}/{operation}`: the bare value, or 202 with the call's id when it takes too long."""
        wait_s = preferred_wait_s(request, self._settings.max_wait_s)
        longest_s = self._settings.max_wait_s if wait_s is None else wait_s
        cancels = prefers_cancel(request) and longest_s > 0
        content = await bodies.read(request, self._settings.max_body_bytes)
        arguments = bodies.decode(content, _ARGUMENTS) if content else {}
        bodies.refuse_depth(arguments)
        names = request.path_params
        body = SubmitBody(operation=f"{names['tool']}.{names['operation']}", arguments=arguments)
        accepted = await self._front.submit(with_headers(body, request), caller)
        waiting = self._front.settled(accepted, caller, longest_s)
        if cancels:
            waiting = unless_gone(waiting, [accepted], front=self._front, request=request, caller=caller)
        result = await waiting
        headers = applied(wait_s, cancels=cancels)
        if not result.status.terminal:
            return json_response(result, 202, headers | location_of(result.id))
        if result.status is not State.SUCCEEDED:
            raise ended(result)
        return json_response(result.value, headers=headers)

    async def _snapshot(self) -> Snapshot:
        return self._catalogue.snapshot(await self._front.operations())


def _unless_known(request: Request, body: bytes, etag: str) -> Response:
    """304 for a caller that has this already (RFC 9110, section 13.1.2: a weak comparison)."""
    headers = {"etag": etag, "cache-control": "no-cache"}
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=JSON_TYPE)
