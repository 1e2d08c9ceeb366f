"""`/v1/calls`: submit one or many, wait, look, cancel, follow; and `/v1/route`, which only explains."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp

from gateway import body as bodies
from gateway.bounds import BoundedFront
from gateway.drain import Drain
from gateway.errors import Problem, problem_of
from gateway.events import EventStream
from gateway.leaving import unless_gone
from gateway.preferences import CANCEL_ON_DISCONNECT, preferred_wait_s, prefers_cancel, queried_wait_s, with_headers
from routing.front import Caller
from store.configuration import Gateway
from toolswarm.cache_messages import CacheRequest
from toolswarm.errors import PayloadTooLarge, ToolswarmError
from toolswarm.messages import DeadRequest, FallbackChain, FallbackChains, SubmitBody, ToolResult

JSON_TYPE = "application/json"


class BatchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Calls that are submitted in one request; each stays raw, so that a malformed one does not spoil the others."""

    calls: list[msgspec.Raw]


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Stands in a batch's results where the call was refused."""

    problem: Problem


_SUBMIT = msgspec.json.Decoder(SubmitBody)
_CHAIN = msgspec.json.Decoder(FallbackChain)
_DEAD = msgspec.json.Decoder(DeadRequest)
_CACHE = msgspec.json.Decoder(CacheRequest)
_BATCH = msgspec.json.Decoder(BatchBody)
_ENCODER = msgspec.json.Encoder(enc_hook=str)


