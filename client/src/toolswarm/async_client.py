"""The client for code on an event loop: the same methods as `Client`, to be awaited."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from toolswarm import batches
from toolswarm.cache_messages import CachePage, CacheRequest
from toolswarm.endpoint import HTTP_SCHEMES, Endpoint, find_endpoint
from toolswarm.errors import ToolswarmError, WaitTimedOut
from toolswarm.handle import timed_out
from toolswarm.messages import CallEvent, DeadPage, DeadRequest, Operation, Route, SubmitBody, SwarmStatus, ToolResult
from toolswarm.options import DEFAULT_TIMEOUT_S, CallOptions, OptionChanges, value_of, whole_value
from toolswarm.patience import EARLY_ANSWER_S, RESULT_BACKOFF_S, Patience
from toolswarm.states import State
from toolswarm.transport import AsyncTransport, Outcome

ASKED_AT_ONCE = 64
"""Calls of `call_many` whose ends are waited for at the same time."""

Answer = TypeVar("Answer")


def open_async_transport(endpoint: Endpoint) -> AsyncTransport:
    """The transport for the endpoint's scheme.

    Raises:
        ConfigurationError: it needs the extra `toolswarm[broker]`, or a key, that is not there.
    """
    if endpoint.scheme in HTTP_SCHEMES:
        from toolswarm.async_http import AsyncHttpTransport

        return AsyncHttpTransport(endpoint)
    from toolswarm.broker import BrokerTransport  # here, because Celery takes 0.3 s to import
    from toolswarm.threaded import ThreadedTransport

    return ThreadedTransport(BrokerTransport(endpoint))


class AsyncCallHandle:
    """One submitted call."""

    def __init__(self, transport: AsyncTransport, latest: ToolResult, *, timeout_s: float) -> None:
        self._transport = transport
        self._latest = latest
        self._timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"AsyncCallHandle({self.id!r}, {self._latest.status})"

    @property
    def id(self) -> str:
        """The call's id."""
        return self._latest.id

    @property
    def latest(self) -> ToolResult:
        """What was known of the call when it was last asked for; nothing is asked now."""
        return self._latest

    async def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the call and give its value.

        Raises:
            CallFailed, CallCancelled, CallExpired, OutcomeUnknown: it ended without success.
            WaitTimedOut: it has not ended within `timeout_s`; it goes on.
            ValueGone: it succeeded, but its value was too large for the result and is not kept any more.
        """
        return await self.value_until(time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s))

    async def outcome(self, timeout_s: float | None = None) -> ToolResult:
        """Wait for the call and give all that is known of its end, whatever that was.

        Raises:
            WaitTimedOut: it has not ended within `timeout_s`; it goes on.
        """
        return await self.outcome_until(time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s))

    async def value_until(self, until: float) -> Any:
        """`result`, up to an instant of the monotonic clock."""
        ended = await self.outcome_until(until)
        value = value_of(ended)
        if ended.meta.whole is None:
            return value
        return whole_value(ended, await persist(lambda: self._transport.value(ended.id), Patience(until=until)))

    async def outcome_until(self, until: float) -> ToolResult:
        """The same, up to an instant of the monotonic clock."""
        patience = Patience(until=until, backoff_s=RESULT_BACKOFF_S)
        asked = False
        while not self._latest.status.terminal:
            started = time.monotonic()
            wait_s = patience.slice_s(started)
            if asked and wait_s <= 0:
                raise timed_out(self._latest)
            self._latest = await self._ask(patience, wait_s)
            asked = True
            early_s = min(EARLY_ANSWER_S, wait_s) - (time.monotonic() - started)
            if early_s > 0 and not self._latest.status.terminal:
                await asyncio.sleep(early_s)
        return self._latest

    async def status(self) -> State:
        """The state of the call now."""
        if not self._latest.status.terminal:
            self._latest = await self._ask(Patience(until=time.monotonic() + self._timeout_s), 0.0)
        return self._latest.status

    async def cancel(self) -> State:
        """Ask that the call stop; the state tells what came of it so far."""
        patience = Patience(until=time.monotonic() + self._timeout_s)
        self._latest = await persist(lambda: self._transport.cancel(self.id), patience)
        return self._latest.status

    def events(self) -> AsyncIterator[CallEvent]:
        """The states of the call from now on, ending with the terminal one and its result."""
        return self._transport.events(self.id)

    async def _ask(self, patience: Patience, wait_s: float) -> ToolResult:
        return await persist(
            lambda: self._transport.result(self.id, wait_s=min(wait_s, patience.left_s(time.monotonic()))), patience
        )


async def persist(ask: Callable[[], Awaitable[Answer]], patience: Patience) -> Answer:
    """Ask until there is an answer, or an error that the patience does not outlast."""
    while True:
        try:
            answer = await ask()
        except ToolswarmError as error:
            delay_s = patience.delay_s(error, time.monotonic())
            if delay_s is None:
                raise
            await asyncio.sleep(delay_s)
        else:
            patience.answered()
            return answer


class AsyncCalls:
    """Calls operations under one set of options; what `AsyncClient` is, and what `AsyncClient.options` gives."""

    def __init__(self, transport: AsyncTransport, options: CallOptions) -> None:
        self._transport = transport
        self._options = options

    def options(self, **changes: Unpack[OptionChanges]) -> "AsyncCalls":
        """The same client with other options; they are set here, so that no option hides an argument of its name."""
        return AsyncCalls(self._transport, self._options.changed(changes))

    async def call(self, operation: str, /, **arguments: Any) -> Any:
        """Run an operation and give its value.

        Raises:
            RequestRefused: nothing was accepted; the subclass says why.
            CallFailed, CallCancelled, CallExpired, OutcomeUnknown: it ended without success.
            WaitTimedOut: it has not ended within the timeout; it goes on.
            GatewayUnreachable: no gateway answers.
        """
        until = self._until()
        handle = await self._submit(self._body(operation, arguments), until, wait=True)
        return await handle.value_until(until)

    async def submit(self, operation: str, /, **arguments: Any) -> AsyncCallHandle:
        """Have an operation run, and give a handle for it as soon as the call is accepted.

        Raises:
            RequestRefused: nothing was accepted; the subclass says why.
            GatewayUnreachable: no gateway answers.
        """
        return await self._submit(self._body(operation, arguments), self._until(), wait=False)

    def handle(self, call_id: str) -> AsyncCallHandle:
        """The handle of a call that was submitted before, here or elsewhere; nothing is asked yet."""
        return self._handle(ToolResult(id=call_id, status=State.ACCEPTED))

    async def call_many(self, calls: Iterable[tuple[str, Mapping[str, Any]]]) -> list[ToolResult]:
        """Run many operations at once and give what became of each, in order, raising for none of them.

        A call that was refused is a failed result with an empty id; one that has not ended within the timeout keeps
        the state it had. With an idempotency key in the options, call number N has the key `KEY:N`.
        """
        until = self._until()
        bodies = self._options.bodies(calls, time.time())
        outcomes: list[Outcome] = []
        for part in batches.parts(bodies):
            outcomes += await self._submit_part(bodies[part], until)
        room = asyncio.Semaphore(ASKED_AT_ONCE)

        async def so_far(result: ToolResult) -> ToolResult:
            async with room:
                return await self._outcome_so_far(result, until)

        return list(await asyncio.gather(*(so_far(batches.as_result(outcome)) for outcome in outcomes)))

    async def route(self, operation: str, /, **arguments: Any) -> Route:
        """Where the call would go, and why; nothing is accepted."""
        body = self._body(operation, arguments)
        return await persist(lambda: self._transport.route(body), self._patience())

    async def tools(self, name: str | None = None) -> list[Operation]:
        """The catalogue, or the part of it that `name` means: an operation, with or without its tool, or a tool.

        Raises:
            UnknownOperation: there is none of that name; `details["nearest"]` has the nearest.
        """
        return await persist(lambda: self._transport.tools(name), self._patience())

    async def status(self) -> SwarmStatus:
        """Workers, backlogs and counts."""
        return await persist(self._transport.status, self._patience())

    async def fallback_chains(self) -> dict[str, tuple[str, ...]]:
        """Tool or operation -> what is tried next when it cannot be had."""
        return (await persist(lambda: self._transport.fallbacks(None, None), self._patience())).fallbacks

    async def set_fallback_chain(self, name: str, chain: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
        """Set what is tried next after a tool (tools) or an operation (operations); None: as it is configured.

        Raises:
            InvalidRequest: the chain comes back to where it began, or mixes tools and operations.
        """
        return (await persist(lambda: self._transport.fallbacks(name, chain), self._patience())).fallbacks

    async def dead(self, action: str = "list", request: DeadRequest | None = None) -> DeadPage:
        """Dead letters: `list` them, `retry` them as new calls, `resolve` an unknown outcome, `drop` them.

        `retry` without ids leaves unknown outcomes alone, unless the request's state says that they are meant.

        Raises:
            InvalidRequest: the action or what it needs is wrong.
        """
        wanted = request or DeadRequest()
        return await persist(lambda: self._transport.dead(action, wanted), self._patience())

    async def cache(self, action: str = "stats", request: CacheRequest | None = None) -> CachePage:
        """The result cache: `stats`, `get` what is remembered of a call, `invalidate` tags, `warm` what is popular.

        Raises:
            InvalidRequest: the action or what it needs is wrong.
            Unavailable: the cache does not answer.
        """
        wanted = request or CacheRequest()
        return await persist(lambda: self._transport.cache(action, wanted), self._patience())

    def _until(self) -> float:
        return time.monotonic() + self._options.timeout_s

    def _patience(self) -> Patience:
        return Patience(until=self._until())

    def _body(self, operation: str, arguments: Mapping[str, Any]) -> SubmitBody:
        return self._options.body(operation, arguments, time.time())

    def _handle(self, result: ToolResult) -> AsyncCallHandle:
        return AsyncCallHandle(self._transport, result, timeout_s=self._options.timeout_s)

    async def _submit(self, body: SubmitBody, until: float, *, wait: bool) -> AsyncCallHandle:
        patience = Patience(until=until)
        accepted = await persist(
            lambda: self._transport.submit(body, wait_s=patience.slice_s(time.monotonic()) if wait else 0.0), patience
        )
        return self._handle(accepted)

    async def _submit_part(self, bodies: list[SubmitBody], until: float) -> list[Outcome]:
        patience = Patience(until=until)
        outcomes: list[Outcome] = []
        places = list(range(len(bodies)))
        while True:
            wait_s = min(batches.BATCH_WAIT_S, patience.left_s(time.monotonic()))
            chosen = [bodies[place] for place in places]
            answers = await persist(lambda: self._transport.submit_many(chosen, wait_s=wait_s), patience)  # noqa: B023
            outcomes = batches.put(outcomes, places, answers)
            places, error = batches.most_patient(outcomes)
            delay_s = None if error is None else patience.delay_s(error, time.monotonic())
            if delay_s is None:
                return outcomes
            await asyncio.sleep(delay_s)

    async def _outcome_so_far(self, result: ToolResult, until: float) -> ToolResult:
        if result.status.terminal:
            return result
        handle = self._handle(result)
        try:
            return await handle.outcome_until(until)
        except WaitTimedOut:
            return handle.latest


class AsyncClient(AsyncCalls):
    """Calls the tools of a swarm from an event loop; one is enough for a loop.

    ```python
    async with AsyncClient() as swarm:
        text = await swarm.call("read_file", path="README.md")
    ```
    """

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        self.endpoint = find_endpoint(url, api_key, environ=os.environ, folder=Path.cwd())
        super().__init__(open_async_transport(self.endpoint), CallOptions().changed({"timeout_s": timeout_s}))

    def __repr__(self) -> str:
        return f"AsyncClient({self.endpoint!r})"

    async def close(self) -> None:
        """Give connections back; bears being called twice."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
