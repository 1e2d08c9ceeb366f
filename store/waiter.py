"""One waiter per process, for any number of calls: it hears of ends over one pub/sub channel, and reads when in doubt.

A wake-up may be lost (pub/sub promises nothing): calls that somebody waits for are read from the ledger at growing
intervals, so a lost one costs milliseconds, never the result. A record that has vanished while somebody waited (the
broker lost its last second) is reported as `unknown`: whether the call ran cannot be told.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import msgspec
from redis.exceptions import RedisError

from store import keys
from store.background import Background
from store.connection import open_connection
from store.ledger import Ledger, decode_result
from toolswarm.errors import BrokerUnavailable
from toolswarm.messages import CallEvent, ErrorInfo, ToolResult
from toolswarm.states import State

logger = logging.getLogger(__name__)

_FIRST_LOOK_S = 0.5
_LONGEST_LOOK_S = 2.0
_KEEP_UNCLAIMED_S = 5.0
_FORGET_S = 60.0
_MOST_UNREAD = 256
"""What an operation says is left out for a follower who is this much behind; states are not."""
_PING_EVERY_S = 3.0
_SILENT_AFTER_S = 10.0


class _Expected:
    """A call that somebody waits for or may soon ask for."""

    __slots__ = ("ended", "heard_at", "listeners", "look_at", "pause_s", "result", "tenant", "waiting")

    def __init__(self, tenant: str, now: float) -> None:
        self.tenant = tenant
        self.result: ToolResult | None = None
        self.ended = asyncio.Event()
        self.waiting = 0
        self.heard_at = now
        self.pause_s = _FIRST_LOOK_S
        self.look_at = now + _FIRST_LOOK_S
        self.listeners: list[asyncio.Queue[CallEvent]] = []


class Waiter:
    """Futures of results, woken by the ledger."""

    def __init__(self, url: str, ledger: Ledger, process: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.channel = keys.wake_channel(process)
        self._url = url
        self._ledger = ledger
        self._clock = clock
        self._expected: dict[str, _Expected] = {}
        self._loops = (
            Background(self._listen_forever, "waiter-listen"),
            Background(self._look_forever, "waiter-look"),
        )

    async def start(self) -> None:
        """Listen, in the background; bears being called twice."""
        for loop in self._loops:
            loop.start()

    async def stop(self) -> None:
        """Stop listening; bears being called twice."""
        await asyncio.gather(*(loop.stop() for loop in self._loops))

    def expect(self, call_id: str, tenant: str) -> None:
        """Keep the end of this call when it is heard, before anybody asks; say so before the call is submitted."""
        if call_id not in self._expected:
            self._expected[call_id] = _Expected(tenant, self._clock())

    def expects(self, call_id: str, tenant: str) -> bool:
        """Whether the channel hears of this call already."""
        entry = self._expected.get(call_id)
        return entry is not None and entry.tenant == tenant

    def forget(self, call_id: str) -> None:
        """The call was refused after all."""
        self._expected.pop(call_id, None)

    async def wait(self, call_id: str, timeout_s: float) -> ToolResult | None:
        """The result of an expected call, or None when `timeout_s` was over first."""
        entry = self._expected[call_id]
        entry.waiting += 1
        entry.look_at = min(entry.look_at, self._clock() + entry.pause_s)
        try:
            async with asyncio.timeout(timeout_s):
                await entry.ended.wait()
        except TimeoutError:
            return None
        finally:
            entry.waiting -= 1
            if entry.result is not None and not entry.waiting:
                self._expected.pop(call_id, None)
        return entry.result

    async def events(self, call_id: str) -> AsyncIterator[CallEvent]:
        """The changes of an expected call that the channel hears of, ending with the terminal one."""
        entry = self._expected[call_id]
        queue: asyncio.Queue[CallEvent] = asyncio.Queue()
        entry.listeners.append(queue)
        entry.waiting += 1
        try:
            if entry.result is not None:
                yield CallEvent(id=call_id, state=entry.result.status, at=time.time(), result=entry.result)
                return
            while True:
                event = await queue.get()
                yield event
                if event.state.terminal:
                    return
        finally:
            entry.waiting -= 1
            entry.listeners.remove(queue)

    # -- hearing ---------------------------------------------------------------------------------------------

    async def _listen_forever(self) -> None:
        pause_s = 0.05
        while True:
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError) as error:
                logger.warning("the wake channel was lost (%s): listening again", type(error).__name__)
            await asyncio.sleep(pause_s)
            pause_s = min(1.0, pause_s * 2)

    async def _listen(self) -> None:
        connection = open_connection(self._url, 5.0)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            await connection.send_command("SUBSCRIBE", self.channel)
            await connection.read_response(timeout=5.0)
            self._look_at_all_now()  # what ended while nobody listened
            heard_at = pinged_at = self._clock()
            while True:
                try:
                    reply = await cast("Any", connection).read_response(timeout=1.0, disconnect_on_error=False)
                except TimeoutError:
                    reply = None
                except RedisError as error:
                    if "Timeout" not in type(error).__name__:
                        raise
                    reply = None
                now = self._clock()
                if reply is not None:
                    heard_at = now
                    if reply[0] == b"message":
                        self._hear(reply[2])
                    continue
                if now - heard_at > _SILENT_AFTER_S:
                    raise TimeoutError("the wake channel is silent")
                if now - pinged_at > _PING_EVERY_S:
                    pinged_at = now
                    await connection.send_command("PING")
        finally:
            await connection.disconnect(nowait=True)

    def _hear(self, news: bytes) -> None:
        call_id, state, at, result = news.split(b"\n", 3)
        entry = self._expected.get(call_id.decode())
        if entry is None:
            return
        if state.endswith(b"!"):
            self._said(entry, CallEvent(id=call_id.decode(), state=State(state[:-1].decode()), at=float(at)), result)
            return
        self._settle(call_id.decode(), entry, State(state.decode()), float(at), decode_result(result))

    def _said(self, entry: _Expected, event: CallEvent, output: bytes) -> None:
        if entry.listeners and entry.result is None:
            said = msgspec.structs.replace(event, output=msgspec.json.decode(output, type=dict[str, Any]))
            for queue in entry.listeners:
                if queue.qsize() < _MOST_UNREAD:
                    queue.put_nowait(said)

    def _settle(self, call_id: str, entry: _Expected, state: State, at: float, result: ToolResult | None) -> None:
        if entry.result is not None:
            return
        entry.heard_at = self._clock()
        event = CallEvent(id=call_id, state=state, at=at, result=result)
        for queue in entry.listeners:
            queue.put_nowait(event)
        if state.terminal:
            entry.result = result
            entry.ended.set()

    # -- looking ---------------------------------------------------------------------------------------------

    def _look_at_all_now(self) -> None:
        now = self._clock()
        for entry in self._expected.values():
            entry.look_at = min(entry.look_at, now)

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            try:
                await self.run_once(self._clock())
            except (BrokerUnavailable, RedisError) as error:
                logger.debug("cannot look at calls now: %s", error)
            except msgspec.DecodeError:
                logger.exception("a stored result cannot be read")

    async def run_once(self, now: float) -> None:
        """Read what is overdue, and let go of what nobody came for."""
        due: list[str] = []
        for call_id, entry in list(self._expected.items()):
            if entry.waiting and entry.result is None and entry.look_at <= now:
                entry.pause_s = min(_LONGEST_LOOK_S, entry.pause_s * 1.5)
                entry.look_at = now + entry.pause_s
                due.append(call_id)
            elif not entry.waiting:
                keep_s = _FORGET_S if entry.result is None else _KEEP_UNCLAIMED_S
                if now - entry.heard_at > keep_s:
                    del self._expected[call_id]
        answers = await asyncio.gather(*(self._ledger.read_result(call_id) for call_id in due))
        for call_id, (exists, result) in zip(due, answers, strict=True):
            found = self._expected.get(call_id)
            if found is None:
                continue
            if not exists:
                result = _vanished(call_id)
            if result is not None:
                self._settle(call_id, found, result.status, time.time(), result)


def _vanished(call_id: str) -> ToolResult:
    return ToolResult(
        id=call_id,
        status=State.UNKNOWN,
        error=ErrorInfo(
            code="record_lost",
            message="the ledger lost this call's record while it was waited for: look before you repeat it",
        ),
    )
