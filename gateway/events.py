"""A call's states as server-sent events: one `state` event each, an `output` event for what it says, and an end."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.drain import Drain
from gateway.errors import problem_of
from toolswarm.errors import ToolswarmError
from toolswarm.messages import CallEvent

KEEP_ALIVE_S = 15.0
"""Proxies close connections that were silent for 30 s or 60 s."""

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]


class EventStream:
    """The answer that relays events until the call has ended, the caller has gone or the gateway drains.

    A caller whose stream ends without a terminal state asks again: the state lies in the ledger, not here.
    """

    def __init__(self, events: AsyncIterator[CallEvent], drain: Drain, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        self._events = events
        self._drain = drain
        self._keep_alive_s = keep_alive_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await _write(send, b": connected\n\n")
        gone = asyncio.create_task(_until_gone(receive))
        try:
            async with self._drain.bounded(None):
                await self._relay(gone, send)
        except TimeoutError:
            await _write(send, b": draining\n\n")
        except ToolswarmError as error:
            await _write(send, b"event: error\ndata: " + msgspec.json.encode(problem_of(error), enc_hook=str) + b"\n\n")
        finally:
            gone.cancel()
            close = getattr(self._events, "aclose", None)  # generators have one, and hold a subscription
            if close is not None:
                await close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _relay(self, gone: asyncio.Task[None], send: Send) -> None:
        coming = asyncio.create_task(self._next())
        try:
            while True:
                done, _ = await asyncio.wait({coming, gone}, timeout=self._keep_alive_s, return_when="FIRST_COMPLETED")
                if gone in done:
                    return
                if coming not in done:
                    await _write(send, b": keep-alive\n\n")
                    continue
                event = coming.result()
                if event is None:
                    return
                name = b"state" if event.output is None else b"output"
                await _write(send, b"event: " + name + b"\ndata: " + msgspec.json.encode(event, enc_hook=str) + b"\n\n")
                if event.state.terminal:
                    return
                coming = asyncio.create_task(self._next())
        finally:
            # The iterator must have stopped before it may be closed.
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    async def _next(self) -> CallEvent | None:
        return await anext(self._events, None)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _write(send: Send, part: bytes) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})
