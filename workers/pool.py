# mypy: disable-error-code="attr-defined,arg-type"
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false
# (the stubs of Celery leave out what a pool and a request are made of)
"""The asyncio pool: Celery's consumer in the main thread, calls as coroutines on a loop in another.

Tasks go to the loop, and outcomes come back, in batches: one wake-up of the other thread for all that is ready. Celery
still sees each task start and end (events, acknowledgement), but its tracer is not used: retries and results are ours.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic
from typing import Any, Protocol, TypeVar

from celery.concurrency.base import BasePool
from celery.worker import state as worker_state
from celery.worker.request import Request

from toolswarm.errors import BrokerUnavailable
from toolswarm.states import State
from workers.runner import Outcome

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Handler(Protocol):
    """What runs the pool's tasks on its loop."""

    loop: asyncio.AbstractEventLoop
    wait: Callable[[Awaitable[Any]], Any]

    async def handle(self, request: "CallRequest") -> Outcome:
        """Run one task.

        Raises:
            BrokerUnavailable: it could not be begun; it goes back to its queue.
        """
        ...

    def revoke(self, request: "CallRequest") -> Coroutine[Any, Any, None]:
        """Celery was told to revoke the task."""
        ...

    def interrupt(self) -> None:
        """Stop what runs, from Celery's thread."""
        ...


class CallRequest(Request):
    """A task on its way through the asyncio pool."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments in the task's body (calls have none)."""
        return dict(self._payload[1])

    def maybe_expire(self) -> None:
        """Never: what a task says of its end is not signed; the deadline that counts is the ledger's."""

    def end(self, outcome: Outcome) -> None:
        """Tell Celery what came of it: acknowledge, then the event that Flower shows."""
        worker_state.task_ready(self, successful=outcome.state is State.SUCCEEDED)
        self.acknowledge()
        if outcome.state is State.SUCCEEDED:
            self.send_event("task-succeeded", result="succeeded", runtime=outcome.ran_s)
        elif outcome.state is State.CANCELLED:
            self.send_event("task-revoked", terminated=True, signum=None, expired=False)
        elif outcome.state is None:
            self.send_event("task-rejected", requeue=outcome.code == "released")
        else:
            self.send_event("task-failed", exception=f"{outcome.state}: {outcome.code}", traceback="")

    def give_up(self) -> None:
        """The ledger could not be asked: the task goes back to its queue."""
        worker_state.task_ready(self, successful=False)
        self.reject(requeue=True)


def call_strategy(task: Any, app: Any, consumer: Any) -> Callable[..., None]:
    """How the consumer treats messages of our tasks (Celery's extension point `Task.Strategy`): straight to the pool.

    Celery's default strategy wraps the request in a class that hands its tracer to the pool.
    """
    pool: CallPool = consumer.pool

    def receive(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any) -> None:
        request = CallRequest(
            message,
            on_ack=message.ack_log_error,  # at once: we are on Celery's thread, and the freed slot must be seen now
            on_reject=message.reject_log_error,
            app=app,
            hostname=consumer.hostname,
            eventer=consumer.event_dispatcher,
            task=task,
            connection_errors=consumer.connection_errors,
            body=message.body,
            headers=message.headers,
            decoded=False,
            utc=True,
        )
        request.send_event("task-received", name=request.name, args="()", kwargs="{}", retries=0)
        worker_state.task_reserved(request)
        for callback in callbacks:
            callback(request)
        if request.revoked():
            pool.revoke(request)
        else:
            pool.run(request)

    return receive


def make_pool(handler: Handler) -> type[BasePool]:
    """A pool class for Celery, whose calls run on this handler's loop."""

    class Pool(CallPool):
        pass

    Pool.handler = handler
    return Pool


class CallPool(BasePool):
    """`limit` is the number of slots."""

    uses_semaphore = False
    task_join_will_block = False
    handler: Handler

    def on_start(self) -> None:
        """Nothing runs yet."""
        self._to_loop: deque[CallRequest] = deque()
        self._to_celery: deque[tuple[CallRequest, Outcome | None]] = deque()
        self._loop_woken = False
        self._celery_woken = False
        self._hub: Any = None
        self._running = 0
        self._coroutines: set[asyncio.Task[None]] = set()

    def register_with_event_loop(self, loop: Any) -> None:
        """Celery's loop begins, or begins again: it forgot every callback when it lost the broker."""
        self._celery_woken = False
        self._hub = loop  # kombu's `get_event_loop()` is None from the first lost broker on
        loop.on_tick.add(self._end_requests)

    def run(self, request: CallRequest) -> None:
        """Start a call; called on Celery's thread."""
        self._running += 1
        request.on_accepted(os.getpid(), monotonic())
        self._to_loop.append(request)
        if not self._loop_woken:
            self._loop_woken = True
            self.handler.loop.call_soon_threadsafe(self._start_calls)

    def revoke(self, request: CallRequest) -> None:
        """What counts is the ledger: the call is cancelled there."""
        self.handler.loop.call_soon_threadsafe(self._start, self.handler.revoke(request))

    def _start_calls(self) -> None:
        self._loop_woken = False
        while self._to_loop:
            self._start(self._run(self._to_loop.popleft()))

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        running = self.handler.loop.create_task(coroutine)
        self._coroutines.add(running)
        running.add_done_callback(self._ended)

    def _ended(self, running: asyncio.Task[None]) -> None:
        self._coroutines.discard(running)
        error = None if running.cancelled() else running.exception()
        if error is not None:  # its message may hold data
            logger.error("the pool met %s; the task goes back to its queue", type(error).__name__)

    async def _run(self, request: CallRequest) -> None:
        outcome: Outcome | None = None
        try:
            outcome = await self.handler.handle(request)
        except BrokerUnavailable as error:
            logger.warning("task %s goes back to its queue: %s", request.id, error)
        finally:
            self._to_celery.append((request, outcome))
            if not self._celery_woken:
                self._celery_woken = True
                if self._hub is not None:  # a worker that stops fetches the rest in `on_close`
                    self._hub.call_soon(self._end_requests)

    def _end_requests(self) -> None:
        """Called on Celery's thread."""
        self._celery_woken = False
        while self._to_celery:
            request, outcome = self._to_celery.popleft()
            self._running -= 1
            if outcome is None:
                request.give_up()
            else:
                request.end(outcome)

    def on_close(self) -> None:
        """Drain: no more tasks come, those that run are waited for."""
        while self._running:
            self.handler.wait(asyncio.sleep(0.02))
            self._end_requests()

    def on_terminate(self) -> None:
        """Stop now: what may run elsewhere is given back, the rest is stopped and told."""
        self.handler.interrupt()
        self.on_close()

    @property
    def num_processes(self) -> int:
        """Celery's word for slots."""
        return int(self.limit)
