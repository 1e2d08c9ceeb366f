"""The client for code that blocks."""

import itertools
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from toolswarm import batches
from toolswarm.cache_messages import CachePage, CacheRequest
from toolswarm.endpoint import HTTP_SCHEMES, Endpoint, find_endpoint
from toolswarm.errors import WaitTimedOut
from toolswarm.handle import CallHandle, persist
from toolswarm.messages import DeadPage, DeadRequest, Operation, Route, SubmitBody, SwarmStatus, ToolResult
from toolswarm.options import DEFAULT_TIMEOUT_S, CallOptions, OptionChanges
from toolswarm.patience import Patience
from toolswarm.states import State
from toolswarm.transport import Outcome, Transport

ASKED_AT_ONCE = 16
"""Calls of `call_many` whose ends are waited for at the same time."""


def open_transport(endpoint: Endpoint) -> Transport:
    """The transport for the endpoint's scheme.

    Raises:
        ConfigurationError: it needs the extra `toolswarm[broker]`, or a key, that is not there.
    """
    if endpoint.scheme in HTTP_SCHEMES:
        from toolswarm.http import HttpTransport

        return HttpTransport(endpoint)
    from toolswarm.broker import BrokerTransport  # here, because Celery takes 0.3 s to import

    return BrokerTransport(endpoint)


