"""The outermost layer of every request: errors become problems, and one access line says what came of it.

The line has the template of the path, never the path itself, and neither arguments nor keys.
"""

import asyncio
import logging
import secrets
import time

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.body import CallerGone
from gateway.drain import Drain
from gateway.errors import InternalError, problem_response
from toolswarm.errors import ToolswarmError, Unavailable

TEMPLATE = "toolswarm.template"
"""Where the matched resource leaves its path template in the scope."""

_CALLER_GONE = 499  # never sent; the usual sign in access logs for a caller that did not stay for the answer

_log = logging.getLogger("gateway")
_access_log = logging.getLogger("gateway.access")


class Outermost:
    """Wraps the routes."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = _CALLER_GONE

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            problem = await self._run(scope, receive, noting)
            if problem is not None and status == _CALLER_GONE:  # else the answer has begun, and breaks off here
                await problem(scope, receive, noting)
        finally:
            level = logging.INFO if status < 400 else logging.WARNING
            if _access_log.isEnabledFor(level):
                template = scope.get(TEMPLATE, "-")
                duration_s = time.perf_counter() - started
                _access_log.log(level, "%s %s %d %.4f s", scope["method"], template, status, duration_s)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> Response | None:
        try:
            await self._app(scope, receive, send)
        except ToolswarmError as error:
            return problem_response(error)
        except CallerGone:
            return None
        except asyncio.CancelledError:
            # While draining it is the server that cancels what takes too long: its caller still gets an answer.
            if not self._drain.begun:
                raise
            return problem_response(Unavailable("the gateway is shutting down: send the request again"))
        except Exception:  # noqa: BLE001  # the outermost loop: nothing internal may reach the caller
            incident = secrets.token_hex(8)
            _log.exception("incident %s: %s %s failed", incident, scope["method"], scope.get(TEMPLATE, "-"))
            return problem_response(InternalError("the gateway failed; report the incident", incident=incident))
        return None
