"""The process: where it listens, how it drains, how it ends."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.server import PortBusy, listen
from tests.gateway.fake_front import FakeFront
from tests.gateway.serving import serving, until
from toolswarm.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
WAIT = {"operation": "echo.wait", "arguments": {"text": "hi"}}


async def test_a_drain_answers_long_waits_at_once_and_ends_within_two_seconds() -> None:
    front = FakeFront()
    async with serving(front) as served:
        waiting = [
            asyncio.create_task(served.http.post("/v1/calls", json=WAIT, headers={"Prefer": "wait=60"})),
            asyncio.create_task(served.http.post("/tools/echo/wait", json={"text": "hi"})),
            asyncio.create_task(
                served.http.post("/v1/calls:batch", json={"calls": [WAIT]}, headers={"Prefer": "wait=60"})
            ),
        ]
        await until(lambda: len(front.submitted) == 3)
        call_id = next(iter(front.calls))
        waiting.append(asyncio.create_task(served.http.get(f"/v1/calls/{call_id}?wait=60")))
        waiting.append(asyncio.create_task(served.http.get(f"/v1/calls/{call_id}/events")))
        await until(lambda: front.followers == 1)
        front.start(call_id)
        began = time.monotonic()

        served.server.should_exit = True
        submit, plain, batch, state, events = await asyncio.gather(*waiting)

        answered_s = time.monotonic() - began
    ended_s = time.monotonic() - began
    assert (submit.status_code, submit.json()["status"]) == (202, "running")
    assert (plain.status_code, plain.json()["status"]) == (202, "accepted")
    assert (batch.status_code, batch.json()["results"][0]["status"]) == (200, "accepted")
    assert (state.status_code, state.json()["status"]) == (200, "running")
    assert ": draining" in events.text
    assert answered_s < 1
    assert ended_s < 2
    assert front.closed


async def test_a_request_that_a_drain_cannot_wait_for_is_told_to_come_back() -> None:
    front = FakeFront()
    async with serving(front) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        authorization = served.http.headers["authorization"]
        head = f"POST /v1/calls HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Length: 90\r\n\r\n"
        writer.write(head.encode() + b'{"operation')
        await until(lambda: served.server.server_state.tasks)
        began = time.monotonic()

        served.server.should_exit = True
        answer = await asyncio.wait_for(reader.read(), 3)

        writer.close()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in answer
    assert time.monotonic() - began < 2


async def test_a_gateway_that_drains_is_not_ready_for_more() -> None:
    async with serving(FakeFront()) as served:
        before = await served.http.get("/readyz")
        served.server.drain.begin()
        served.server.drain.begin()

        after = await served.http.get("/readyz")
        alive = await served.http.get("/healthz")
        call = await served.http.post("/v1/calls", json=WAIT, headers={"Prefer": "wait=60"})

    assert (before.status_code, after.status_code, alive.status_code) == (200, 503, 200)
    assert call.status_code == 202


async def test_an_answer_does_not_wait_for_the_callers_acknowledgement() -> None:
    async with serving(FakeFront()) as served:
        await served.http.get("/healthz")
        [connection] = served.server.server_state.connections
        accepted: socket.socket = connection.transport.get_extra_info("socket")

        no_delay = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    assert no_delay


def test_a_busy_port_is_named() -> None:
    taken = listen("127.0.0.1", 0)
    port = taken.getsockname()[1]

    with taken, pytest.raises(PortBusy, match=f"port {port} of 127.0.0.1 is in use"):
        listen("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"gateway\.host"):
        listen("192.0.2.1", 0)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A configured gateway whose broker is not there."""
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "MCP_API_KEY": "canary-key",
        "TOOLSWARM_GATEWAY__BROKER_TIMEOUT_S": "0.3",
        "TOOLSWARM_SIGNING__PRIVATE_KEY_FILE": str(tmp_path / "key.pem"),
        "TOOLSWARM_STORE__BROKER_URL": f"unix://{tmp_path}/nobody.sock?db=0",
    }


def _run(environ: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gateway"], cwd=folder, env=environ, stderr=subprocess.PIPE, text=True
    )


def test_the_process_exits_with_98_when_its_port_is_busy(environ: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environ["TOOLSWARM_GATEWAY__PORT"] = str(taken.getsockname()[1])
        process = _run(environ, tmp_path)
        _, said = process.communicate(timeout=20)

    assert process.returncode == 98
    assert said == f"gateway: port {environ['TOOLSWARM_GATEWAY__PORT']} of 127.0.0.1 is in use\n"


@pytest.mark.parametrize(
    ("name", "value", "advice"), [("MCP_API_KEY", "", "MCP_API_KEY"), ("TOOLSWARM_GATEWAY__PROT", "1", "gateway.port")]
)
def test_the_process_exits_with_2_when_it_is_not_configured(
    environ: dict[str, str], tmp_path: Path, name: str, value: str, advice: str
) -> None:
    environ |= {"TOOLSWARM_GATEWAY__PORT": "0", name: value}

    process = _run(environ, tmp_path)
    _, said = process.communicate(timeout=20)

    assert process.returncode == 2
    assert advice in said
    assert len(said.splitlines()) == 1


@pytest.fixture
def process(environ: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = _run(environ | {"TOOLSWARM_GATEWAY__PORT": "0"}, tmp_path)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_lives_without_a_broker_and_leaves_quickly_when_told_to(
    process: subprocess.Popen[str], number: signal.Signals
) -> None:
    assert process.stderr is not None
    url = next(line for line in process.stderr if line.startswith("gateway: listening on ")).split()[-1]
    with httpx.Client(base_url=url, trust_env=False) as http:
        alive = http.get("/healthz")
        ready = http.get("/readyz")
        call = http.post("/v1/calls", json=WAIT, headers={"Authorization": "Bearer canary-key"})
    began = time.monotonic()

    process.send_signal(number)
    _, said = process.communicate(timeout=10)

    assert time.monotonic() - began < 2
    assert process.returncode == 0
    assert (alive.status_code, ready.status_code, call.status_code) == (200, 503, 503)
    assert call.json()["code"] == "broker_unavailable"
    assert "canary" not in said
    assert "Traceback" not in said
