"""`/v1/calls` and what lies below it."""

import asyncio
import json
import time
from typing import Any

import pytest

from tests.gateway.fake_front import BROKER_DOWN
from tests.gateway.serving import KEY, Served, until
from toolswarm.ids import new_call_id
from toolswarm.states import State

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAY = {"operation": "echo.say", "arguments": {"text": "hi"}}
WAIT = {"operation": "echo.wait", "arguments": {"text": "hi"}}


async def _accepted(gateway: Served) -> str:
    answer = await gateway.http.post("/v1/calls", json=WAIT)
    return str(answer.json()["id"])


async def test_a_call_that_ends_within_the_wait_is_answered_with_its_result(gateway: Served) -> None:
    answer = await gateway.http.post("/v1/calls", json=SAY, headers={"Prefer": "respond-async, wait=3"})

    assert answer.status_code == 200
    assert answer.json()["status"] == "succeeded"
    assert answer.json()["value"] == "hi"
    assert answer.headers["preference-applied"] == "wait=3"
    assert "location" not in answer.headers


async def test_a_call_that_failed_is_a_200_with_its_error(gateway: Served) -> None:
    answer = await gateway.http.post("/v1/calls", json={"operation": "echo.fail"}, headers={"Prefer": "wait=3"})

    assert answer.status_code == 200
    assert answer.json()["status"] == "failed"
    assert answer.json()["error"]["code"] == "path_refused"


async def test_without_a_preference_the_handle_comes_at_once(gateway: Served) -> None:
    answer = await gateway.http.post("/v1/calls", json=WAIT)

    assert answer.status_code == 202
    assert answer.json() == {"id": answer.json()["id"], "status": "accepted"}
    assert answer.headers["location"] == f"/v1/calls/{answer.json()['id']}"
    assert "preference-applied" not in answer.headers


async def test_a_call_that_runs_longer_than_the_wait_is_a_202_with_its_state(gateway: Served) -> None:
    answer = await gateway.http.post("/v1/calls", json=WAIT, headers={"Prefer": "wait=0.05"})

    assert answer.status_code == 202
    assert answer.headers["location"].endswith(answer.json()["id"])


async def test_the_wait_is_capped(gateway: Served) -> None:
    answer = await gateway.http.post("/v1/calls", json=SAY, headers={"Prefer": "wait=3600"})

    assert answer.headers["preference-applied"] == "wait=5"


@pytest.mark.parametrize("value", ["wait", "wait=", "wait=soon", "wait=-1", "wait=1e9", "wait=nan", "wait=٣"])
async def test_a_wait_that_is_no_number_is_refused(gateway: Served, value: str) -> None:
    answer = await gateway.http.post("/v1/calls", json=SAY, headers=[(b"Prefer", value.encode())])

    assert answer.status_code == 400
    assert answer.json()["details"]["field"] == "Prefer"
    assert gateway.front.submitted == []


async def test_the_first_of_two_preferences_counts(gateway: Served) -> None:
    headers = [("Prefer", 'handling=lenient; x="1", wait="2"; y'), ("Prefer", "wait=4")]

    answer = await gateway.http.post("/v1/calls", json=SAY, headers=headers)

    assert answer.headers["preference-applied"] == "wait=2"


async def _leave(gateway: Served, path: str, body: object, prefer: str) -> None:
    """Send a request and close the connection when its calls were accepted."""
    content = json.dumps(body).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nPrefer: {prefer}\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    await until(lambda: gateway.front.submitted)
    writer.close()
    await writer.wait_closed()


def _states(gateway: Served) -> list[State]:
    return [call.status for call in gateway.front.calls.values()]


async def test_a_caller_who_leaves_while_he_waits_has_the_call_cancelled_when_he_asked_so(gateway: Served) -> None:
    await _leave(gateway, "/v1/calls", WAIT, "wait=5, cancel-on-disconnect")

    await until(lambda: _states(gateway) == [State.CANCELLED])


async def test_who_leaves_a_batch_has_those_of_its_calls_cancelled_that_have_not_ended(gateway: Served) -> None:
    await _leave(gateway, "/v1/calls:batch", {"calls": [SAY, WAIT, WAIT]}, "Cancel-On-Disconnect; x=1, wait=5")

    await until(lambda: _states(gateway) == [State.SUCCEEDED, State.CANCELLED, State.CANCELLED])


async def test_the_call_of_a_caller_who_leaves_goes_on_when_he_did_not_ask_otherwise(gateway: Served) -> None:
    await _leave(gateway, "/v1/calls", WAIT, "wait=5")
    answer = await gateway.http.get("/healthz")

    assert answer.status_code == 200
    assert _states(gateway) == [State.ACCEPTED]


