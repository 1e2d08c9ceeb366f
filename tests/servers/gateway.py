"""A real gateway process in front of a stack."""

import socket
import subprocess

import httpx

from tests.servers.stack import Stack
from tests.servers.waiting import until


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start_gateway(stack: Stack, **settings: str) -> str:
    """Start it, and return its URL when calls can be accepted."""
    return start_gateway_process(stack, **settings)[1]


def start_gateway_process(stack: Stack, **settings: str) -> "tuple[subprocess.Popen[bytes], str]":
    """Start it, and return it with its URL when calls can be accepted."""
    port = free_port()
    process = stack.start("gateway", settings={**settings, "TOOLSWARM_GATEWAY__PORT": str(port)})
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert process.poll() is None, stack.log("gateway")
        try:
            return httpx.get(f"{url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    until(is_ready, "the gateway is ready")
    return process, url
