"""The way through the broker, without a gateway: Celery carries the request to the router pool (`toolswarm[broker]`).

The answer comes back on one list per client, read by one thread. A reply can be lost (the connection may break after
the broker has handed it out): then everyone who waits is told at once, and asks again. That is safe: a submit is
joined by its idempotency key, and the other questions change nothing when they are repeated.
"""

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

import msgspec

from toolswarm.cache_messages import CachePage, CacheRequest
from toolswarm.catalogue import choose
from toolswarm.endpoint import Endpoint, shown_url
from toolswarm.errors import (
    AuthenticationFailed,
    BrokerUnavailable,
    ConfigurationError,
    InvalidRequest,
    ToolswarmError,
    Unavailable,
)
from toolswarm.intake import (
    INTAKE_QUEUE,
    INTAKE_TASK,
    REPLY_TTL_S,
    IntakeReply,
    IntakeRequest,
    bell_key,
    reply_key,
    task_arguments,
)
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
from toolswarm.problems import error_from_info
from toolswarm.transport import Outcome

try:
    import redis
    from celery import Celery
    from kombu.exceptions import OperationalError
except ImportError as error:
    raise ConfigurationError("a broker URL needs the extra: pip install 'toolswarm[broker]'") from error

CONNECT_TIMEOUT_S = 2.0
SOCKET_TIMEOUT_S = 5.0
BELL_TTL_S = 60
ANSWER_MARGIN_S = 5.0
"""How much longer than the wait the router pool may take to answer."""
SUBMIT_WAIT_S = 2.0
"""A submit waits no longer than this: until it is answered its call has no id that could be asked for."""
RESULT_WAIT_S = 10.0
"""A lost reply is noticed this much later at worst."""
EVENT_WAIT_S = 1.0
POP_WAIT_S = 2
"""One BLPOP; shorter than SOCKET_TIMEOUT_S, or every quiet moment would look like a dead link."""
PAUSE_S = 0.5

Decoded = TypeVar("Decoded")


class BrokerTransport:
    """Asks the router pool of a broker; one connection pool, one Celery producer and one reading thread."""

    def __init__(self, endpoint: Endpoint) -> None:
        if not endpoint.api_key:
            raise AuthenticationFailed("no API key: set TOOLSWARM_API_KEY or give one; requests are signed with it")
        self._api_key = endpoint.api_key
        self._shown = shown_url(endpoint.url)
        self._celery = _celery(endpoint.url)
        self._redis = connect(endpoint.url)
        self._replies = Replies(self._redis)

    def submit(self, body: SubmitBody, *, wait_s: float) -> ToolResult:
        """Submit a call; the answer is not terminal when the wait was over first."""
        wait_s = min(wait_s, SUBMIT_WAIT_S)
        return self._answer(self._ask("submit", call=body, wait_s=wait_s), wait_s, ToolResult)

    def submit_many(self, bodies: Sequence[SubmitBody], *, wait_s: float) -> list[Outcome]:
        """Submit each for itself; the answers are in the same order."""
        until = time.monotonic() + min(wait_s, SUBMIT_WAIT_S)
        futures = [self._ask("submit", call=body, wait_s=0.0) for body in bodies]
        return [self._outcome(future, until) for future in futures]

    def result(self, call_id: str, *, wait_s: float) -> ToolResult:
        """The result, or after the wait the state so far."""
        wait_s = min(wait_s, RESULT_WAIT_S)
        return self._answer(self._ask("result", id=call_id, wait_s=wait_s), wait_s, ToolResult)

    def value(self, call_id: str) -> bytes:
        """Refused: a whole value lies where only the gateway reaches it.

        Raises:
            InvalidRequest: always.
        """
        raise InvalidRequest("the value is too large for the broker: ask the gateway for it (an http URL)", id=call_id)

    def cancel(self, call_id: str) -> ToolResult:
        """Ask that the call stop."""
        return self._answer(self._ask("cancel", id=call_id), 0.0, ToolResult)

    def route(self, body: SubmitBody) -> Route:
        """Where the call would go, and why."""
        return self._answer(self._ask("route", call=body), 0.0, Route)

    def tools(self, name: str | None) -> list[Operation]:
        """The catalogue, or the part of it that `name` (operation, alias or tool) means."""
        return choose(self._answer(self._ask("tools"), 0.0, list[Operation]), name)

    def status(self) -> SwarmStatus:
        """Workers, backlogs and counts."""
        return self._answer(self._ask("status"), 0.0, SwarmStatus)

    def fallbacks(self, name: str | None, chain: Sequence[str] | None) -> FallbackChains:
        """The fallback chains, after the named one was set, or given back to the configuration (no chain)."""
        params = {"name": name, "chain": None if chain is None else list(chain)}
        return self._answer(self._ask("fallbacks", **params), 10.0, FallbackChains)

    def dead(self, action: str, request: DeadRequest) -> DeadPage:
        """List, retry, resolve or drop dead letters."""
        return self._answer(self._ask("dead", action=action, request=msgspec.to_builtins(request)), 60.0, DeadPage)

    def cache(self, action: str, request: CacheRequest) -> CachePage:
        """Look at the result cache, invalidate tags, or warm it."""
        return self._answer(self._ask("cache", action=action, request=msgspec.to_builtins(request)), 10.0, CachePage)

    def events(self, call_id: str) -> Iterator[CallEvent]:
        """The changes of state that are seen by asking every second; the times are those of this machine."""
        seen = None
        while seen is None or not seen.terminal:
            result = self.result(call_id, wait_s=0.0 if seen is None else EVENT_WAIT_S)
            if result.status is not seen:
                seen = result.status
                yield CallEvent(
                    id=call_id, state=seen, at=time.time(), result=result if result.status.terminal else None
                )

    def close(self) -> None:
        """Stop the reading thread and give connections back; bears being called twice."""
        self._replies.stop()
        self._celery.close()
        self._redis.close()

    def _ask(self, method: str, **params: Any) -> "Future[Any]":
        request = IntakeRequest(
            id=str(uuid.uuid4()), method=method, params=params, at=time.time(), reply_to=self._replies.name
        )
        future = self._replies.expect(request.id)
        try:
            self._celery.send_task(
                INTAKE_TASK,
                kwargs=task_arguments(request, self._api_key),
                queue=INTAKE_QUEUE,
                ignore_result=True,
                argsrepr="()",
                kwargsrepr="(redacted)",
                retry=False,
            )
            self._ring()
        except (OperationalError, redis.RedisError, OSError) as error:
            self._replies.forget(request.id)
            raise BrokerUnavailable(f"the broker at {self._shown} does not answer; is it running?") from error
        return future

    def _ring(self) -> None:
        bell = bell_key(INTAKE_QUEUE)
        with self._redis.pipeline(transaction=False) as pipeline:  # pyright: ignore[reportUnknownMemberType]
            pipeline.lpush(bell, 1)
            pipeline.ltrim(bell, 0, 0)
            pipeline.expire(bell, BELL_TTL_S)
            pipeline.execute()

    def _answer(self, future: "Future[Any]", wait_s: float, kind: type[Decoded]) -> Decoded:
        try:
            answer = future.result(timeout=wait_s + ANSWER_MARGIN_S)
        except FutureTimeoutError as error:
            future.cancel()
            raise Unavailable(
                f"the router pool at {self._shown} did not answer within {wait_s + ANSWER_MARGIN_S:.0f} s;"
                " is a worker of the queue `intake` running, and is the API key right?"
            ) from error
        try:
            return msgspec.convert(answer, kind)
        except msgspec.ValidationError as error:
            raise ToolswarmError("the router pool's answer is not well-formed") from error

    def _outcome(self, future: "Future[Any]", until: float) -> Outcome:
        try:
            return self._answer(future, max(0.0, until - time.monotonic()), ToolResult)
        except ToolswarmError as error:
            return error


