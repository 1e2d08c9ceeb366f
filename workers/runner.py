"""The run of one call, from its task to its end: verify, claim, run within the limits, finish.

This is the only consumer. Order matters: nothing of a task is believed before its signature is verified; nothing runs
before the ledger grants the attempt; the result is in the ledger before the task is acknowledged.
"""

import asyncio
import concurrent.futures
import functools
import inspect
import logging
import secrets
import time
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from routing.signing import Envelope, SignatureExpired, SignatureRefused, Verifier, check_call
from store import keys
from store.ledger import Ledger, Refusal, Release
from store.whole import WholeValues
from tasks.operation import NOT_DONE, OperationDeclaration, Postponed, Tool
from toolswarm.errors import InvalidArguments, OperationFailed
from toolswarm.messages import Effect, ErrorInfo, ToolResult
from toolswarm.states import State
from workers import spool
from workers.attempt import Attempt, LeaseLost, StopReason
from workers.breaking import Breaking
from workers.endings import Endings, GiveBack
from workers.remembering import Remembering
from workers.renewal import Renewal
from workers.spool import Spool

logger = logging.getLogger(__name__)

_CLAIM_RETRY_S = 10.0
_FINISH_FIRST_S = 0.5
"""After this a result that the ledger does not take is written to disk."""
_FINISH_RETRY_S = 60.0
_THREAD_GRACE_S = 2.0
"""How long a function in a thread may take to notice that it is to stop."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a Celery message says: which call, which operation, and the signature."""

    id: str
    operation: str
    header: object


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a task, for Celery's events: a state, or why nothing was run."""

    state: State | None
    code: str = ""
    """The error's code, or `busy`, `ended`, `gone`, `signature_refused`, `lost`, `released`, `postponed`, `retry`,
    `fall_back`."""
    ran_s: float = 0.0