async def test_a_call_that_cannot_be_cancelled_for_a_caller_who_left_is_logged(
    gateway: Served, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.front.raising["cancel"] = BROKER_DOWN

    await _leave(gateway, "/v1/calls", WAIT, "wait=5, cancel-on-disconnect")

    (call_id,) = gateway.front.calls
    await until(lambda: f"call {call_id} goes on although its caller left" in caplog.text)


@pytest.mark.parametrize("prefer", ["cancel-on-disconnect", "wait=5, cancel-on-disconnect"])
async def test_who_leaves_the_endpoint_of_an_operation_has_the_call_cancelled_when_he_asked_so(
    gateway: Served, prefer: str
) -> None:
    await _leave(gateway, "/tools/echo/wait", {"text": "x"}, prefer)

    await until(lambda: _states(gateway) == [State.CANCELLED])


async def test_the_endpoint_of_an_operation_says_that_leaving_would_have_cancelled(gateway: Served) -> None:
    headers = {"Prefer": "cancel-on-disconnect"}

    answer = await gateway.http.post("/tools/echo/say", json={"text": "x"}, headers=headers)

    assert answer.headers["preference-applied"] == "cancel-on-disconnect"


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("wait=3, cancel-on-disconnect", "wait=3, cancel-on-disconnect"),
        ('CANCEL-ON-DISCONNECT="", wait=3', "wait=3, cancel-on-disconnect"),
        ("wait=0, cancel-on-disconnect", "wait=0"),
        ("cancel-on-disconnect", None),
    ],
)
async def test_it_is_said_whether_leaving_would_have_cancelled(
    gateway: Served, asked: str, granted: str | None
) -> None:
    answer = await gateway.http.post("/v1/calls", json=SAY, headers={"Prefer": asked})

    assert answer.headers.get("preference-applied") == granted


async def test_a_value_for_a_preference_that_takes_none_is_refused(gateway: Served) -> None:
    headers = {"Prefer": "wait=3, cancel-on-disconnect=no"}

    answer = await gateway.http.post("/v1/calls", json=SAY, headers=headers)

    assert (answer.status_code, answer.json()["details"]["field"]) == (400, "Prefer")


async def test_the_idempotency_key_of_the_header_makes_two_requests_one_call(gateway: Served) -> None:
    first = await gateway.http.post("/v1/calls", json=WAIT, headers={"Idempotency-Key": '"k-1"'})
    second = await gateway.http.post("/v1/calls", json={**WAIT, "idempotency_key": "k-1"})

    assert first.json()["id"] == second.json()["id"]
    assert len(gateway.front.submitted) == 1


async def test_two_different_idempotency_keys_are_refused(gateway: Served) -> None:
    answer = await gateway.http.post(
        "/v1/calls", json={**WAIT, "idempotency_key": "a"}, headers={"Idempotency-Key": "b"}
    )

    assert answer.status_code == 400
    assert answer.json()["details"]["field"] == "idempotency_key"
    assert gateway.front.submitted == []


@pytest.mark.parametrize("key", ["", '""', "with space", "x" * 256])
async def test_a_malformed_idempotency_key_is_refused(gateway: Served, key: str) -> None:
    answer = await gateway.http.post("/v1/calls", json=WAIT, headers={"Idempotency-Key": key})

    assert answer.status_code == 400
    assert answer.json()["details"]["field"] == "Idempotency-Key"


async def test_an_idempotency_key_used_for_something_else_is_a_conflict(gateway: Served) -> None:
    await gateway.http.post("/v1/calls", json=WAIT, headers={"Idempotency-Key": "k"})

    answer = await gateway.http.post("/v1/calls", json=SAY, headers={"Idempotency-Key": "k"})

    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/idempotency-conflict"


async def test_the_trace_context_goes_with_the_call_when_it_is_well_formed(gateway: Served) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"

    await gateway.http.post("/v1/calls", json=WAIT, headers={"traceparent": trace})
    await gateway.http.post("/v1/calls", json=WAIT, headers={"traceparent": "nonsense"})

    assert [body.traceparent for body in gateway.front.submitted] == [trace, None]


async def test_an_unknown_operation_is_a_404_with_the_nearest_names(gateway: Served) -> None:
    answer = await gateway.http.post("/v1/calls", json={"operation": "echo.sayy"})

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/unknown-operation"
    assert "echo.say" in answer.json()["details"]["nearest"]


async def test_a_call_can_be_looked_up_and_waited_for(gateway: Served) -> None:
    call_id = await _accepted(gateway)
    asyncio.get_running_loop().call_later(0.05, gateway.front.finish, call_id, {"lines": 3})

    now = await gateway.http.get(f"/v1/calls/{call_id}")
    later = await gateway.http.get(f"/v1/calls/{call_id}?wait=3")

    assert (now.status_code, now.json()["status"]) == (200, "accepted")
    assert (later.status_code, later.json()["value"]) == (200, {"lines": 3})


@pytest.mark.parametrize("wait", ["soon", "", "-1", "inf"])
async def test_a_query_wait_that_is_no_number_is_refused(gateway: Served, wait: str) -> None:
    answer = await gateway.http.get(f"/v1/calls/{new_call_id()}?wait={wait}")

    assert answer.status_code == 400
    assert answer.json()["details"]["field"] == "wait"


