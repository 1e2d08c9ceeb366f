"""What every way in shares, after authentication: submit, wait, cancel, ask. `submit` is the only producer of calls.

The gateway, the router pool and beat each hold one `Front`. A call is durable and its task enqueued before `submit`
returns; an unavailable broker is said within `gateway.broker_timeout_s`.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from cache import Cache
from cache.popularity import Counter, Popularity
from routing import task_message
from routing.arguments import Validators
from routing.cache_desk import CacheDesk
from routing.classify import classify
from routing.dead import DeadDesk
from routing.feeder import Feeder
from routing.remembered import Remembered
from routing.signing import Signer
from store import heartbeat, keys
from store.catalogue import Catalogue
from store.chains import FallbackChains
from store.configuration import Configuration
from store.connection import Broker, unavailable
from store.dead import DeadLetters
from store.joining import join
from store.ledger import Acceptance, Fallback, Ledger, Share, Submission, not_found
from store.sessions import queue_of_session
from store.waiter import Waiter
from store.whole import WholeValues
from toolswarm.cache_messages import CachePage, CacheRequest
from toolswarm.errors import (
    InvalidArguments,
    InvalidRequest,
    NoValue,
    PermissionDenied,
    ToolswarmError,
    UnknownOperation,
)
from toolswarm.ids import CallId, is_call_id, new_call_id
from toolswarm.messages import (
    CallEvent,
    DeadPage,
    DeadRequest,
    Operation,
    ResultMeta,
    Route,
    SubmitBody,
    SwarmStatus,
    ToolCall,
    ToolResult,
    canonical,
    encode,
)
from toolswarm.states import State

T = TypeVar("T")
_CATALOGUE_RETRY_S = 0.25
_MAX_DEADLINE_S = 86400.0
WINDOW = 4
"""Tasks of one tenant of weight 1 that lie in a shared list at once: the same number as in prelude.lua."""


class Caller(msgspec.Struct, frozen=True):
    """Who calls: the tenant and the principal that the API key stands for."""

    tenant: str = "default"
    principal: str = "default"
    operator: bool = False
    """Whether it is the operator's own key: only that may change what holds for all tenants."""


