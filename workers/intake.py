"""The router pool: requests that came through the broker (queue `intake`) get what they would get at the gateway.

A request is authenticated by its MAC, answered once (its id is remembered for twice its life), and its answer is put on
the caller's list. A `submit` carries an idempotency key of the client's, so a request that is delivered twice joins.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from routing.front import Caller, Front
from store import keys
from store.configuration import Configuration
from store.connection import Broker
from toolswarm.cache_messages import CacheRequest
from toolswarm.errors import (
    AuthenticationFailed,
    BrokerUnavailable,
    ConfigurationError,
    InvalidRequest,
    PayloadTooLarge,
    ToolswarmError,
)
from toolswarm.intake import REPLY_TTL_S, REQUEST_TTL_S, IntakeReply, IntakeRequest, open_request
from toolswarm.messages import DeadRequest, FallbackChains, SubmitBody, encode
from toolswarm.states import State
from workers.runner import Outcome

logger = logging.getLogger(__name__)


class Intake:
    """Answers requests; one per router worker."""

    def __init__(self, configuration: Configuration, front: Front, broker: Broker) -> None:
        self._key = configuration.gateway.api_key
        self._max_bytes = configuration.gateway.max_body_bytes
        self._longest_wait_s = configuration.gateway.max_wait_s
        if not self._key:
            raise ConfigurationError("gateway.api_key (MCP_API_KEY) is not set: the router pool could admit nobody")
        # With a key of the operator's own, he speaks to the gateway: requests here are made with the callers' key.
        self._caller = Caller(operator=not configuration.gateway.operator_key)
        self._front = front
        self._broker = broker
        self.done = 0
        self.busy = 0
        self.busy_s = 0.0
        self._methods: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "submit": self._submit,
            "result": self._result,
            "cancel": self._cancel,
            "route": self._route,
            "tools": self._tools,
            "status": self._status,
            "dead": self._dead,
            "fallbacks": self._fallbacks,
            "cache": self._cache,
        }

    async def run(self, arguments: dict[str, str]) -> Outcome:
        """Answer one request.

        Raises:
            BrokerUnavailable: the answer could not be given; the task must not be acknowledged.
        """
        self.busy += 1
        started = time.monotonic()
        try:
            return await self._run(arguments)
        finally:
            self.busy -= 1
            self.done += 1
            self.busy_s += time.monotonic() - started

    async def _run(self, arguments: dict[str, str]) -> Outcome:
        try:
            request = open_request(arguments, self._key.reveal(), time.time())
        except (KeyError, TypeError, AttributeError, msgspec.DecodeError) as error:
            logger.warning("a request that is not well-formed was dropped (%s)", type(error).__name__)
            return Outcome(state=None, code=InvalidRequest.code)
        if request is None:
            # Who has no key gets no answer: the list it names may be another's.
            logger.warning("a request with a wrong key, or older than %d s, was dropped", REQUEST_TTL_S)
            return Outcome(state=None, code=AuthenticationFailed.code)
        size_bytes = len(arguments["request"].encode())
        reply = self._too_large(request.id, size_bytes) or await self._answer(request)
        fresh = await self._broker.script(
            "answer",
            [keys.intake_seen_key(request.id), keys.reply_key(request.reply_to)],
            [encode(reply), int(2 * REQUEST_TTL_S), REPLY_TTL_S],
        )
        if not fresh:
            return Outcome(state=None, code="answered_before")
        return Outcome(
            state=State.FAILED if reply.error else State.SUCCEEDED, code=reply.error.code if reply.error else ""
        )

    def _too_large(self, request_id: str, size_bytes: int) -> IntakeReply | None:
        limit_bytes = self._max_bytes
        if size_bytes <= limit_bytes:
            return None
        message = f"the request has {size_bytes} bytes; at most {limit_bytes} are taken"
        refused = PayloadTooLarge(message, size_bytes=size_bytes, limit_bytes=limit_bytes)
        return IntakeReply(id=request_id, error=refused.info())

    async def _answer(self, request: IntakeRequest) -> IntakeReply:
        method = self._methods.get(request.method)
        try:
            if method is None:
                raise InvalidRequest(f"there is no method {request.method[:40]!r}", field="method")
            return IntakeReply(id=request.id, ok=msgspec.to_builtins(await method(request.params)))
        except BrokerUnavailable:
            raise
        except ToolswarmError as error:
            return IntakeReply(id=request.id, error=error.info())
        except msgspec.ValidationError as error:
            return IntakeReply(id=request.id, error=InvalidRequest(f"request: {error}").info())

    async def _submit(self, params: dict[str, Any]) -> Any:
        wait_s = self._wait_s(params)
        call = await self._front.submit(_body(params), self._caller)
        if call.status.terminal or not wait_s:
            return call
        return await self._front.result(call.id, self._caller, wait_s)

    async def _result(self, params: dict[str, Any]) -> Any:
        return await self._front.result(str(params.get("id")), self._caller, self._wait_s(params))

    async def _cancel(self, params: dict[str, Any]) -> Any:
        return await self._front.cancel(str(params.get("id")), self._caller)

    async def _route(self, params: dict[str, Any]) -> Any:
        return await self._front.route(_body(params), self._caller)

    async def _tools(self, params: dict[str, Any]) -> Any:
        return await self._front.operations()

    async def _fallbacks(self, params: dict[str, Any]) -> Any:
        name, chain = params.get("name"), msgspec.convert(params.get("chain"), list[str] | None)
        if name is None:
            return FallbackChains(fallbacks=await self._front.fallbacks())
        return FallbackChains(fallbacks=await self._front.set_fallbacks(str(name), chain, self._caller))

    async def _dead(self, params: dict[str, Any]) -> Any:
        request = msgspec.convert(params.get("request"), DeadRequest)
        return await self._front.dead(str(params.get("action")), request, self._caller)

    async def _cache(self, params: dict[str, Any]) -> Any:
        request = msgspec.convert(params.get("request"), CacheRequest)
        return await self._front.cache(str(params.get("action")), request, self._caller)

    async def _status(self, params: dict[str, Any]) -> Any:
        return await self._front.status()

    def _wait_s(self, params: dict[str, Any]) -> float:
        wait_s = msgspec.convert(params.get("wait_s", 0.0), float)
        return max(0.0, min(wait_s, self._longest_wait_s))


def _body(params: dict[str, Any]) -> SubmitBody:
    return msgspec.convert(params.get("call"), SubmitBody)


async def open_intake(configuration: Configuration) -> tuple[Intake, Front, Broker]:
    """An intake with its front and its own connection, on this loop.

    Raises:
        ConfigurationError: there is no API key or no signing key.
    """
    front = await Front.open(configuration)
    broker = Broker(configuration.store.broker_url, timeout_s=5.0)
    try:
        return Intake(configuration, front, broker), front, broker
    except ConfigurationError:
        await asyncio.gather(front.close(), broker.close())
        raise
