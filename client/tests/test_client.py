"""`Client` against a real HTTP server: what it sends, what it gives back, when it asks again."""

from collections.abc import Iterator

import msgspec
import pytest

from client.tests.scripted_gateway import (
    CALL_ID,
    READ_FILE,
    Answer,
    ScriptedGateway,
    ended,
    problem,
    running,
    succeeded,
)
from toolswarm import Client
from toolswarm.errors import (
    AuthenticationFailed,
    CallCancelled,
    CallExpired,
    CallFailed,
    GatewayUnreachable,
    InvalidRequest,
    OutcomeUnknown,
    ToolswarmError,
    Unavailable,
    UnknownOperation,
    WaitTimedOut,
)
from toolswarm.messages import CallEvent, Context, Priority
from toolswarm.states import State

SUBMIT = "POST /v1/calls"
BATCH = "POST /v1/calls:batch"
CALL = f"GET /v1/calls/{CALL_ID}"


@pytest.fixture
def swarm(gateway: ScriptedGateway) -> Iterator[Client]:
    with Client(gateway.url, "the-key", timeout_s=5) as client:
        yield client


def test_a_call_sends_operation_arguments_and_key_and_gives_the_value(gateway: ScriptedGateway, swarm: Client) -> None:
    gateway.answers(SUBMIT, succeeded({"content": "hello"}))

    value = swarm.call("read_file", path="a", timeout_s=3, operation="x")

    (asked,) = gateway.asked
    assert value == {"content": "hello"}
    assert asked.json()["operation"] == "read_file"
    assert asked.json()["arguments"] == {"path": "a", "timeout_s": 3, "operation": "x"}
    assert asked.headers["authorization"] == "Bearer the-key"
    assert asked.headers["prefer"] in ("wait=4", "wait=5")
    assert asked.headers["idempotency-key"] == asked.json()["idempotency_key"]


def test_options_travel_beside_the_arguments(gateway: ScriptedGateway, swarm: Client) -> None:
    gateway.answers(SUBMIT, succeeded(1))

    view = swarm.options(priority="background", context={"repo": "a/b"}, deadline_s=60, cache="skip")
    view.options(idempotency_key="mine", context=Context(host="web")).call("x")

    body = gateway.asked[0].json()
    assert body["priority"] == Priority.BACKGROUND
    assert (body["cache"], body["context"], body["idempotency_key"]) == ("skip", {"host": "web"}, "mine")
    assert body["deadline"] > 1_700_000_000


@pytest.mark.parametrize("changes", [{"priority": "soon"}, {"timeout_s": "long"}, {"context": {"repos": "a"}}])
def test_a_wrong_option_is_refused_before_anything_is_sent(changes: dict[str, str], swarm: Client) -> None:
    with pytest.raises(InvalidRequest, match="options"):
        swarm.options(**changes)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (State.FAILED, CallFailed),
        (State.CANCELLED, CallCancelled),
        (State.EXPIRED, CallExpired),
        (State.UNKNOWN, OutcomeUnknown),
    ],
)
def test_a_call_that_ends_without_success_raises(
    state: State, error: type[CallFailed], gateway: ScriptedGateway, swarm: Client
) -> None:
    gateway.answers(SUBMIT, ended(state))

    with pytest.raises(error, match="not_found: there is no such file") as caught:
        swarm.call("x")

    assert caught.value.result.id == CALL_ID


def test_a_call_that_outlasts_the_first_wait_is_asked_for_again(gateway: ScriptedGateway, swarm: Client) -> None:
    gateway.answers(SUBMIT, Answer(msgspec.json.encode(running()), 202))
    gateway.answers(CALL, running(), succeeded(7))

    assert swarm.call("x") == 7
    assert len(gateway.asked_for(CALL)) == 2


def test_waiting_ends_at_the_timeout_and_names_the_call(gateway: ScriptedGateway, swarm: Client) -> None:
    gateway.answers(SUBMIT, running())
    gateway.answers(CALL, running())

    with pytest.raises(WaitTimedOut, match="it goes on") as caught:
        swarm.options(timeout_s=0.3).call("x")

    assert caught.value.details["id"] == CALL_ID
    assert len(gateway.asked_for(CALL)) <= 6  # an early answer is no reason to ask in a tight loop


