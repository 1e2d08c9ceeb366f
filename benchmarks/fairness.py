"""`python -m benchmarks.fairness`: what 19 tenants notice when the 20th asks for 100 times as much.

One worker with 16 slots; each call takes 0.25 s. First all tenants ask alike, together for 80 % of the slots (calls
arrive at random, as in a Poisson process); then one of them asks for 100 times as much as before. The *wait* is the
time from accepted to begun. Plain Celery on Redis gets the same arrivals: one queue, first in first out.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.measure import BenchmarkFailed, percentile
from routing.front import Caller, Front
from tests.chaos.trial import TOOL
from tests.servers.celery_tool import make_app
from tests.servers.stack import Stack
from tests.servers.valkey import Valkey
from tests.servers.waiting import until
from toolswarm.messages import SubmitBody

RESULTS = Path(__file__).parent / "results"
SLOTS = 16
CALL_S = 0.25
BUSY = 0.8
"""So many of the slots are taken on average while all tenants ask alike."""
TENANTS = [f"tenant-{number}" for number in range(20)]
NOISY = TENANTS[0]
TIMES_MORE = 100
DRAIN_S = 180.0
Submit = Callable[[str], Awaitable[None]]


class Ours:
    """Submits for a tenant; what its calls waited is told in their results."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._open: list[tuple[str, Caller]] = []

    async def submit(self, tenant: str) -> None:
        caller = Caller(tenant)
        body = SubmitBody(operation="chaos.read", arguments={"seconds": CALL_S})
        submitted = await self._front.submit(body, caller)
        if tenant != NOISY:
            self._open.append((submitted.id, caller))

    async def waits_s(self) -> list[float]:
        """Of the quiet tenants' calls since the last time."""
        calls, self._open = self._open, []
        results = await asyncio.gather(*(self._front.result(call_id, caller, DRAIN_S) for call_id, caller in calls))
        waits = [result.meta.queued_s for result in results]
        known = [wait_s for wait_s in waits if wait_s is not None]
        if len(known) < len(waits):
            raise BenchmarkFailed(f"{len(waits) - len(known)} calls have not begun within {DRAIN_S:g} s")
        return known


class Celery:
    """The same with plain Celery: the task says how long it has waited."""

    def __init__(self, valkey: Valkey) -> None:
        self._app = make_app(valkey.tcp_url, "careful")
        self._threads = ThreadPoolExecutor(8)
        self._valkey = valkey
        self._open: list[str] = []

    async def submit(self, tenant: str) -> None:
        task_id = str(uuid.uuid4())

        def publish() -> None:
            self._app.send_task("chaos.wait_s", args=(time.time(), CALL_S), task_id=task_id)

        await asyncio.get_running_loop().run_in_executor(self._threads, publish)
        if tenant != NOISY:
            self._open.append(task_id)

    async def waits_s(self) -> list[float]:
        """Of the quiet tenants' calls since the last time."""
        names, self._open = [f"celery-task-meta-{task_id}" for task_id in self._open], []
        until_at = time.monotonic() + DRAIN_S
        with self._valkey.client() as connected:
            client: Any = connected
            while True:
                found = [json.loads(one) for one in client.mget(names) if one]
                if len(found) == len(names):
                    return [float(meta["result"]) for meta in found]
                if time.monotonic() > until_at:
                    raise BenchmarkFailed(f"{len(names) - len(found)} tasks have not ended within {DRAIN_S:g} s")
                await asyncio.sleep(0.5)


async def arrivals(submit: Submit, *, seconds: float, times_more: int, seed: int, busy: float) -> None:
    """Each tenant's calls, at random times that follow from the seed."""
    rate = busy * SLOTS / CALL_S / len(TENANTS)

    async def tenant_asks(tenant: str) -> None:
        chance = random.Random(f"{seed} {tenant}")
        at, began = 0.0, time.monotonic()
        running: set[asyncio.Task[None]] = set()
        while True:
            at += chance.expovariate(rate * (times_more if tenant == NOISY else 1))
            if at > seconds:
                break
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            running.add(asyncio.create_task(_awaited(submit(tenant))))
        await asyncio.gather(*running)

    await asyncio.gather(*(tenant_asks(tenant) for tenant in TENANTS))


async def _awaited(submitted: Awaitable[None]) -> None:
    await submitted


async def compare(system: Ours | Celery, *, seconds: float, seed: int, busy: float) -> dict[str, Any]:
    """The waits of the quiet tenants before and during the burst of the other one."""
    figures: dict[str, Any] = {}
    await arrivals(system.submit, seconds=3.0, times_more=1, seed=seed - 1, busy=busy)  # warms up
    await system.waits_s()
    for name, times_more in (("before", 1), ("during", TIMES_MORE)):
        await arrivals(system.submit, seconds=seconds, times_more=times_more, seed=seed, busy=busy)
        waits = await system.waits_s()
        figures[name] = {"calls": len(waits), "p50_s": percentile(waits, 50), "p99_s": percentile(waits, 99)}
    figures["ratio"] = figures["during"]["p99_s"] / figures["before"]["p99_s"]
    return figures


async def measure_ours(stack: Stack, *, seconds: float, seed: int, busy: float) -> dict[str, Any]:
    """One round of ours."""
    stack.settings |= TOOL | {"TOOLSWARM_WORKERS__CHAOS__CONCURRENCY": str(SLOTS)}
    stack.start_beat()
    stack.start_worker("chaos", "c1")
    front = await stack.front()
    try:
        return await compare(Ours(front), seconds=seconds, seed=seed, busy=busy)
    finally:
        await front.close()


async def measure_celery(stack: Stack, *, seconds: float, seed: int, busy: float) -> dict[str, Any]:
    """One round of plain Celery."""
    ready = stack.folder / "ready"
    stack.start(
        *("celery", "-A", "tests.servers.celery_tool", "worker", "--pool", "threads", "--concurrency", str(SLOTS)),
        settings={
            "CELERY_BROKER": stack.valkey.tcp_url,
            "CELERY_RESULTS": stack.valkey.tcp_url,
            "CELERY_VARIANT": "careful",
            "CELERY_READY_FILE": str(ready),
        },
    )
    until(ready.exists, "the worker is ready")
    return await compare(Celery(stack.valkey), seconds=seconds, seed=seed, busy=busy)


SYSTEMS = {"toolswarm": measure_ours, "celery": measure_celery}


def main(argv: Sequence[str]) -> int:
    """Measure both, so many rounds, and write the figures down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="before, and during the burst")
    parser.add_argument("--busy", type=float, default=BUSY, help="the part of the slots that all together need before")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    arguments = parser.parse_args(argv)
    rounds: list[dict[str, Any]] = []
    for seed in range(1, arguments.rounds + 1):
        for name in arguments.systems:
            valkey = Valkey(tcp=True)
            valkey.start()
            stack = Stack(valkey)
            try:
                measuring = SYSTEMS[name](stack, seconds=arguments.seconds, seed=seed, busy=arguments.busy)
                figures = asyncio.run(measuring)
            finally:
                stack.close()
                valkey.stop()
            rounds.append({"system": name, "seed": seed, "busy": arguments.busy, **figures})
            before, during = figures["before"]["p99_s"], figures["during"]["p99_s"]
            print(
                f"{name}: p99 wait of the others {before:.3f} s before, {during:.3f} s during: {figures['ratio']:.1f} x"
            )
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"fairness-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    report = {"at": time.time(), "processors": os.cpu_count(), "load_after": os.getloadavg()[0], "rounds": rounds}
    file.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
