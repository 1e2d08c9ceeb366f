"""Calls: ask for an operation, get its value, or learn exactly what became of it.

`swarm` is a `toolswarm.Client`. Read from top to bottom; each test is one idea.
"""

import pytest

from toolswarm import Client
from toolswarm.errors import CallCancelled, CallFailed, InvalidArguments, OutcomeUnknown, UnknownOperation, WaitTimedOut
from toolswarm.messages import Effect
from toolswarm.states import State


def test_a_call_runs_an_operation_and_gives_its_value(swarm: Client) -> None:
    swarm.call("desktop.write_file", path="poem.txt", content="roses are red\n")

    text = swarm.call("desktop.read_file", path="poem.txt")

    assert text["content"] == "roses are red\n"


def test_the_tool_may_be_left_out_and_route_says_who_decides(swarm: Client) -> None:
    route = swarm.route("list_directory", path="notes")

    assert route.operation == "desktop.list_directory"
    assert route.decided_by.why


def test_a_submitted_call_is_durable_and_its_result_can_be_fetched_later(swarm: Client) -> None:
    handle = swarm.submit("trial.echo", text="later")

    elsewhere = swarm.handle(handle.id)

    assert elsewhere.result(timeout_s=10) == "later"
    assert elsewhere.status() is State.SUCCEEDED


def test_many_calls_go_at_once_and_come_back_in_order(swarm: Client) -> None:
    results = swarm.call_many(("trial.echo", {"text": str(number)}) for number in range(50))

    assert [result.value for result in results] == [str(number) for number in range(50)]


def test_a_failure_says_what_to_do(swarm: Client) -> None:
    with pytest.raises(CallFailed, match="there is no"):
        swarm.call("desktop.read_file", path="no/such/file")


def test_a_wrong_request_is_refused_before_anything_runs(swarm: Client) -> None:
    with pytest.raises(UnknownOperation, match="did you mean"):
        swarm.call("desktop.reed_file", path="poem.txt")
    with pytest.raises(InvalidArguments, match="is missing"):
        swarm.call("desktop.read_file", pth="poem.txt")


def test_who_stops_waiting_has_lost_nothing(swarm: Client) -> None:
    handle = swarm.submit("trial.slow_read", label="patience", seconds=1.0)

    with pytest.raises(WaitTimedOut):
        handle.result(timeout_s=0.1)

    assert handle.result(timeout_s=10) == "patience"


def test_the_same_idempotency_key_is_the_same_call(swarm: Client) -> None:
    keyed = swarm.options(idempotency_key="order-4711")

    first = keyed.submit("trial.echo", text="once")
    second = keyed.submit("trial.echo", text="once")

    assert first.id == second.id


def test_a_read_that_runs_can_be_cancelled(swarm: Client) -> None:
    handle = swarm.submit("trial.slow_read", label="cancelled", seconds=20.0)

    handle.cancel()

    with pytest.raises(CallCancelled):
        handle.result(timeout_s=10)


def test_a_transient_failure_is_retried_when_that_is_safe(swarm: Client) -> None:
    assert swarm.call("trial.flaky", label="tutorial", failures=2) == "tutorial"


def test_an_operation_says_what_it_changes_and_that_decides_what_may_be_repeated(swarm: Client) -> None:
    effects = {operation.full_name: operation.effect for operation in swarm.tools("desktop")}

    assert effects["desktop.read_file"] is Effect.READ
    assert effects["desktop.make_directory"] is Effect.IDEMPOTENT
    assert effects["desktop.write_file"] is Effect.VERIFIABLE
    assert effects["desktop.run_command"] is Effect.ONCE


def test_an_outcome_that_nobody_knows_is_told_as_such(swarm: Client) -> None:
    handle = swarm.submit("trial.slow_once", label="who knows", seconds=20.0)
    states = (event.state for event in handle.events())
    assert State.EFFECTING in states  # the point of no return is behind it

    handle.cancel()

    with pytest.raises(OutcomeUnknown):
        handle.result(timeout_s=10)