class Front:
    """One process's way to submit calls and to learn what became of them."""

    def __init__(self, configuration: Configuration, broker: Broker, signer: Signer) -> None:
        store = configuration.store
        self._configuration = configuration
        self._broker = broker
        self._signer = signer
        self._catalogue = Catalogue(broker)
        self._validators = Validators()
        self._ledger = Ledger(
            broker,
            retention_s=store.retention_s,
            call_deadline_s=store.call_deadline_s,
            max_attempts=store.max_attempts,
        )
        self._chains = FallbackChains(broker, configuration.routing.fallbacks)
        self._dead = DeadDesk(
            DeadLetters(broker, retention_s=store.retention_s), operations=self.operations, submit=self._submit_as
        )
        self._whole_server = Broker(store.cache_url, timeout_s=configuration.gateway.broker_timeout_s, connections=1)
        self._whole = WholeValues(self._whole_server, keep_s=store.retention_s)
        self._reading: asyncio.Future[None] | None = None
        self._waiter = Waiter(store.broker_url, self._ledger, new_call_id())
        self._feeder = Feeder(configuration, broker) if configuration.broker.url else None
        cache = Cache.open(configuration, broker=broker)
        popularity = Popularity.open(configuration.cache, cache.server, cache.seal)
        self._remembered = Remembered(cache, counter=Counter(popularity), join=self._join, run=self._run_again)
        self._cache_desk = CacheDesk(
            cache,
            popularity,
            operations=self.operations,
            resolve=self._resolve_bounded,
            submit=self._submit_as,
            per_minute=configuration.cache.warm_per_minute,
        )

    @classmethod
    async def open(cls, configuration: Configuration) -> "Front":
        """Read the signing key and start to listen; the broker need not be up yet.

        Raises:
            ConfigurationError: there is no signing key, or the broker's URL is wrong.
        """
        signer = Signer.from_file(configuration.signing.private_key_file)
        timeout_s = configuration.gateway.broker_timeout_s
        # A connection that lay idle while the broker restarted fails at its first use: scripts are safe to repeat.
        broker = Broker(configuration.store.broker_url, timeout_s=timeout_s, script_retry_for_s=timeout_s / 2)
        front = cls(configuration, broker, signer)
        await front._waiter.start()
        if front._feeder:
            await front._feeder.start()
        await front._remembered.start()
        return front

    async def close(self) -> None:
        """Stop listening and close the connections; bears being called twice."""
        if self._feeder:
            await self._feeder.stop()
        await self._remembered.stop()
        await self._waiter.stop()
        await self._whole_server.close()
        await self._broker.close()

    async def ready(self) -> None:
        """Return when calls can be accepted.

        Raises:
            BrokerUnavailable: the broker does not answer.
        """
        await self._bounded(self._broker.command("PING"))

    async def submit(self, body: SubmitBody, caller: Caller) -> ToolResult:
        """Validate, classify, sign, accept and enqueue; returns the call's id with its state.

        A request that joins an earlier one (same idempotency key, same content) gets that call's id, and its result
        when it has ended. What is remembered is given at once, and nothing is accepted; a read that runs already for
        somebody of the tenant is joined (see routing/remembered.py).

        Raises:
            UnknownOperation, InvalidArguments, InvalidRequest, IdempotencyConflict: nothing was accepted.
            BrokerUnavailable: nobody answered in time; ask again with the same idempotency key.
        """
        operation, route, arguments = await self._bounded(self._resolve(body))
        queue = route.queue
        if operation.session_argument:
            session_id = str(arguments.get(operation.session_argument, ""))
            queue = await self._bounded(queue_of_session(self._broker, operation.tool, session_id))
        call = ToolCall(
            id=new_call_id(),
            operation=route.operation,
            arguments=arguments,
            context=body.context,
            tenant=caller.tenant,
            principal=caller.principal,
            priority=body.priority,
            deadline=self._deadline(body),
            idempotency_key=body.idempotency_key,
            cache=body.cache,
            traceparent=body.traceparent,
        )
        answered = await self._remembered.answer(operation, call)
        if isinstance(answered, ToolResult):
            return answered
        if answered is None:
            return await self._accept(call, operation, route, queue)
        accepted_id = ""
        try:
            accepted = await self._accept(call, operation, route, queue)
            accepted_id = accepted.id
        finally:
            answered.over(accepted_id == call.id)
        return accepted

    async def _accept(self, call: ToolCall, operation: Operation, route: Route, queue: str) -> ToolResult:
        self._waiter.expect(call.id, call.tenant)
        try:
            submission = self._submission(call, operation, queue)
            if route.fallbacks:
                submission = msgspec.structs.replace(submission, fallbacks=await self._fallbacks(call, route))
            acceptance = await self._bounded(self._ledger.accept(submission))
        except BaseException:
            self._waiter.forget(call.id)
            raise
        if self._feeder:
            self._feeder.nudge(queue)
        if acceptance.id != call.id:
            self._waiter.forget(call.id)
        return acceptance.result or _pending(acceptance, route)

    async def submit_many(self, bodies: Sequence[SubmitBody], caller: Caller) -> list[ToolResult | ToolswarmError]:
        """Submit each for itself: one that is refused does not touch the others."""

        async def one(body: SubmitBody) -> ToolResult | ToolswarmError:
            try:
                return await self.submit(body, caller)
            except ToolswarmError as error:
                return error

        return list(await asyncio.gather(*(one(body) for body in bodies)))

    async def result(self, call_id: str, caller: Caller, wait_s: float) -> ToolResult:
        """The result, or after `wait_s` the state so far (not terminal).

        Raises:
            CallNotFound: no such call of this caller's tenant.
            BrokerUnavailable: nobody answered in time.
        """
        _check_id(call_id)
        deadline = time.monotonic() + wait_s
        if not self._waiter.expects(call_id, caller.tenant):
            self._waiter.expect(call_id, caller.tenant)
            try:
                now, _ = await self._bounded(self._ledger.watch(call_id, caller.tenant, self._waiter.channel))
            except BaseException:
                self._waiter.forget(call_id)
                raise
            if now.status.terminal:
                self._waiter.forget(call_id)
                return now
        found = await self._waiter.wait(call_id, max(0.0, deadline - time.monotonic()))
        if found is not None:
            return found
        now, _ = await self._bounded(self._ledger.watch(call_id, caller.tenant, self._waiter.channel))
        return now

    async def value(self, call_id: str, caller: Caller) -> AsyncIterator[bytes]:
        """The JSON of the call's whole value, in pieces; it was too large for the result, or it is one piece.

        Raises:
            CallNotFound: no such call of this caller's tenant.
            NoValue: it has not ended, or not well.
            ValueGone: it was too large, and is not kept any more.
            BrokerUnavailable: nobody answered in time.
        """
        result = await self.result(call_id, caller, 0)
        if result.status is not State.SUCCEEDED:
            raise NoValue(f"the call has no value: it is {result.status}", status=result.status.value)
        if result.meta.whole is None:
            yield encode(result.value)
            return
        async for piece in self._whole.pieces(call_id, result.meta.whole):
            yield piece

    async def cancel(self, call_id: str, caller: Caller) -> ToolResult:
        """Ask that the call stop; the state says what came of it so far.

        Raises:
            CallNotFound: no such call of this caller's tenant.
            BrokerUnavailable: nobody answered in time.
        """
        _check_id(call_id)
        return await self._bounded(self._ledger.cancel(call_id, caller.tenant))

    async def events(self, call_id: str, caller: Caller) -> AsyncIterator[CallEvent]:
        """The state of the call now, then each further one, ending with the terminal one and its result.

        Raises:
            CallNotFound: no such call of this caller's tenant.
            BrokerUnavailable: nobody answered in time.
        """
        _check_id(call_id)
        self._waiter.expect(call_id, caller.tenant)
        now, at = await self._bounded(self._ledger.watch(call_id, caller.tenant, self._waiter.channel))
        ended = now.status.terminal
        yield CallEvent(id=call_id, state=now.status, at=at, result=now if ended else None)
        if ended:
            self._waiter.forget(call_id)
            return
        self._waiter.expect(call_id, caller.tenant)  # it may have been let go of while the first event was read
        async for event in self._waiter.events(call_id):
            yield event

    async def route(self, body: SubmitBody, caller: Caller) -> Route:
        """Where the call would go, and why; nothing is accepted and the arguments are not judged."""
        _, route = await self._bounded(self._classify(body))
        return route

    async def operations(self) -> list[Operation]:
        """The catalogue, sorted by name."""
        return list((await self._bounded(self._catalogue.operations())).values())

    async def fallbacks(self) -> dict[str, tuple[str, ...]]:
        """Tool or operation -> what is tried next when it cannot be had."""
        return dict(await self._bounded(self._chains.read(at_most_s=0.0)))

    async def set_fallbacks(self, name: str, chain: Sequence[str] | None, caller: Caller) -> dict[str, tuple[str, ...]]:
        """Set the chain of a tool or an operation; None: as it is configured. All others follow within 2 s.

        Raises:
            PermissionDenied: the caller is not the operator.
            InvalidRequest: the chain comes back to where it began, or mixes tools and operations.
            Unavailable: it was not set; try again.
        """
        if not caller.operator:
            raise PermissionDenied("fallback chains hold for all tenants: only the operator's key may set them")
        return dict(await self._bounded(self._chains.set(name, None if chain is None else tuple(chain))))

    async def dead(self, action: str, request: DeadRequest, caller: Caller) -> DeadPage:
        """List, retry, resolve or drop dead letters of the caller's tenant (see routing/dead.py).

        Raises:
            InvalidRequest: the action or what it needs is wrong.
            BrokerUnavailable: nobody answered in time; retrying is safe to ask for again.
        """
        return await self._dead.act(action, caller.tenant, request)

    async def cache(self, action: str, request: CacheRequest, caller: Caller) -> CachePage:
        """Look at the result cache, invalidate tags, or refresh what is asked for often (see routing/cache_desk.py).

        Raises:
            InvalidRequest: the action or what it needs is wrong.
            BrokerUnavailable: nobody who has to know answered.
        """
        return await self._cache_desk.act(action, request, tenant=caller.tenant, principal=caller.principal)

    async def status(self) -> SwarmStatus:
        """Workers, backlogs and counts."""
        return await self._bounded(self._status())

    async def _submit_as(self, body: SubmitBody, tenant: str, principal: str) -> ToolResult:
        return await self.submit(body, Caller(tenant, principal))

    async def _resolve_bounded(self, body: SubmitBody) -> tuple[Operation, dict[str, Any]]:
        operation, _, arguments = await self._bounded(self._resolve(body))
        return operation, arguments

    async def _join(self, call_id: str, tenant: str) -> ToolResult | None:
        expected = self._waiter.expects(call_id, tenant)
        self._waiter.expect(call_id, tenant)
        joined = await self._bounded(join(self._broker, call_id, tenant=tenant, channel=self._waiter.channel))
        if not expected and (joined is None or joined.status.terminal):
            self._waiter.forget(call_id)
        return joined

    async def _run_again(self, call: ToolCall, operation: Operation) -> None:
        queue = keys.tool_queue(operation.tool)
        await self._bounded(self._ledger.accept(self._submission(call, operation, queue)))

    # -- the steps of a submission ---------------------------------------------------------------------------

    async def _classify(self, body: SubmitBody) -> tuple[Mapping[str, Operation], Route]:
        catalogue, chains = await self._copies()
        try:
            return catalogue, classify(body, catalogue, self._configuration.routing, chains)
        except UnknownOperation:
            # A worker may have published it a moment ago.
            fresh = await self._catalogue.operations(at_most_s=_CATALOGUE_RETRY_S)
            return fresh, classify(body, fresh, self._configuration.routing, chains)

    async def _copies(self) -> tuple[Mapping[str, Operation], Mapping[str, tuple[str, ...]]]:
        """Catalogue and chains; of a burst that finds its copies too old, one reads them anew."""
        if self._reading is not None:
            await asyncio.shield(self._reading)
            return await self._catalogue.operations(), await self._chains.read()
        reading = self._reading = asyncio.get_running_loop().create_future()
        try:
            return await self._catalogue.operations(), await self._chains.read()
        finally:
            self._reading = None
            reading.set_result(None)

    async def _resolve(self, body: SubmitBody) -> tuple[Operation, Route, dict[str, Any]]:
        catalogue, route = await self._classify(body)
        operation = catalogue[route.operation]
        arguments = {**body.arguments, **route.filled} if route.filled else body.arguments
        self._validators.check(operation, arguments)
        return operation, route, arguments

    def _submission(self, call: ToolCall, operation: Operation, queue: str) -> Submission:
        deadline = call.deadline or time.time() + self._configuration.store.call_deadline_s
        envelope = self._signer.sign(call, queue, deadline)
        return Submission(
            call=call,
            tool=operation.tool,
            queue=queue,
            effect=operation.effect,
            message=task_message.build(call, operation, queue, envelope),
            request_hash=_request_hash(call),
            wake=self._waiter.channel,
            share=self._share(call.tenant),
        )

    async def _fallbacks(self, call: ToolCall, route: Route) -> tuple[Fallback, ...]:
        """The chain, signed now: workers cannot sign. What does not take these arguments is left out."""
        catalogue = await self._bounded(self._catalogue.operations())
        chain: list[Fallback] = []
        for name in route.fallbacks:
            operation = catalogue[name]
            try:
                self._validators.check(operation, call.arguments)
            except InvalidArguments:
                continue
            instead = msgspec.structs.replace(call, operation=name)
            one = self._submission(instead, operation, keys.tool_queue(operation.tool))
            chain.append(Fallback(call=instead, tool=one.tool, queue=one.queue, effect=one.effect, message=one.message))
        return tuple(chain)

    def _share(self, tenant: str) -> Share:
        settings = self._configuration.tenant(tenant)
        return Share(
            window=WINDOW * settings.weight,
            most_held=settings.max_running,
            most_waiting=settings.max_waiting,
            most_waiting_of_all=self._configuration.store.max_waiting,
        )

    def _deadline(self, body: SubmitBody) -> float | None:
        if body.deadline is None:
            return None
        ahead_s = body.deadline - time.time()
        if not 0 < ahead_s <= _MAX_DEADLINE_S:
            raise InvalidRequest(
                f"deadline: must be Unix seconds in the next {_MAX_DEADLINE_S:.0f} s", field="deadline"
            )
        return body.deadline

    async def _status(self) -> SwarmStatus:
        at, workers, ended, catalogue = await asyncio.gather(
            heartbeat.redis_time(self._broker),
            heartbeat.workers(self._broker),
            self._ledger.counts(),
            self._catalogue.operations(),
        )
        queues = sorted({keys.tool_queue(operation.tool) for operation in catalogue.values()} | {keys.INTAKE_QUEUE})
        lengths = await asyncio.gather(*(self._backlog(queue) for queue in queues))
        return SwarmStatus(at=at, workers=tuple(workers), backlog=dict(zip(queues, lengths, strict=True)), ended=ended)

    async def _backlog(self, queue: str) -> int:
        lists = [keys.queue_list(queue, step) for step in keys.PRIORITY_STEPS.values()]
        in_lists = await asyncio.gather(*(self._broker.command("LLEN", one) for one in lists))
        in_lines = await self._broker.command("HMGET", keys.DEPTH, *lists)
        return int(sum(in_lists)) + sum(int(count) for count in in_lines if count)

    async def _bounded(self, step: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._configuration.gateway.broker_timeout_s):
                return await step
        except TimeoutError as error:
            raise unavailable(error) from error


def _pending(acceptance: Acceptance, route: Route) -> ToolResult:
    return ToolResult(
        id=acceptance.id,
        status=acceptance.state,
        meta=ResultMeta(tool=route.tool, operation=route.operation, accepted_at=acceptance.accepted_at),
    )


def _check_id(call_id: str) -> CallId:
    if not is_call_id(call_id):
        raise not_found(call_id)
    return CallId(call_id)


def _request_hash(call: ToolCall) -> str:
    return hashlib.sha256(canonical([call.operation, call.arguments])).hexdigest()
