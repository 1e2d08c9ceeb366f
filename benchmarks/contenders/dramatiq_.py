"""Dramatiq with its Redis broker and its Redis results. Variants: `dramatiq/THREADS`."""

import time
from collections.abc import Sequence
from typing import Any, Protocol, cast

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends.redis import RedisBackend

from benchmarks.contenders.contract import WAIT_S, Client, Contender, program, redis_url

BEST_THREADS = 8


class _Message(Protocol):
    def get_result(self, *, block: bool, timeout: int) -> str: ...


class _Echo(Protocol):
    def send(self, text: str) -> _Message: ...


def _make_broker(url: str) -> RedisBroker:
    made = cast(Any, RedisBroker)(url=url)  # its constructor, like the next two, has no annotations
    made.add_middleware(cast(Any, Results)(backend=cast(Any, RedisBackend)(url=url)))
    dramatiq.set_broker(made)
    return cast(RedisBroker, made)


broker = _make_broker(redis_url())


@dramatiq.actor(actor_name="bench.echo", store_results=True)
def _echo(text: str) -> str:
    return text


echo = cast(_Echo, _echo)


class _Caller:
    def gather(self, texts: Sequence[str]) -> list[str]:
        return [_result(message) for message in [echo.send(text) for text in texts]]

    def round_trips(self, texts: Sequence[str]) -> list[tuple[float, str]]:
        trips: list[tuple[float, str]] = []
        for text in texts:
            start = time.perf_counter()
            answer = _result(echo.send(text))
            trips.append((time.perf_counter() - start, answer))
        return trips

    def close(self) -> None:
        broker.close()


def _result(message: _Message) -> str:
    return message.get_result(block=True, timeout=int(WAIT_S * 1000))


def _open_client() -> Client:
    return _Caller()


def contender(name: str) -> Contender:
    """The variant of this name."""
    _, _, threads = name.partition("/")
    count = int(threads or BEST_THREADS)
    argv = [program("dramatiq"), "benchmarks.contenders.dramatiq_", "--processes", "1", "--threads", str(count)]
    return Contender(name=name, settings=f"{count} threads", worker_argv=argv, open_client=_open_client)