def test_a_submit_whose_answer_was_lost_is_sent_again_under_the_same_key(
    gateway: ScriptedGateway, swarm: Client
) -> None:
    gateway.answers(SUBMIT, Answer(lost=True), Answer(lost=True), succeeded(1))

    assert swarm.call("x") == 1

    keys = {asked.headers["idempotency-key"] for asked in gateway.asked_for(SUBMIT)}
    assert len(gateway.asked_for(SUBMIT)) == 3
    assert len(keys) == 1


def test_a_submit_is_tried_three_times_and_no_more(gateway: ScriptedGateway, swarm: Client) -> None:
    gateway.answers(SUBMIT, Answer(lost=True))

    with pytest.raises(GatewayUnreachable):
        swarm.submit("x")

    assert len(gateway.asked_for(SUBMIT)) == 3


def test_a_full_gateway_is_asked_again_when_it_says(gateway: ScriptedGateway, swarm: Client) -> None:
    full = problem("unavailable", 503, "full", retry_after="0")
    gateway.answers(SUBMIT, *[full] * 5, succeeded(1))

    assert swarm.call("x") == 1


def test_a_full_gateway_is_not_waited_for_beyond_the_timeout(gateway: ScriptedGateway, swarm: Client) -> None:
    gateway.answers(SUBMIT, problem("unavailable", 503, "full", retry_after="60"))

    with pytest.raises(Unavailable, match="full") as caught:
        swarm.call("x")

    assert caught.value.details["retry_after_s"] == 60.0
    assert len(gateway.asked) == 1


def test_a_refusal_is_raised_at_once_with_its_details(gateway: ScriptedGateway, swarm: Client) -> None:
    gateway.answers(SUBMIT, problem("unknown_operation", 404, "no", nearest=["read_file"]))

    with pytest.raises(UnknownOperation) as caught:
        swarm.call("raed_file")

    assert caught.value.details == {"nearest": ["read_file"]}
    assert len(gateway.asked) == 1


def test_no_redirect_is_followed(gateway: ScriptedGateway, swarm: Client) -> None:
    gateway.answers(SUBMIT, Answer(b"", 307, {"Location": f"{gateway.url}/v1/status"}))

    with pytest.raises(ToolswarmError, match="HTTP 307"):
        swarm.call("x")

    assert len(gateway.asked) == 1


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"id": 3}', b""])
def test_another_server_at_the_url_is_told_apart(body: bytes, gateway: ScriptedGateway, swarm: Client) -> None:
    gateway.answers(SUBMIT, Answer(body))

    with pytest.raises(ToolswarmError, match="is the URL right"):
        swarm.call("x")


def test_a_gateway_that_is_not_there_is_named_without_the_key() -> None:
    with Client("http://127.0.0.1:1", "the-key", timeout_s=1) as swarm, pytest.raises(GatewayUnreachable) as caught:
        swarm.call("x")

    assert "http://127.0.0.1:1 does not answer (connection refused)" in str(caught.value)
    assert "the-key" not in repr(swarm) + repr(caught.value)


def test_a_handle_waits_asks_and_cancels(gateway: ScriptedGateway, swarm: Client) -> None:
    gateway.answers(SUBMIT, running())
    gateway.answers(CALL, running(), running(), ended(State.CANCELLED, "cancelled"))
    gateway.answers(f"DELETE /v1/calls/{CALL_ID}", Answer(msgspec.json.encode(running()), 202))

    handle = swarm.submit("x")

    assert handle.id == CALL_ID
    assert handle.status() is State.RUNNING
    assert handle.cancel() is State.RUNNING
    assert handle.outcome().status is State.CANCELLED
    with pytest.raises(CallCancelled):
        handle.result()


def test_an_ended_handle_asks_no_more(gateway: ScriptedGateway, swarm: Client) -> None:
    gateway.answers(CALL, succeeded(5))

    handle = swarm.handle(CALL_ID)

    assert [handle.result(0), handle.result(), handle.status()] == [5, 5, State.SUCCEEDED]
    assert len(gateway.asked) == 1


