"""`python -m gateway`: the gateway as a process. Exit codes: 0 drained, 2 not configured, 98 the port is busy."""

import asyncio
import logging
import os
import signal
import socket
import sys
from types import FrameType

from gateway.app import make_app
from gateway.authenticate import Authenticator
from gateway.drain import Drain
from gateway.server import PortBusy, Server, listen
from routing.front import Front
from store.configuration import Configuration, load
from store.connection import Broker
from store.mcp_records import McpRecords
from toolswarm.errors import ConfigurationError

EXIT_NOT_CONFIGURED = 2
EXIT_PORT_BUSY = 98  # EADDRINUSE: whoever started us tries the next port


def main() -> int:
    """Run until told to stop; returns the exit code."""
    # uvicorn raises the signal again after its drain; then, as before it starts, leaving is all there is to do.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        configuration = load(os.environ)
        listener = listen(configuration.gateway.host, configuration.gateway.port)
        asyncio.run(_serve(configuration, listener))
    except PortBusy as error:
        print(f"gateway: {error}", file=sys.stderr)
        return EXIT_PORT_BUSY
    except ConfigurationError as error:
        print(f"gateway: {error.message}", file=sys.stderr)
        return EXIT_NOT_CONFIGURED
    return 0


async def _serve(configuration: Configuration, listener: socket.socket) -> None:
    # Before anything is opened: without a key there is nothing to serve.
    Authenticator(configuration.gateway.api_key, configuration.gateway.operator_key)
    drain = Drain()
    front = await Front.open(configuration)
    store = configuration.store
    broker = Broker(store.broker_url, timeout_s=configuration.gateway.broker_timeout_s)
    records = McpRecords(broker, retention_s=store.retention_s, call_deadline_s=store.call_deadline_s)
    try:
        app = make_app(front, configuration.gateway, drain, mcp=configuration.mcp, records=records)
        await Server(app, drain).serve(sockets=[listener])
    finally:
        await records.close()
        await front.close()


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
