"""Plain Celery on Redis: as installed, and in the fastest configuration that could be found for this echo.

The search for the fastest can be repeated: `python -m benchmarks.run --only celery-candidates`. A variant is spelled
`celery/POOL-CONCURRENCY/CLIENT[/RESULTS]`, for instance `celery/solo-1/batch/rpc`:

* POOL: `solo`, `threads`, `prefork`;
* CLIENT: `get` (`delay()` for each, then `get()` for each), `join` (`delay()`, then `ResultSet.join_native`), `batch`
  (one held producer with kombu's pipelined publishing, then `get()`), `poll` (`batch`, then the backend's `get_many`,
  which asks with MGET for all that is missing);
* RESULTS: `redis` (the Redis result backend, the usual one) or `rpc` (results come back on the caller's own queue).
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, cast

from celery import Celery
from celery.result import AsyncResult, ResultSet

from benchmarks.contenders.contract import NAME_VARIABLE, WAIT_S, Client, Contender, program, redis_url

CANDIDATES = tuple(
    f"celery/{pool}/{way}"
    for pool in ("solo-1", "threads-1", "threads-8", "prefork-1", "prefork-2", "prefork-4")
    for way in ("get/redis", "join/redis", "batch/redis", "poll/redis", "batch/rpc")
)
BATCH_CALLS = 200
POLL_S = 0.05


class _BatchingProducer(Protocol):
    """The part of kombu 5.7's Producer that its stubs do not know yet."""

    def batch(self, max_size: int) -> AbstractContextManager[object]: ...


class _ManyResults(Protocol):
    """The part of Celery's key-value result backends that its stubs leave out."""

    def get_many(
        self, task_ids: Sequence[str], *, timeout: float, interval: float
    ) -> Iterator[tuple[str, dict[str, str]]]: ...


class _Echo(Protocol):
    """The part of a Celery task that is used here."""

    def delay(self, text: str) -> AsyncResult[str]: ...

    def apply_async(self, args: tuple[str], **options: Any) -> AsyncResult[str]: ...


@dataclass(frozen=True)
class _Variant:
    pool: str
    concurrency: int
    client: str
    results: str
    tuned: bool = True


def _variant(name: str) -> _Variant:
    if name == "celery-default":
        return _Variant("prefork", 0, "get", "redis", tuned=False)
    _, pool, client, *rest = name.split("/")
    kind, _, concurrency = pool.partition("-")
    return _Variant(kind, int(concurrency), client, rest[0] if rest else "redis")


def _make_app(variant: _Variant, url: str) -> Celery:
    made = Celery("bench", broker=url, backend="rpc://" if variant.results == "rpc" else url)
    if variant.tuned:
        made.conf.update(
            worker_prefetch_multiplier=64,
            worker_disable_rate_limits=True,
            worker_enable_remote_control=False,
            worker_send_task_events=False,
            task_send_sent_event=False,
            task_track_started=False,
            task_acks_late=False,
            broker_transport_options={"priority_steps": [0]},
        )
    return made


VARIANT = _variant(os.environ.get(NAME_VARIABLE, "celery-default"))
app = _make_app(VARIANT, redis_url())


@app.task(name="bench.echo")
def echo(text: str) -> str:
    """Give the text back."""
    return text


class _Caller:
    def __init__(self, variant: _Variant) -> None:
        self._variant = variant
        self._echo = cast(_Echo, echo)

    def gather(self, texts: Sequence[str]) -> list[str]:
        match self._variant.client:
            case "get":
                return [pending.get(timeout=WAIT_S) for pending in [self._echo.delay(text) for text in texts]]
            case "join":
                together = ResultSet([self._echo.delay(text) for text in texts])
                return list(together.join_native(timeout=WAIT_S))
            case "batch":
                return [pending.get(timeout=WAIT_S) for pending in self._publish(texts)]
            case "poll":
                return self._poll([pending.id for pending in self._publish(texts)])
            case other:
                raise ValueError(f"no way to wait is called {other!r}")

    def round_trips(self, texts: Sequence[str]) -> list[tuple[float, str]]:
        trips: list[tuple[float, str]] = []
        for text in texts:
            start = time.perf_counter()
            answer = self._echo.delay(text).get(timeout=WAIT_S)
            trips.append((time.perf_counter() - start, answer))
        return trips

    def close(self) -> None:
        app.close()

    def _publish(self, texts: Sequence[str]) -> list[AsyncResult[str]]:
        producer = app.producer_pool.acquire(block=True)
        with producer, cast(_BatchingProducer, producer).batch(BATCH_CALLS):
            return [self._echo.apply_async((text,), producer=producer, argsrepr="", kwargsrepr="") for text in texts]

    def _poll(self, ids: list[str]) -> list[str]:
        backend = cast(_ManyResults, app.backend)
        answers = {call_id: meta["result"] for call_id, meta in backend.get_many(ids, timeout=WAIT_S, interval=POLL_S)}
        return [answers[call_id] for call_id in ids]


def _open_client() -> Client:
    return _Caller(VARIANT)


def contender(name: str) -> Contender:
    """The variant of this name."""
    variant = _variant(name)
    argv = [program("celery"), "-A", "benchmarks.contenders.celery_raw", "worker"]
    settings = f"as installed: prefork, a child per core ({os.cpu_count()})"
    if variant.tuned:
        argv += ["--pool", variant.pool, "--concurrency", str(variant.concurrency), "--loglevel", "ERROR"]
        argv += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        settings = f"{variant.pool} {variant.concurrency}, client {variant.client}, results {variant.results}"
    return Contender(name=name, settings=settings, worker_argv=argv, open_client=_open_client)