def test_events_come_one_by_one_and_end_with_the_result(gateway: ScriptedGateway, swarm: Client) -> None:
    begun = msgspec.json.encode(CallEvent(id=CALL_ID, state=State.RUNNING, at=1.0))
    over = msgspec.json.encode(CallEvent(id=CALL_ID, state=State.SUCCEEDED, at=2.0, result=succeeded(3)))
    stream = b": hello\n\nevent: state\ndata: " + begun + b"\n\nevent: state\r\ndata: " + over + b"\r\n\r\n"
    halves = (stream[:40], stream[40:41], stream[41:])
    gateway.answers(
        f"GET /v1/calls/{CALL_ID}/events",
        Answer(chunks=halves, headers={"Content-Type": "text/event-stream"}),
        Answer(stream),
        Answer(stream[:60]),
    )

    handle = swarm.handle(CALL_ID)

    for _ in range(2):
        events = list(handle.events())
        assert [event.state for event in events] == [State.RUNNING, State.SUCCEEDED]
        assert events[1].result == succeeded(3)
    with pytest.raises(GatewayUnreachable, match="ended the events"):
        list(handle.events())


def test_many_calls_go_at_once_and_each_is_told_for_itself(gateway: ScriptedGateway, swarm: Client) -> None:
    refused = msgspec.json.decode(problem("invalid_arguments", 422, "path is missing").body)
    gateway.answers(BATCH, {"results": [succeeded(1, "a"), {"problem": refused}, running("c")]})
    gateway.answers("GET /v1/calls/c", succeeded(3, "c"))

    results = swarm.options(idempotency_key="k").call_many([("x", {"n": 1}), ("y", {}), ("z", {})])

    assert [result.value for result in results] == [1, None, 3]
    assert results[1].id == ""
    assert results[1].error is not None
    assert results[1].error.code == "invalid_arguments"
    assert [call["idempotency_key"] for call in gateway.asked[0].json()["calls"]] == ["k:0", "k:1", "k:2"]


def test_the_calls_of_a_batch_that_found_no_room_are_sent_again(gateway: ScriptedGateway, swarm: Client) -> None:
    full = {"problem": {"code": "unavailable", "detail": "full", "details": {"retry_after_s": 0}}}
    gateway.answers(BATCH, {"results": [full, succeeded(2, "b")]}, {"results": [succeeded(1, "a")]})

    results = swarm.call_many([("x", {}), ("y", {})])

    assert [result.value for result in results] == [1, 2]
    assert [len(asked.json()["calls"]) for asked in gateway.asked] == [2, 1]


def test_a_long_list_goes_in_parts_that_the_gateway_takes(gateway: ScriptedGateway, swarm: Client) -> None:
    gateway.answers(BATCH, *({"results": [succeeded(n, "a") for n in range(size)]} for size in (500, 102, 1)))

    results = swarm.call_many([("x", {"text": "y" * size}) for size in [0] * 601 + [400_000] * 2])

    assert len(results) == 603
    assert max(len(asked.body) for asked in gateway.asked) < 1_048_576


def test_no_calls_ask_nothing(gateway: ScriptedGateway, swarm: Client) -> None:
    assert swarm.call_many([]) == []
    assert gateway.asked == []


def test_a_call_of_a_batch_that_has_not_ended_keeps_its_state(gateway: ScriptedGateway, swarm: Client) -> None:
    gateway.answers(BATCH, {"results": [running("a"), succeeded(1, "b")]})
    gateway.answers("GET /v1/calls/a", running("a"))

    results = swarm.options(timeout_s=0.2).call_many([("x", {}), ("y", {})])

    assert [result.status for result in results] == [State.RUNNING, State.SUCCEEDED]


def test_the_catalogue_is_read(gateway: ScriptedGateway, swarm: Client) -> None:
    gateway.answers("GET /v1/tools", {"operations": [READ_FILE]})
    gateway.answers("GET /v1/tools/a%2Fb", problem("unknown_operation", 404, "no"))

    assert swarm.tools() == [READ_FILE]
    with pytest.raises(UnknownOperation):
        swarm.tools("a/b")


def test_a_wrong_key_is_told(gateway: ScriptedGateway) -> None:
    gateway.answers("GET /v1/status", problem("authentication_failed", 401, "this key is not known"))

    with Client(gateway.url) as swarm, pytest.raises(AuthenticationFailed, match="not known"):
        swarm.status()

    assert "authorization" not in gateway.asked[0].headers
