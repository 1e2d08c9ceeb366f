"""Taskiq with taskiq-redis. Variants: `taskiq/BROKER/WAIT`.

BROKER is `list` (a Redis list, no acknowledgement) or `stream` (a Redis stream, acknowledged); WAIT is `ordered` (await
one result after the other) or `together` (await all at once). Taskiq has no wake-up: every waiter polls.
"""

import asyncio
import os
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from taskiq import AsyncBroker, AsyncTaskiqTask
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.contenders.contract import NAME_VARIABLE, WAIT_S, Client, Contender, program, redis_url

BEST = "taskiq/list/ordered"
POLL_TOGETHER_S = 0.05
POLL_ONE_S = 0.001

T = TypeVar("T")


def _variant(name: str) -> tuple[str, str]:
    _, kind, wait = (name if name.count("/") == 2 else BEST).split("/")
    return kind, wait


def _make_broker(kind: str, url: str) -> AsyncBroker:
    results: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend(url, result_ex_time=3600)
    plain = RedisStreamBroker(url) if kind == "stream" else ListQueueBroker(url)
    return plain.with_result_backend(results)


KIND, WAIT = _variant(os.environ.get(NAME_VARIABLE, BEST))
broker = _make_broker(KIND, redis_url())


@broker.task(task_name="bench.echo")
async def echo(text: str) -> str:
    """Give the text back."""
    return text


class _Caller:
    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._run(broker.startup())

    def gather(self, texts: Sequence[str]) -> list[str]:
        return self._run(_gather(texts))

    def round_trips(self, texts: Sequence[str]) -> list[tuple[float, str]]:
        return self._run(_round_trips(texts))

    def close(self) -> None:
        self._run(broker.shutdown())
        self._runner.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


async def _gather(texts: Sequence[str]) -> list[str]:
    pending = await asyncio.gather(*(echo.kiq(text) for text in texts))
    if WAIT == "together":
        return list(await asyncio.gather(*(_result(one, POLL_TOGETHER_S) for one in pending)))
    return [await _result(one, POLL_ONE_S) for one in pending]


async def _round_trips(texts: Sequence[str]) -> list[tuple[float, str]]:
    trips: list[tuple[float, str]] = []
    for text in texts:
        start = time.perf_counter()
        answer = await _result(await echo.kiq(text), POLL_ONE_S)
        trips.append((time.perf_counter() - start, answer))
    return trips


async def _result(pending: AsyncTaskiqTask[str], poll_s: float) -> str:
    answer = await pending.wait_result(check_interval=poll_s, timeout=WAIT_S)
    answer.raise_for_error()
    return answer.return_value


def _open_client() -> Client:
    return _Caller()


def contender(name: str) -> Contender:
    """The variant of this name."""
    kind, wait = _variant(name)
    argv = [program("taskiq"), "worker", "benchmarks.contenders.taskiq_:broker", "--workers", "1"]
    argv += ["--log-level", "WARNING"]
    settings = f"{kind} broker, 100 async slots, client polls {wait}"
    return Contender(name=name, settings=settings, worker_argv=argv, open_client=_open_client)
