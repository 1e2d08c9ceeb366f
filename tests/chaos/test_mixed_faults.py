"""Everything at once: calls of every effect while workers, beats and the broker are killed, frozen, cut and filled.

The seed is printed; `CHAOS_SEED` and `CHAOS_SECONDS` repeat or lengthen a run (`make soak`). Pauses here are what is
tested (how long a thing stays frozen), not waits for something to happen.
"""

import asyncio
import os
import time

from routing.front import Caller, Front
from tests.chaos.history import History, ids_without_end
from tests.chaos.swarm import Swarm
from tests.servers.stack import Stack
from tests.servers.waiting import until_async
from toolswarm.errors import ToolswarmError, Unavailable
from toolswarm.ids import new_call_id
from toolswarm.messages import SubmitBody

ME = Caller()
SECONDS = float(os.environ.get("CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("CHAOS_SEED", "20260731"))
CALLERS = 40
MIX = ("read", "read", "idempotent", "verifiable", "once", "flaky")


class Callers:
    """Submit calls one after the other, each in its own task, and write the history."""

    def __init__(self, front: Front, history: History) -> None:
        self._front = front
        self._history = history
        self.stopped = False

    async def run(self, number: int) -> None:
        count = 0
        while not self.stopped:
            await self._call(MIX[(number + count) % len(MIX)], seconds=0.02 + 0.03 * (count % 4))
            count += 1

    async def poison(self) -> None:
        await self._call("poison", seconds=0.0)

    async def _call(self, operation: str, *, seconds: float) -> None:
        body = SubmitBody(operation=f"chaos.{operation}", arguments={"seconds": seconds}, idempotency_key=new_call_id())
        while True:
            try:
                submitted = await self._front.submit(body, ME)
                break
            except Unavailable:  # asked again with the same key: at most one call comes of it
                self._history.refused += 1
                await asyncio.sleep(0.1)
        self._history.accepted(submitted.id, operation, time.monotonic())
        await self._result(submitted.id, 20.0)

    async def _result(self, call_id: str, wait_s: float) -> None:
        try:
            result = await self._front.result(call_id, ME, wait_s)
        except Unavailable:
            return  # asked for again in the end
        if result.status.terminal:
            self._history.told(result, time.monotonic())

    async def ask_again(self) -> bool:
        """Ask for the ends that were not told yet; whether all are known now."""
        for call_id in ids_without_end(self._history.calls.items()):
            try:
                await self._result(call_id, 0.5)
            except ToolswarmError as error:
                raise AssertionError(f"{call_id}: {error}") from error
        return not ids_without_end(self._history.calls.items())


async def test_no_call_is_lost_none_repeated_and_every_end_is_told_under_mixed_faults(stack: Stack) -> None:
    stack.settings["TOOLSWARM_TOOLS__MODULES"] = '["tests.servers.chaos_tool"]'
    stack.settings["TOOLSWARM_WORKERS__CHAOS__CONCURRENCY"] = "16"
    print(f"CHAOS_SEED={SEED} CHAOS_SECONDS={SECONDS:g}")
    swarm, history = Swarm(stack, SEED), History()
    swarm.start()
    front = await stack.front()
    callers = Callers(front, history)
    tasks = [asyncio.create_task(callers.run(number)) for number in range(CALLERS)]
    tasks.append(asyncio.create_task(callers.poison()))

    await swarm.disturb(SECONDS)
    callers.stopped = True
    await asyncio.gather(*tasks)

    async def all_told() -> bool:
        swarm.supervise()
        return await callers.ask_again()

    try:
        await until_async(all_told, "every caller was told an end", within_s=60)
    except AssertionError:
        print("faults:", swarm.faults_done)
        print(swarm.describe(ids_without_end(history.calls.items())[:5]))
        print(swarm.logs())
        raise
    verdict = history.check(stack.marks)
    await front.close()
    print(verdict)
    print("faults:", swarm.faults_done)
    assert verdict.lost == []
    assert verdict.repeated == []
    assert verdict.without_effect == []
    assert verdict.wrong == []
    assert len(verdict.failed_safe) <= verdict.accepted / 1000, "\n".join(verdict.failed_safe)
    assert verdict.states["unknown"] < verdict.accepted / 20
