"""A caller who leaves while he waits has his calls cancelled, when he asked so (`Prefer: cancel-on-disconnect`)."""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from starlette.requests import Request
from starlette.types import Receive

from gateway.body import CallerGone
from gateway.bounds import BoundedFront
from routing.front import Caller
from toolswarm.errors import ToolswarmError
from toolswarm.messages import ToolResult

Answer = TypeVar("Answer")

_log = logging.getLogger("gateway")


async def unless_gone(
    waiting: Awaitable[Answer],
    accepted: Sequence[ToolResult | ToolswarmError],
    *,
    front: BoundedFront,
    request: Request,
    caller: Caller,
) -> Answer:
    """The answer, while the caller waits for it; when he leaves, those accepted that have not ended are cancelled.

    The request's body must have been read.

    Raises:
        CallerGone: he left.
    """
    answer = asyncio.ensure_future(waiting)
    gone = asyncio.create_task(_until_gone(request.receive))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
    finally:
        gone.cancel()
        answer.cancel()
    calls = [one for one in accepted if isinstance(one, ToolResult) and not one.status.terminal]
    await asyncio.gather(*(_cancel(call.id, front, caller) for call in calls))
    raise CallerGone


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _cancel(call_id: str, front: BoundedFront, caller: Caller) -> None:
    try:
        await front.cancel(call_id, caller)
    except ToolswarmError as error:
        _log.warning("call %s goes on although its caller left: it could not be cancelled (%s)", call_id, error.code)
