"""uvicorn, set up for the gateway: it listens before anything else is started, and its shutdown ends the long waits."""

import errno
import logging
import socket
import sys

import uvicorn
from starlette.types import ASGIApp

from gateway.drain import Drain
from toolswarm.errors import ConfigurationError

BACKLOG = 2048
"""Connections that may wait to be accepted: a burst of callers is not refused."""
KEEP_ALIVE_S = 75
"""Longer than the 60 s after which usual proxies drop idle connections, so that they do it and no request gets lost."""
GRACE_S = 1
"""What requests that do not wait for a result may still take after the drain has begun."""


class PortBusy(Exception):
    """Another process listens on the configured address."""


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, before anything costly is started.

    Raises:
        PortBusy: the port is taken.
        ConfigurationError: the address is not one of this machine, or the port may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortBusy(f"port {port} of {host} is in use") from error
        message = f"gateway.host, gateway.port: cannot listen on {host} port {port}: {error.strerror or error}"
        raise ConfigurationError(message) from error
    # Connections inherit it. asyncio sets it only on sockets whose protocol number is known, which create_server leaves
    # 0; without it the body of an answer waits 40 ms for the caller's delayed acknowledgement of the head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class Server(uvicorn.Server):
    """A uvicorn server whose drain begins as soon as it is told to stop."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                http="httptools",
                ws="none",
                lifespan="on",
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=GRACE_S,
                log_config=None,
                access_log=False,
                server_header=False,
            )
        )
        # Its access line has the path and the query; without handlers only, any that is added would make it speak.
        logging.getLogger("uvicorn.access").disabled = True
        self.drain = drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say where."""
        await super().startup(sockets)
        for one in sockets or ():
            host, port = one.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"gateway: listening on http://{shown}:{port}", file=sys.stderr, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the long waits, then let uvicorn finish the requests and close."""
        self.drain.begin()
        await super().shutdown(sockets)
