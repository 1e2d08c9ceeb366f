"""Callers of every effect at once, each with one call after the other, who write down what they were told."""

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from routing.front import Caller, Front
from tests.chaos.history import History
from tests.servers.waiting import until_async
from toolswarm import AsyncClient
from toolswarm.errors import GatewayUnreachable, Unavailable, WaitTimedOut
from toolswarm.ids import new_call_id
from toolswarm.messages import SubmitBody, ToolResult

ME = Caller()
MIX = ("read", "read", "idempotent", "verifiable", "once", "flaky")
_ASK_S = 20.0
"""How long a caller waits for one end before it makes its next call; the end is waited for beside it."""
_AGAIN_S = 0.1


class Refused(Exception):
    """Nothing was accepted: to be asked again, with the same key."""


class Calls(Protocol):
    """One way to submit calls and to learn what became of them."""

    async def submit(self, operation: str, *, seconds: float, key: str) -> str:
        """The id of the call.

        Raises:
            Refused: there is none, or nobody can tell.
        """
        ...

    async def result(self, call_id: str, wait_s: float) -> ToolResult | None:
        """What is known of it, within `wait_s`; None when nobody can tell now."""
        ...


class FrontCalls:
    """Through a front in this process."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def submit(self, operation: str, *, seconds: float, key: str) -> str:
        body = SubmitBody(operation=f"chaos.{operation}", arguments={"seconds": seconds}, idempotency_key=key)
        try:
            return (await self._front.submit(body, ME)).id
        except Unavailable as error:
            raise Refused from error

    async def result(self, call_id: str, wait_s: float) -> ToolResult | None:
        try:
            return await self._front.result(call_id, ME, wait_s)
        except Unavailable:
            return None


class HttpCalls:
    """Over HTTP, with the client that everybody uses."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def submit(self, operation: str, *, seconds: float, key: str) -> str:
        with_key = self._client.options(idempotency_key=key)
        try:
            return (await with_key.submit(f"chaos.{operation}", seconds=seconds)).id
        except (Unavailable, GatewayUnreachable) as error:
            raise Refused from error

    async def result(self, call_id: str, wait_s: float) -> ToolResult | None:
        try:
            return await self._client.handle(call_id).outcome(wait_s)
        except (Unavailable, GatewayUnreachable, WaitTimedOut):
            return None


class Load:
    """Callers that go on until they are told to stop."""

    def __init__(self, ways: Sequence[Calls], history: History, *, callers: int) -> None:
        self.history = history
        self._ways = ways
        self._callers = callers
        self._tasks: list[asyncio.Task[None]] = []
        self._following: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._given_up = False

    def start(self) -> None:
        for number in range(self._callers):
            self._tasks.append(asyncio.create_task(self._forever(number)))

    async def call(self, operation: str, *, seconds: float = 0.0, way: int = 0) -> str:
        """One call, until its caller was told its end or has had enough; its id."""
        chosen, key = self._ways[way], new_call_id()
        while not self._given_up:
            try:
                call_id = await chosen.submit(operation, seconds=seconds, key=key)
                break
            except Refused:  # asked again with the same key: at most one call comes of it
                self.history.refuse(time.monotonic())
                await asyncio.sleep(_AGAIN_S)
        else:
            raise asyncio.CancelledError
        self.history.accepted(call_id, operation, time.monotonic())
        following = asyncio.create_task(self._follow(chosen, call_id))
        self._following.add(following)
        following.add_done_callback(self._told)
        await asyncio.wait({following}, timeout=_ASK_S)
        return call_id

    def call_meanwhile(self, operation: str, *, seconds: float = 0.0) -> None:
        """One call beside the others."""

        async def call() -> None:
            await self.call(operation, seconds=seconds)

        self._tasks.append(asyncio.create_task(call()))

    async def succeed(self, count: int, *, within_s: float = 30.0) -> None:
        """Return when so many more calls have succeeded."""
        goal = self.history.successes + count

        async def reached() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()
            return self.history.successes >= goal

        await until_async(reached, f"{count} more calls succeeded", within_s)

    async def stop(self) -> None:
        """Let each caller end the call that it is at."""
        self._stopped = True
        await asyncio.gather(*self._tasks)

    async def all_told(self) -> bool:
        """Whether every end is known now; the waiting for the others goes on."""
        for following in self._following:
            if following.done():
                following.result()
        return not self.history.without_end()

    async def give_up(self) -> None:
        """Make no more calls, and wait no longer for any end; what callers met is not told."""
        self._stopped = self._given_up = True  # a cancellation may be lost in a client that takes it for its timeout
        left = {*self._tasks, *self._following}
        for one in left:
            one.cancel()
        if left:
            await asyncio.wait(left, timeout=_ASK_S)

    async def _forever(self, number: int) -> None:
        count = 0
        while not self._stopped:
            operation = MIX[(number + count) % len(MIX)]
            await self.call(operation, seconds=0.02 + 0.03 * (count % 4), way=number % len(self._ways))
            count += 1

    def _told(self, following: asyncio.Task[None]) -> None:
        if following.cancelled() or following.exception() is None:
            self._following.discard(following)  # the others are kept: `all_told` raises what they met

    async def _follow(self, way: Calls, call_id: str) -> None:
        while not self._given_up:
            result = await way.result(call_id, _ASK_S)
            if result is not None and result.status.terminal:
                self.history.told(result, time.monotonic())
                return
            await asyncio.sleep(_AGAIN_S)
