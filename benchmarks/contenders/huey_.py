"""Huey on Redis, with a wake-up for the waiting caller. Variants: `huey/THREADS`."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import huey as huey_package  # type: ignore[import-untyped]  # huey ships no types

from benchmarks.contenders.contract import WAIT_S, Client, Contender, program, redis_url

BEST_THREADS = 4


class _Pending(Protocol):
    def get(self, *, blocking: bool, timeout: float) -> str: ...


class _Storage(Protocol):
    @property
    def conn(self) -> Any: ...


class _Huey(Protocol):
    storage: _Storage

    def task(self, *, name: str) -> Callable[[Callable[[str], str]], Callable[[str], _Pending]]: ...


huey = cast(_Huey, cast(Any, huey_package).RedisHuey("bench", url=redis_url(), notify_result=True))


@huey.task(name="bench_echo")
def echo(text: str) -> str:
    """Give the text back."""
    return text


class _Caller:
    def gather(self, texts: Sequence[str]) -> list[str]:
        return [_result(pending) for pending in [echo(text) for text in texts]]

    def round_trips(self, texts: Sequence[str]) -> list[tuple[float, str]]:
        trips: list[tuple[float, str]] = []
        for text in texts:
            start = time.perf_counter()
            answer = _result(echo(text))
            trips.append((time.perf_counter() - start, answer))
        return trips

    def close(self) -> None:
        huey.storage.conn.close()


def _result(pending: _Pending) -> str:
    return pending.get(blocking=True, timeout=WAIT_S)


def _open_client() -> Client:
    return _Caller()


def contender(name: str) -> Contender:
    """The variant of this name."""
    _, _, threads = name.partition("/")
    count = int(threads or BEST_THREADS)
    argv = [program("huey_consumer"), "benchmarks.contenders.huey_.huey", "--workers", str(count)]
    argv += ["--worker-type", "thread", "--no-periodic", "--quiet"]
    return Contender(
        name=name, settings=f"{count} thread(s), notify_result", worker_argv=argv, open_client=_open_client
    )
