"""One process of a burst: `python -m benchmarks.cache_contenders LIBRARY FOLDER NAME URL CALLS`.

It gets everything ready, waits for `go`, asks for the same value CALLS times at once through a cache library that is
told to let one of all processes make it, and prints how long each took. What makes the value takes UPSTREAM_S and
counts itself.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import redis
import redis.asyncio as async_redis

_redis: Any = redis  # its annotations are incomplete
_async_redis: Any = async_redis
UPSTREAM_S = 0.2
COUNTER = "bench:upstream"


def wait_for_go(folder: Path, name: str) -> None:
    (folder / f"{name}.ready").touch()
    while not (folder / "go").exists():
        time.sleep(0.002)


async def with_cashews(folder: Path, name: str, url: str, calls: int) -> list[float]:
    from cashews import Cache

    cache = Cache()
    cache.setup(url, client_side=False)
    counting: Any = _async_redis.Redis.from_url(url, protocol=2)

    @cache(ttl="60s", key="burst", lock=True)
    async def value() -> str:
        await counting.incr(COUNTER)
        await asyncio.sleep(UPSTREAM_S)
        return "value"

    await cache.get("warm up")
    await asyncio.to_thread(wait_for_go, folder, name)
    took_s = await asyncio.gather(*(_timed(value) for _ in range(calls)))
    await cache.close()
    await counting.aclose()
    return list(took_s)


async def _timed(value: Callable[[], Awaitable[str]]) -> float:
    began_at = time.perf_counter()
    await value()
    return time.perf_counter() - began_at


def with_dogpile(folder: Path, name: str, url: str, calls: int) -> list[float]:
    from dogpile.cache import make_region

    pool: Any = _redis.ConnectionPool.from_url(url, max_connections=400, protocol=2)
    region: Any = make_region().configure(
        "dogpile.cache.redis",
        expiration_time=60,
        arguments={"url": url, "distributed_lock": True, "connection_pool": pool, "thread_local_lock": False},
    )
    counting: Any = _redis.Redis.from_url(url, protocol=2)

    def make() -> str:
        counting.incr(COUNTER)
        time.sleep(UPSTREAM_S)
        return "value"

    took_s: list[float] = []
    begin = threading.Barrier(calls + 1)

    def ask() -> None:
        begin.wait()
        began_at = time.perf_counter()
        region.get_or_create("burst", make)
        took_s.append(time.perf_counter() - began_at)

    threads = [threading.Thread(target=ask) for _ in range(calls)]
    for thread in threads:
        thread.start()
    wait_for_go(folder, name)
    begin.wait()
    for thread in threads:
        thread.join()
    return took_s


def main(library: str, folder: Path, name: str, url: str, calls: int) -> list[float]:
    if library == "cashews":
        return asyncio.run(with_cashews(folder, name, url, calls))
    return with_dogpile(folder, name, url, calls)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))))