@pytest.mark.parametrize("call_id", [new_call_id(), "nonsense", "..%2F..%2Fetc", "%00", new_call_id().upper()])
async def test_an_unknown_id_and_a_malformed_one_look_the_same(gateway: Served, call_id: str) -> None:
    for method in ("GET", "DELETE"):
        answer = await gateway.http.request(method, f"/v1/calls/{call_id}")

        assert answer.status_code == 404
        assert answer.json()["title"] in ("Call not found", "No such path")
        assert answer.json()["details"] == {}


async def test_cancelling_a_waiting_call_ends_it_and_a_running_one_is_asked(gateway: Served) -> None:
    waiting, running = await _accepted(gateway), await _accepted(gateway)
    gateway.front.start(running)

    ended = await gateway.http.delete(f"/v1/calls/{waiting}")
    asked = await gateway.http.delete(f"/v1/calls/{running}")

    assert (ended.status_code, ended.json()["status"]) == (200, "cancelled")
    assert (asked.status_code, asked.json()["status"]) == (202, "running")


async def test_a_batch_answers_each_call_for_itself_and_in_order(gateway: Served) -> None:
    calls: list[Any] = [SAY, {"operation": "no.such"}, {"operation": 7}, "nonsense", WAIT]

    answer = await gateway.http.post("/v1/calls:batch", json={"calls": calls}, headers={"Prefer": "wait=0.1"})

    assert answer.status_code == 200
    results = answer.json()["results"]
    assert results[0]["value"] == "hi"
    assert results[1]["problem"]["code"] == "unknown_operation"
    assert results[2]["problem"]["details"]["field"] == "operation"
    assert results[3]["problem"]["code"] == "invalid_request"
    assert results[4]["status"] == "accepted"
    assert answer.headers["preference-applied"] == "wait=0.1"


async def test_a_batch_may_be_empty_and_not_too_long(gateway: Served) -> None:
    empty = await gateway.http.post("/v1/calls:batch", json={"calls": []})
    long = await gateway.http.post("/v1/calls:batch", json={"calls": [SAY] * 6})

    assert (empty.status_code, empty.json()) == (200, {"results": []})
    assert long.status_code == 413
    assert long.json()["details"] == {"calls": 6, "limit_calls": 5}
    assert gateway.front.submitted == []


async def test_a_silent_broker_is_a_503_in_time(gateway: Served) -> None:
    gateway.front.silent = {"submit", "result", "cancel", "route", "operations", "status", "ready"}
    call = f"/v1/calls/{new_call_id()}"
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/v1/calls", SAY),
        ("POST", "/v1/calls:batch", {"calls": [SAY]}),
        ("POST", "/v1/route", SAY),
        ("POST", "/tools/echo/say", {}),
        ("GET", call, None),
        ("DELETE", call, None),
        ("GET", call + "/events", None),
        ("GET", "/v1/tools", None),
        ("GET", "/v1/status", None),
        ("GET", "/readyz", None),
        ("GET", "/openapi.json", None),
    ]
    began = time.monotonic()

    answers = await asyncio.gather(*(gateway.http.request(method, path, json=body) for method, path, body in requests))

    assert time.monotonic() - began < 2
    for answer in answers:
        assert answer.status_code == 503, answer.request.url
        assert answer.json()["code"] == "broker_unavailable"
        assert answer.json()["retryable"] is True
        assert answer.headers["retry-after"] == "1"


async def test_retry_after_is_rounded_up_to_whole_seconds(gateway: Served) -> None:
    gateway.front.raising["submit"] = BROKER_DOWN

    answer = await gateway.http.post("/v1/calls", json=SAY)

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "3"


async def test_a_broker_that_falls_silent_after_the_call_was_accepted_is_no_error(gateway: Served) -> None:
    gateway.front.raising["result"] = BROKER_DOWN

    answer = await gateway.http.post("/v1/calls", json=WAIT, headers={"Prefer": "wait=2"})

    assert answer.status_code == 202
    assert gateway.front.calls[answer.json()["id"]].status is State.ACCEPTED


async def test_a_route_is_explained_and_nothing_is_accepted(gateway: Served) -> None:
    answer = await gateway.http.post("/v1/route", json=SAY)

    assert answer.status_code == 200
    assert answer.json()["queue"] == "tool.echo"
    assert answer.json()["decided_by"]["rule"] == "full-name"
    assert gateway.front.submitted == []


async def test_the_status_is_the_swarms(gateway: Served) -> None:
    answer = await gateway.http.get("/v1/status")

    assert answer.json()["backlog"] == {"tool.echo": 3}


async def test_many_waiting_requests_are_each_answered_with_their_own_result(gateway: Served) -> None:
    bodies = [{"operation": "echo.wait", "arguments": {"text": str(number)}} for number in range(50)]
    waiting = [
        asyncio.create_task(gateway.http.post("/v1/calls", json=body, headers={"Prefer": "wait=5"})) for body in bodies
    ]
    await until(lambda: len(gateway.front.submitted) == 50)

    for call_id, body in zip(list(gateway.front.calls), gateway.front.submitted, strict=True):
        gateway.front.finish(call_id, body.arguments["text"])
    answers = await asyncio.gather(*waiting)

    assert [answer.json()["value"] for answer in answers] == [str(number) for number in range(50)]