class Replies:
    """One thread that takes the replies of this client's list and gives each to the one who waits for it."""

    def __init__(self, connection: "redis.Redis") -> None:
        self.name = str(uuid.uuid4())
        self._redis = connection
        self._waiting: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def expect(self, request_id: str) -> "Future[Any]":
        """The future of the reply to a request that is about to be sent."""
        future: Future[Any] = Future()
        with self._lock:
            self._waiting[request_id] = future
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="toolswarm-replies", daemon=True)
                self._thread.start()
        future.add_done_callback(lambda _: self.forget(request_id))
        return future

    def forget(self, request_id: str) -> None:
        """Expect the reply no longer."""
        with self._lock:
            self._waiting.pop(request_id, None)

    def stop(self) -> None:
        """End the thread, and tell everyone who still waits; bears being called twice."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        try:
            wake = msgspec.json.encode(IntakeReply(id=""))
            self._redis.rpush(reply_key(self.name), wake)
            self._redis.expire(reply_key(self.name), REPLY_TTL_S)
        except redis.RedisError:  # then the thread's own read fails or ends too, at the latest after POP_WAIT_S
            pass
        if self._thread is not None:
            self._thread.join(SOCKET_TIMEOUT_S)
        self._lose("the client was closed")

    def run_once(self) -> None:
        """Take one reply, waiting for it no longer than POP_WAIT_S."""
        taken: Any = self._redis.blpop([reply_key(self.name)], timeout=POP_WAIT_S)
        if taken is None:
            return
        reply = msgspec.json.decode(taken[1], type=IntakeReply)
        with self._lock:
            future = self._waiting.pop(reply.id, None)
        if future is None or not future.set_running_or_notify_cancel():
            return  # answered twice, or too late
        if reply.error is not None:
            future.set_exception(error_from_info(reply.error))
        else:
            future.set_result(reply.ok)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.run_once()
            except redis.RedisError:
                self._lose("the connection to the broker broke")
                self._stopping.wait(PAUSE_S)
            except msgspec.DecodeError:
                self._lose("a reply of the router pool was not well-formed")

    def _lose(self, why: str) -> None:
        with self._lock:
            lost = list(self._waiting.values())
            self._waiting.clear()
        for future in lost:
            if future.set_running_or_notify_cancel():
                future.set_exception(BrokerUnavailable(f"{why}; the answer may be lost"))


def _celery(url: str) -> Celery:
    app = Celery("toolswarm-client", broker=celery_url(url), set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_timeout=CONNECT_TIMEOUT_S,
        broker_transport_options={
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "priority_steps": [0],
            "max_retries": 1,  # without it kombu tries to connect for ever
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
        },
    )
    return app


def celery_url(url: str) -> str:
    """The broker URL as Celery spells it: unix sockets are `redis+socket://`, and the database has another name."""
    if not url.startswith("unix://"):
        return url
    return (
        url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=").replace("&db=", "&virtual_host=")
    )


def connect(url: str) -> "redis.Redis":
    """A bounded connection pool: every answer has a timeout, and nothing is repeated behind our back."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
        url,
        protocol=2,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