class Calls:
    """Calls operations under one set of options; what `Client` is, and what `Client.options` gives."""

    def __init__(self, transport: Transport, options: CallOptions) -> None:
        self._transport = transport
        self._options = options

    def options(self, **changes: Unpack[OptionChanges]) -> "Calls":
        """The same client with other options; they are set here, so that no option hides an argument of its name."""
        return Calls(self._transport, self._options.changed(changes))

    def call(self, operation: str, /, **arguments: Any) -> Any:
        """Run an operation and give its value.

        Raises:
            RequestRefused: nothing was accepted; the subclass says why.
            CallFailed, CallCancelled, CallExpired, OutcomeUnknown: it ended without success.
            WaitTimedOut: it has not ended within the timeout; it goes on.
            GatewayUnreachable: no gateway answers.
        """
        until = time.monotonic() + self._options.timeout_s
        return self._submit(self._body(operation, arguments), until, wait=True).value_until(until)

    def submit(self, operation: str, /, **arguments: Any) -> CallHandle:
        """Have an operation run, and give a handle for it as soon as the call is accepted.

        Raises:
            RequestRefused: nothing was accepted; the subclass says why.
            GatewayUnreachable: no gateway answers.
        """
        until = time.monotonic() + self._options.timeout_s
        return self._submit(self._body(operation, arguments), until, wait=False)

    def handle(self, call_id: str) -> CallHandle:
        """The handle of a call that was submitted before, here or elsewhere; nothing is asked yet."""
        return CallHandle(
            self._transport, ToolResult(id=call_id, status=State.ACCEPTED), timeout_s=self._options.timeout_s
        )

    def call_many(self, calls: Iterable[tuple[str, Mapping[str, Any]]]) -> list[ToolResult]:
        """Run many operations at once and give what became of each, in order, raising for none of them.

        A call that was refused is a failed result with an empty id; one that has not ended within the timeout keeps
        the state it had. With an idempotency key in the options, call number N has the key `KEY:N`.
        """
        until = time.monotonic() + self._options.timeout_s
        bodies = self._options.bodies(calls, time.time())
        outcomes: list[Outcome] = []
        for part in batches.parts(bodies):
            outcomes += self._submit_part(bodies[part], until)
        results = [batches.as_result(outcome) for outcome in outcomes]
        if all(result.status.terminal for result in results):
            return results
        with ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="toolswarm-ask") as threads:
            return list(threads.map(self._outcome_so_far, results, itertools.repeat(until)))

    def route(self, operation: str, /, **arguments: Any) -> Route:
        """Where the call would go, and why; nothing is accepted."""
        body = self._body(operation, arguments)
        return persist(lambda: self._transport.route(body), self._patience())

    def tools(self, name: str | None = None) -> list[Operation]:
        """The catalogue, or the part of it that `name` means: an operation, with or without its tool, or a tool.

        Raises:
            UnknownOperation: there is none of that name; `details["nearest"]` has the nearest.
        """
        return persist(lambda: self._transport.tools(name), self._patience())

    def status(self) -> SwarmStatus:
        """Workers, backlogs and counts."""
        return persist(self._transport.status, self._patience())

    def fallback_chains(self) -> dict[str, tuple[str, ...]]:
        """Tool or operation -> what is tried next when it cannot be had."""
        return persist(lambda: self._transport.fallbacks(None, None), self._patience()).fallbacks

    def set_fallback_chain(self, name: str, chain: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
        """Set what is tried next after a tool (tools) or an operation (operations); None: as it is configured.

        Raises:
            InvalidRequest: the chain comes back to where it began, or mixes tools and operations.
        """
        return persist(lambda: self._transport.fallbacks(name, chain), self._patience()).fallbacks

    def dead(self, action: str = "list", request: DeadRequest | None = None) -> DeadPage:
        """Dead letters: `list` them, `retry` them as new calls, `resolve` an unknown outcome, `drop` them.

        `retry` without ids leaves unknown outcomes alone, unless the request's state says that they are meant.

        Raises:
            InvalidRequest: the action or what it needs is wrong.
        """
        wanted = request or DeadRequest()
        return persist(lambda: self._transport.dead(action, wanted), self._patience())

    def cache(self, action: str = "stats", request: CacheRequest | None = None) -> CachePage:
        """The result cache: `stats`, `get` what is remembered of a call, `invalidate` tags, `warm` what is popular.

        Raises:
            InvalidRequest: the action or what it needs is wrong.
            Unavailable: the cache does not answer.
        """
        wanted = request or CacheRequest()
        return persist(lambda: self._transport.cache(action, wanted), self._patience())

    def _body(self, operation: str, arguments: Mapping[str, Any]) -> SubmitBody:
        return self._options.body(operation, arguments, time.time())

    def _patience(self) -> Patience:
        return Patience(until=time.monotonic() + self._options.timeout_s)

    def _submit(self, body: SubmitBody, until: float, *, wait: bool) -> CallHandle:
        patience = Patience(until=until)
        accepted = persist(
            lambda: self._transport.submit(body, wait_s=patience.slice_s(time.monotonic()) if wait else 0.0), patience
        )
        return CallHandle(self._transport, accepted, timeout_s=self._options.timeout_s)

    def _submit_part(self, bodies: list[SubmitBody], until: float) -> list[Outcome]:
        patience = Patience(until=until)
        outcomes: list[Outcome] = []
        places = list(range(len(bodies)))
        while True:
            wait_s = min(batches.BATCH_WAIT_S, patience.left_s(time.monotonic()))
            chosen = [bodies[place] for place in places]
            answers = persist(lambda: self._transport.submit_many(chosen, wait_s=wait_s), patience)  # noqa: B023
            outcomes = batches.put(outcomes, places, answers)
            places, error = batches.most_patient(outcomes)
            delay_s = None if error is None else patience.delay_s(error, time.monotonic())
            if delay_s is None:
                return outcomes
            time.sleep(delay_s)

    def _outcome_so_far(self, result: ToolResult, until: float) -> ToolResult:
        if result.status.terminal:
            return result
        handle = CallHandle(self._transport, result, timeout_s=self._options.timeout_s)
        try:
            return handle.outcome_until(until)
        except WaitTimedOut:
            return handle.latest


class Client(Calls):
    """Calls the tools of a swarm; thread-safe, one is enough for a process.

    ```python
    with Client() as swarm:
        text = swarm.call("read_file", path="README.md")
        handle = swarm.options(priority="background", timeout_s=600).submit("github.search_code", query="ledger")
    ```

    Without arguments the swarm on this machine is found; see `toolswarm.endpoint`.
    """

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        self.endpoint = find_endpoint(url, api_key, environ=os.environ, folder=Path.cwd())
        super().__init__(open_transport(self.endpoint), CallOptions().changed({"timeout_s": timeout_s}))

    def __repr__(self) -> str:
        return f"Client({self.endpoint!r})"

    def close(self) -> None:
        """Give connections back; bears being called twice."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