def json_response(message: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The message as JSON."""
    return Response(_ENCODER.encode(message), status_code=status, headers=headers, media_type=JSON_TYPE)


def location_of(call_id: str) -> dict[str, str]:
    """The header that says where a call's result will be."""
    return {"location": f"/v1/calls/{call_id}"}


def applied(wait_s: float | None, *, cancels: bool = False) -> dict[str, str]:
    """The header that says which wait was granted, when one was asked for, and that leaving meanwhile cancels."""
    granted = [] if wait_s is None else [f"wait={wait_s:g}"]
    granted += [CANCEL_ON_DISCONNECT] if cancels else []
    return {"preference-applied": ", ".join(granted)} if granted else {}


class Calls:
    """The handlers of calls."""

    def __init__(self, front: BoundedFront, settings: Gateway, drain: Drain) -> None:
        self._front = front
        self._settings = settings
        self._drain = drain

    async def submit(self, request: Request, caller: Caller) -> ASGIApp:
        """`POST /v1/calls`: 200 with the result of a call that ended in time, else 202 with its id."""
        wait_s = preferred_wait_s(request, self._settings.max_wait_s)
        cancels = prefers_cancel(request) and bool(wait_s)
        body = with_headers(await self._submit_body(request), request)
        accepted = await self._front.submit(body, caller)
        waiting = self._front.settled(accepted, caller, wait_s or 0)
        if cancels:
            waiting = unless_gone(waiting, [accepted], front=self._front, request=request, caller=caller)
        result = await waiting
        headers = applied(wait_s, cancels=cancels)
        if result.status.terminal:
            return json_response(result, headers=headers)
        return json_response(result, 202, headers | location_of(result.id))

    async def submit_batch(self, request: Request, caller: Caller) -> ASGIApp:
        """`POST /v1/calls:batch`: a result or a problem for each call, in their order."""
        wait_s = preferred_wait_s(request, self._settings.max_wait_s)
        cancels = prefers_cancel(request) and bool(wait_s)
        batch = bodies.decode(await bodies.read(request, self._settings.max_body_bytes), _BATCH)
        limit = self._settings.max_batch
        if len(batch.calls) > limit:
            message = f"a batch takes {limit} calls, this one has {len(batch.calls)}"
            raise PayloadTooLarge(message, calls=len(batch.calls), limit_calls=limit)
        answers = [_decoded(call) for call in batch.calls]
        wellformed = [index for index, answer in enumerate(answers) if isinstance(answer, SubmitBody)]
        if wellformed:
            submitted = [answer for answer in answers if isinstance(answer, SubmitBody)]
            outcomes = await self._front.submit_many(submitted, caller)
            waiting = self._outcomes(outcomes, caller, wait_s or 0)
            if cancels:
                waiting = unless_gone(waiting, outcomes, front=self._front, request=request, caller=caller)
            for index, outcome in zip(wellformed, await waiting, strict=True):
                answers[index] = outcome
        results = [Refused(problem=problem_of(one)) if isinstance(one, ToolswarmError) else one for one in answers]
        return json_response({"results": results}, headers=applied(wait_s, cancels=cancels))

    async def state(self, request: Request, caller: Caller) -> ASGIApp:
        """`GET /v1/calls/{id}?wait=N`: the result, or the state so far."""
        wait_s = queried_wait_s(request, self._settings.max_wait_s)
        return json_response(await self._front.state(request.path_params["id"], caller, wait_s))

    async def value(self, request: Request, caller: Caller) -> ASGIApp:
        """`GET /v1/calls/{id}/value`: the value alone and whole, also when it was too large for the result."""
        pieces = self._front.value(request.path_params["id"], caller)
        first = await anext(pieces)  # what is refused is refused before the answer has begun
        return StreamingResponse(_joined(first, pieces), media_type=JSON_TYPE)

    async def cancel(self, request: Request, caller: Caller) -> ASGIApp:
        """`DELETE /v1/calls/{id}`: 200 when the call has ended, 202 when it was only asked to."""
        result = await self._front.cancel(request.path_params["id"], caller)
        return json_response(result, 200 if result.status.terminal else 202)

    async def events(self, request: Request, caller: Caller) -> ASGIApp:
        """`GET /v1/calls/{id}/events`: the states of the call as server-sent events."""
        call_id: str = request.path_params["id"]
        await self._front.state(call_id, caller, 0)  # an unknown call is a 404, not a stream that breaks off
        return EventStream(self._front.events(call_id, caller), self._drain)

    async def route(self, request: Request, caller: Caller) -> ASGIApp:
        """`POST /v1/route`: where the call would go, and why."""
        return json_response(await self._front.route(await self._submit_body(request), caller))

    async def status(self, request: Request, caller: Caller) -> ASGIApp:
        """`GET /v1/status`: workers, backlogs and counts."""
        return json_response(await self._front.status())

    async def fallbacks(self, request: Request, caller: Caller) -> ASGIApp:
        """`GET /v1/fallbacks`: the chains."""
        return json_response(FallbackChains(fallbacks=await self._front.fallbacks()))

    async def set_fallbacks(self, request: Request, caller: Caller) -> ASGIApp:
        """`PUT /v1/fallbacks/{name}` sets a chain, `DELETE` gives it back to the configuration."""
        chain: tuple[str, ...] | None = None
        if request.method == "PUT":
            raw = await bodies.read(request, self._settings.max_body_bytes)
            chain = bodies.decode(raw, _CHAIN).chain
        chains = await self._front.set_fallbacks(request.path_params["name"], chain, caller)
        return json_response(FallbackChains(fallbacks=chains))

    async def dead(self, request: Request, caller: Caller) -> ASGIApp:
        """`POST /v1/dead:{action}`: list, retry, resolve or drop dead letters."""
        raw = await bodies.read(request, self._settings.max_body_bytes)
        wanted = bodies.decode(raw or b"{}", _DEAD)
        return json_response(await self._front.dead(request.path_params["action"], wanted, caller))

    async def cache(self, request: Request, caller: Caller) -> ASGIApp:
        """`POST /v1/cache:{action}`: look at the result cache, invalidate tags, or warm it."""
        raw = await bodies.read(request, self._settings.max_body_bytes)
        wanted = bodies.decode(raw or b"{}", _CACHE)
        return json_response(await self._front.cache(request.path_params["action"], wanted, caller))

    async def _submit_body(self, request: Request) -> SubmitBody:
        return bodies.decode(await bodies.read(request, self._settings.max_body_bytes), _SUBMIT)

    async def _outcomes(
        self, outcomes: Sequence[ToolResult | ToolswarmError], caller: Caller, wait_s: float
    ) -> list[ToolResult | ToolswarmError]:
        return list(await asyncio.gather(*(self._outcome(outcome, caller, wait_s) for outcome in outcomes)))

    async def _outcome(
        self, outcome: ToolResult | ToolswarmError, caller: Caller, wait_s: float
    ) -> ToolResult | ToolswarmError:
        if isinstance(outcome, ToolswarmError):
            return outcome
        return await self._front.settled(outcome, caller, wait_s)


async def _joined(first: bytes, further: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in further:
        yield piece


def _decoded(call: msgspec.Raw) -> SubmitBody | ToolResult | ToolswarmError:
    try:
        return bodies.decode(call, _SUBMIT)
    except ToolswarmError as error:
        return error