class Runner:
    """Runs calls of one tool."""

    def __init__(
        self,
        tool: Tool,
        resources: Any,
        *,
        ledger: Ledger,
        verifier: Verifier,
        renewal: Renewal,
        breaking: Breaking,
        remembering: Remembering,
        results: Spool,
        whole: WholeValues,
        worker: str,
        threads: concurrent.futures.Executor,
    ) -> None:
        self._tool = tool
        self._resources = resources
        self._ledger = ledger
        self._verifier = verifier
        self._renewal = renewal
        self._breaking = breaking
        self._remembering = remembering
        self._spool = results
        self._whole = whole
        self._worker = worker
        self._endings = Endings(tool.name, worker)
        self._queues = (keys.tool_queue(tool.name), keys.own_queue(tool.name, worker))
        self._threads = threads
        self.done = 0
        self.busy = 0
        self.busy_s = 0.0

    async def run(self, task: Task) -> Outcome:
        """Run one task to its end.

        Raises:
            BrokerUnavailable: the ledger could not be asked; the task must not be acknowledged.
        """
        self.busy += 1
        try:
            return await self._run(task)
        finally:
            self.busy -= 1

    async def _run(self, task: Task) -> Outcome:
        try:
            envelope = await self._verify(task)
        except SignatureRefused as error:
            logger.error("task %s of %s refused: %s", task.id, task.operation, error.message)
            return Outcome(state=None, code=error.code)
        asked_at = time.monotonic()
        grant = await self._ledger.claim(
            task.id,
            worker=self._worker,
            nonce=secrets.token_hex(8),
            lease_s=self._renewal.lease_s,
            retry_for_s=_CLAIM_RETRY_S,
        )
        if isinstance(grant, Refusal):
            return Outcome(state=None, code=grant.value)
        attempt = Attempt(grant, self._ledger, lease_s=self._renewal.lease_s, asked_at=asked_at, worker=self._worker)
        self._renewal.add(attempt)
        try:
            result: ToolResult | GiveBack | None
            try:
                check_call(envelope, grant.call, task.operation)
                result = await self._rescued(attempt, await self._attempt(attempt, asked_at))
            except SignatureRefused as error:
                result = self._endings.result(attempt, asked_at, State.FAILED, error=error.info())
            await attempt.teller.flush()
            return await self._end(attempt, result, asked_at)
        finally:
            self._renewal.discard(attempt)
            self._remembering.forget(attempt)

    async def _rescued(self, attempt: Attempt, result: ToolResult | GiveBack | None) -> ToolResult | GiveBack | None:
        """What is remembered, when that may stand in for a failure."""
        failed = result.otherwise if isinstance(result, GiveBack) else result
        return result if failed is None else await self._remembering.rescue(attempt, failed) or result

    async def _verify(self, task: Task) -> Envelope:
        """What is signed in a genuine task.

        Raises:
            SignatureRefused: it is not genuine, or has expired by the ledger's clock: ours may be wrong.
        """
        verify = functools.partial(
            self._verifier.verify, task.header, call_id=task.id, operation=task.operation, queues=self._queues
        )
        try:
            return verify(now=time.time())
        except SignatureExpired:
            return verify(now=await self._ledger.now())

    async def _end(self, attempt: Attempt, result: ToolResult | GiveBack | None, asked_at: float) -> Outcome:
        ran_s = time.monotonic() - asked_at
        dead = False
        self.done += 1
        self.busy_s += ran_s
        if isinstance(result, GiveBack):
            if result.fall_back:
                release = await self._ledger.fall_back(attempt.grant, retry_for_s=_FINISH_RETRY_S)
            else:
                release = await self._ledger.release(
                    attempt.grant, delay_s=result.delay_s, counts=result.counts, retry_for_s=_FINISH_RETRY_S
                )
            if release is Release.OK:
                if result.fall_back:
                    await self._remembering.end(attempt, None)
                return Outcome(state=None, code=result.code, ran_s=ran_s)
            dead = result.counts
            result = result.otherwise if release is Release.LATE else None
        if result is None:
            return Outcome(state=None, code="lost", ran_s=ran_s)
        await self._remembering.end(attempt, result)
        taken = await spool.finish(
            self._spool,
            self._ledger,
            spool.Spooled(grant=attempt.grant, result=result, dead=dead),
            first_try_s=_FINISH_FIRST_S,
            retry_for_s=_FINISH_RETRY_S,
        )
        if not taken:
            logger.warning("call %s: the lease was lost, its result was not taken", attempt.grant.id)
            return Outcome(state=None, code="lost", ran_s=ran_s)
        return Outcome(state=result.status, code=result.error.code if result.error else "", ran_s=ran_s)

    async def _attempt(self, attempt: Attempt, asked_at: float) -> ToolResult | GiveBack | None:
        """Run the operation, or look whether an earlier attempt did; None when the lease was lost."""
        name = attempt.call.operation.rpartition(".")[2]
        declaration = self._tool.operations.get(name)
        if declaration is None:
            message = f"this worker's {self._tool.name} has no operation {name}: it runs another version"
            error = ErrorInfo(code="unknown_operation", message=message, retryable=True)
            return self._endings.result(attempt, asked_at, State.FAILED, error=error)
        deadline_s = attempt.grant.deadline - attempt.grant.claimed_at
        by_deadline = deadline_s < declaration.time_limit_s
        limit_s = min(deadline_s, declaration.time_limit_s)
        attempt.limit(limit_s)
        timer = asyncio.get_running_loop().call_later(
            limit_s, attempt.stop, StopReason.DEADLINE if by_deadline else StopReason.TIME_LIMIT
        )
        try:
            arguments = declaration.convert(attempt.call.arguments)
            await self._remembering.begin(attempt, declaration, arguments)
            if attempt.in_doubt:
                found = await self._probe(declaration, attempt, arguments)
                if found is not NOT_DONE:
                    return await self._success(attempt, asked_at, declaration, found)
                attempt.in_doubt = False
            if declaration.effect in (Effect.VERIFIABLE, Effect.ONCE) and not declaration.marks_effect:
                await attempt.begin_effect_async()
            value = await self._guarded(declaration.function, attempt, arguments)
            return await self._success(attempt, asked_at, declaration, value)
        except Postponed as error:
            return self._endings.postponed(attempt, asked_at, error)
        except (OperationFailed, InvalidArguments) as error:
            return self._endings.failure(attempt, asked_at, declaration, error)
        except (asyncio.CancelledError, LeaseLost):
            if attempt.stopped_by is None:
                raise
            return self._endings.stopped(attempt, asked_at, declaration)
        except Exception as error:  # noqa: BLE001 - the outermost loop around foreign code; it is logged and told
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s failed with %s (its message may hold data):\n%s", name, type(error).__name__, frames)
            if attempt.stopped_by is not None:
                return self._endings.stopped(attempt, asked_at, declaration)
            message = f"{name} failed with {type(error).__name__}: see the worker's log"
            info = ErrorInfo(code="internal", message=message)
            return self._endings.broken(attempt, asked_at, declaration, info)
        finally:
            timer.cancel()

    async def _success(
        self, attempt: Attempt, asked_at: float, declaration: OperationDeclaration, value: Any
    ) -> ToolResult:
        result, whole = self._endings.success(attempt, asked_at, declaration, value)
        if whole is None:
            return result
        kept = await self._whole.keep(attempt.grant.id, whole)
        return self._endings.too_large(attempt, asked_at, declaration, result, whole, kept=kept)

    async def _probe(self, declaration: OperationDeclaration, attempt: Attempt, arguments: dict[str, Any]) -> Any:
        """What an earlier attempt left, or NOT_DONE.

        Raises:
            OperationFailed: it cannot be told.
        """
        if declaration.probe is None:
            raise OperationFailed(f"this worker cannot look whether {declaration.name} happened", code="cannot_tell")
        return await self._call(declaration.probe, attempt, arguments)

    async def _guarded(self, function: Callable[..., Any], attempt: Attempt, arguments: dict[str, Any]) -> Any:
        """Run it, unless the circuit breaker of what it depends on is open."""
        target = self._tool.target and self._tool.target(self._resources, arguments)
        if not target:
            return await self._call(function, attempt, arguments)
        await self._breaking.enter(target)
        try:
            value = await self._call(function, attempt, arguments)
        except OperationFailed as error:
            await self._breaking.leave(target, error.info())
            raise
        await self._breaking.leave(target, None)
        return value

    async def _call(self, function: Callable[..., Any], attempt: Attempt, arguments: dict[str, Any]) -> Any:
        if inspect.iscoroutinefunction(function):
            running = asyncio.ensure_future(function(self._resources, attempt, **arguments))
            attempt.on_stop(running.cancel)
            return await running
        in_thread = self._threads.submit(function, self._resources, attempt, **arguments)
        waiting = asyncio.wrap_future(in_thread)
        attempt.on_stop(lambda: waiting.cancel())
        try:
            return await waiting
        except asyncio.CancelledError:
            if in_thread.running() and not await _ends_within(in_thread, _THREAD_GRACE_S):
                logger.error("%s does not stop: its thread goes on", attempt.call.operation)
            raise


async def _ends_within(in_thread: concurrent.futures.Future[Any], seconds: float) -> bool:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not ended.done():
            ended.set_result(None)

    def wake(_: object) -> None:
        loop.call_soon_threadsafe(settle)

    in_thread.add_done_callback(wake)
    try:
        async with asyncio.timeout(seconds):
            await ended
    except TimeoutError:
        return False
    return True
