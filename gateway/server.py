"""uvicorn, set up for the gateway: it listens before anything else is started, and its shutdown ends the long waits."""

import errno
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
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortBusy(f"port {port} of {host} is in use") from error
        message = f"gateway.host, gateway.port: cannot listen on {host} port {port}: {error.strerror or error}"
        raise ConfigurationError(message) from error


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
                access_log=False,  # its line has the query; ours has the template
                server_header=False,
            )
        )
        self._drain = drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say where."""
        await super().startup(sockets)
        for one in sockets or ():
            host, port = one.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"gateway: listening on http://{shown}:{port}", file=sys.stderr, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the long waits, then let uvicorn finish the requests and close."""
        self._drain.begin()
        await super().shutdown(sockets)
