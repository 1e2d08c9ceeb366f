"""What an operation says for a log (`run.tell({"log": "…", "level": "info"})`), for those clients that ask for it.

A client of 2026-07-28 asks with each call, in `_meta`; one that came before asks for its session (`logging/setLevel`).
MCP gives logging up: to everybody else it is said as progress.
"""

from collections import OrderedDict
from typing import Any, cast, get_args

import mcp_types as types
from mcp.server.context import ServerRequestContext

from gateway.json_values import is_object
from gateway.mcp.listing import MODERN

_LEVELS: tuple[types.LoggingLevel, ...] = get_args(types.LoggingLevel)
"""From `debug` to `emergency`."""
_SESSION_HEADER = "mcp-session-id"
_MOST_SESSIONS = 10_000

Context = ServerRequestContext[Any, Any]


class Logs:
    """Knows which session wants to hear what."""

    def __init__(self) -> None:
        self._levels: OrderedDict[str, types.LoggingLevel] = OrderedDict()

    async def set_level(self, context: Context, params: types.SetLevelRequestParams) -> types.EmptyResult:
        """`logging/setLevel`; without a session there is nothing to keep it for."""
        session = _session_of(context)
        if session is not None:
            self._levels[session] = params.level
            while len(self._levels) > _MOST_SESSIONS:
                self._levels.popitem(last=False)
        return types.EmptyResult()

    def log(self, context: Context, logger: str) -> "Log | None":
        """Where an operation's words go; None when the client did not ask for them."""
        if context.protocol_version >= MODERN:
            meta = (context.params or {}).get("_meta")
            level = meta.get(types.LOG_LEVEL_META_KEY) if is_object(meta) else None
        else:
            level = self._levels.get(_session_of(context) or "")
        return Log(context, logger, _LEVELS.index(level)) if level in _LEVELS else None


class Log:
    """Hands words on to the client of one call."""

    def __init__(self, context: Context, logger: str, least: int) -> None:
        self._context = context
        self._logger = logger
        self._least = least

    async def say(self, said: dict[str, Any]) -> None:
        """Send it, unless it is of a lower level than the client asked for."""
        level = cast("types.LoggingLevel", said.get("level") if said.get("level") in _LEVELS else "info")
        if _LEVELS.index(level) < self._least:
            return
        params = types.LoggingMessageNotificationParams(level=level, data=said["log"], logger=self._logger)
        message = types.LoggingMessageNotification(params=params)
        await self._context.session.send_notification(message, related_request_id=self._context.request_id)


def _session_of(context: Context) -> str | None:
    return None if context.request is None else context.request.headers.get(_SESSION_HEADER)
