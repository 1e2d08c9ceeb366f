"""Who may pass, and that the key shows up nowhere."""

import asyncio
import logging

import httpx
import pytest
from starlette.requests import Request

from gateway.app import make_app
from gateway.authenticate import Authenticator
from gateway.drain import Drain
from routing.front import Caller
from store.configuration import Gateway
from store.sections import Secret
from tests.gateway.fake_front import FakeFront
from tests.gateway.serving import KEY, Served
from toolswarm.errors import AuthenticationFailed, ConfigurationError

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLOSED = [
    ("POST", "/v1/calls"),
    ("POST", "/v1/calls:batch"),
    ("GET", "/v1/calls/x"),
    ("DELETE", "/v1/calls/x"),
    ("GET", "/v1/calls/x/events"),
    ("GET", "/v1/tools"),
    ("GET", "/v1/tools/echo"),
    ("POST", "/v1/route"),
    ("GET", "/v1/fallbacks"),
    ("PUT", "/v1/fallbacks/droplet"),
    ("DELETE", "/v1/fallbacks/droplet"),
    ("GET", "/v1/status"),
    ("POST", "/tools/echo/say"),
]


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer wrong",
        b"Bearer " + KEY.encode() + b"x",
        b"Basic " + KEY.encode(),
        KEY.encode(),
        b"Bearer \xff\xfe",
    ],
)
async def test_nothing_but_the_right_key_opens(gateway: Served, header: bytes | None) -> None:
    for method, path in CLOSED:
        stranger = httpx.Request(method, f"http://127.0.0.1:{gateway.port}{path}")
        if header is not None:
            stranger.headers = httpx.Headers([(b"authorization", header), (b"host", b"x")])

        answer = await gateway.http.send(stranger)

        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["type"] == "/problems/authentication-failed"
        assert KEY not in answer.text
    assert gateway.front.callers == []


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
async def test_health_readiness_and_the_document_are_open(gateway: Served, path: str) -> None:
    async with httpx.AsyncClient(base_url=gateway.http.base_url, trust_env=False) as stranger:
        got, head = await stranger.get(path), await stranger.head(path)

    assert (got.status_code, head.status_code, head.content) == (200, 200, b"")


async def test_the_body_of_a_stranger_is_not_read(gateway: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)

    writer.write(b"POST /v1/calls HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    status_line = await asyncio.wait_for(reader.readline(), 2)

    assert b" 401 " in status_line
    writer.close()


async def test_the_scheme_may_be_spelled_in_any_case(gateway: Served) -> None:
    answer = await gateway.http.get("/v1/tools", headers={"authorization": f"bEARER  {KEY}"})

    assert answer.status_code == 200


async def test_a_known_caller_is_handed_on(gateway: Served) -> None:
    await gateway.http.post("/v1/calls", json={"operation": "echo.say"})

    assert gateway.front.callers == [Caller("default", "default", operator=True)]


async def test_with_a_key_of_his_own_only_that_is_the_operators() -> None:
    guard = Authenticator(Secret(KEY), Secret("tsk_operator"))

    def caller(key: str) -> Caller:
        headers = [(b"authorization", f"Bearer {key}".encode())]
        return guard.caller(Request({"type": "http", "headers": headers}))

    assert (caller(KEY).operator, caller("tsk_operator").operator) == (False, True)
    with pytest.raises(AuthenticationFailed):
        caller("")


async def test_a_gateway_without_a_key_does_not_start() -> None:
    with pytest.raises(ConfigurationError, match="MCP_API_KEY"):
        make_app(FakeFront(), Gateway(), Drain())


async def test_neither_keys_nor_arguments_nor_queries_are_logged(
    gateway: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    say = {"operation": "echo.say", "arguments": {"text": "canary-argument"}}

    await gateway.http.post("/v1/calls", json=say, headers={"Prefer": "wait=2"})
    await gateway.http.post("/v1/calls", json=say, headers={"authorization": "Bearer canary-wrong"})
    await gateway.http.get("/v1/tools/canary-name?key=canary-query")
    await gateway.http.post("/v1/calls", content=b'{"operation": "canary-operation"')

    ours = [one.getMessage() for one in caplog.records if not one.name.startswith(("httpx", "httpcore", "asyncio"))]
    lines = [line for line in ours if "/v1/" in line]
    assert [line.rsplit(" ", 2)[0] for line in lines] == [
        "POST /v1/calls 200",
        "POST /v1/calls 401",
        "GET /v1/tools/{name} 404",
        "POST /v1/calls 400",
    ]
    assert not any("canary" in line or KEY in line for line in ours)
