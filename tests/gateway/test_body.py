"""Bodies that are too large, too deep, too slow or not what was asked for."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway import body as bodies
from tests.gateway.serving import KEY, Served, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_BYTES = 20_000


async def test_a_body_that_announces_its_size_is_refused_before_it_is_read(gateway: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"POST /v1/calls HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 1000000\r\n\r\n"

    writer.write(head.encode())  # and not one byte of the body
    status_line = await asyncio.wait_for(reader.readline(), 2)

    assert b" 413 " in status_line
    writer.close()


async def test_a_chunked_body_is_refused_when_it_grows_too_large(gateway: Served) -> None:
    sent_bytes = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent_bytes
        yield b'{"operation": "'
        while sent_bytes < 10 * LIMIT_BYTES:
            sent_bytes += 4000
            yield b"x" * 4000

    answer = await gateway.http.post("/v1/calls", content=endless())

    assert answer.status_code == 413
    assert answer.json()["details"]["limit_bytes"] == LIMIT_BYTES
    assert answer.json()["details"]["size_bytes"] > LIMIT_BYTES
    assert gateway.front.submitted == []


async def test_a_chunked_body_within_the_limit_is_taken(gateway: Served) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for part in (b'{"operation": ', b'"echo.say", "argu', b'ments": {"text": "hi"}}'):
            yield part

    answer = await gateway.http.post("/v1/calls", content=parts(), headers={"Prefer": "wait=2"})

    assert answer.json()["value"] == "hi"


async def test_the_limit_itself_is_allowed(gateway: Served) -> None:
    frame = b'{"operation": "echo.say", "arguments": {"text": "%s"}}'
    text = b"x" * (LIMIT_BYTES - len(frame) + 2)

    full = await gateway.http.post("/v1/calls", content=frame % text)
    over = await gateway.http.post("/v1/calls", content=frame % (text + b"x"))

    assert (full.status_code, over.status_code) == (202, 413)


async def test_a_connection_is_good_for_the_next_request_after_a_refusal(gateway: Served) -> None:
    refused = await gateway.http.post("/v1/calls", content=b"x" * (LIMIT_BYTES + 1))
    taken = await gateway.http.post("/v1/calls", json={"operation": "echo.say"})

    assert (refused.status_code, taken.status_code) == (413, 202)


async def test_a_body_that_trickles_is_not_waited_for(gateway: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"POST /v1/calls HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 50\r\n\r\n"

    writer.write(head.encode() + b'{"operation')
    status_line = await asyncio.wait_for(reader.readline(), 2)

    assert b" 408 " in status_line
    writer.close()


async def test_a_caller_that_leaves_in_the_middle_of_its_body_harms_nobody(
    gateway: Served, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"POST /v1/calls HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 50\r\n\r\n"

    writer.write(head.encode() + b'{"operation')
    await writer.drain()
    writer.close()
    await until(lambda: "POST /v1/calls 499" in caplog.text)

    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"", None),
        (b"{", None),
        (b"\xff", None),
        (b'{"operation": "\xff"}', None),
        (b'{"operation": NaN}', None),
        (b"[]", None),
        (b"{}", "operation"),
        (b'{"operation": 1}', "operation"),
        (b'{"operation": "echo.say", "tenant": "x"}', "tenant"),
        (b'{"operation": "echo.say", "arguments": []}', "arguments"),
        (b'{"operation": "echo.say", "context": {"repos": "x"}}', "context.repos"),
        (b'{"operation": "echo.say", "priority": "urgent"}', "priority"),
        (b'{"operation": "echo.say", "deadline": "tomorrow"}', "deadline"),
    ],
)
async def test_a_malformed_body_is_a_400_that_names_the_field(
    gateway: Served, content: bytes, field: str | None
) -> None:
    answer = await gateway.http.post("/v1/calls", content=content)

    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_request"
    assert answer.json()["details"].get("field") == field
    assert gateway.front.submitted == []


@pytest.mark.parametrize("depth", [bodies.MAX_DEPTH, 500, 9_000])
async def test_a_body_nested_too_deeply_is_refused(gateway: Served, depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    single = b'{"operation": "echo.say", "arguments": {"text": ' + nested + b"}}"

    call = await gateway.http.post("/v1/calls", content=single)
    plain = await gateway.http.post("/tools/echo/say", content=b'{"text": ' + nested + b"}")
    batch = await gateway.http.post("/v1/calls:batch", content=b'{"calls": [' + single + b"]}")

    assert call.status_code == plain.status_code == 400
    assert "nested" in call.json()["detail"]
    assert batch.status_code == 400 or batch.json()["results"][0]["problem"]["status"] == 400
    assert gateway.front.submitted == []
