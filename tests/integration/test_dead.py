"""Dead letters: what is buried, and what may be done with it."""

import pytest

from routing.front import Caller, Front
from tests.servers.stack import Stack
from tests.servers.waiting import until_async
from toolswarm.errors import InvalidRequest
from toolswarm.messages import DeadRequest, SubmitBody, ToolResult
from toolswarm.states import State

ME = Caller()


def body(operation: str, **arguments: object) -> SubmitBody:
    return SubmitBody(operation=f"trial.{operation}", arguments=arguments)


async def call(front: Front, request: SubmitBody) -> ToolResult:
    submitted = await front.submit(request, ME)
    return await front.result(submitted.id, ME, 30)


async def fail(stack: Stack, front: Front, label: str) -> str:
    """A call whose last attempt has failed."""
    return (await call(front, body("flaky", label=label, failures=3))).id


async def lose(stack: Stack, front: Front) -> str:
    """A call of unknown outcome."""
    worker = stack.start_worker("trial", "doomed")
    submitted = await front.submit(body("slow_once", label="x", seconds=20.0), ME)
    await until_async(lambda: any(line.startswith("effect x") for line in stack.marked()), "the effect has begun")
    stack.kill(worker)
    return (await front.result(submitted.id, ME, 30)).id


async def test_a_call_whose_last_attempt_failed_is_buried_and_can_be_run_again_once(stack: Stack, front: Front) -> None:
    stack.start_beat()
    stack.start_worker("trial", "w1")
    buried = await fail(stack, front, "a")

    listed = await front.dead("list", DeadRequest(), ME)
    retried = await front.dead("retry", DeadRequest(ids=(buried,)), ME)
    again = await front.dead("retry", DeadRequest(ids=(buried,)), ME)
    (letter,) = retried.letters
    assert letter.retried_as is not None
    result = await front.result(letter.retried_as, ME, 30)

    assert [(one.id, one.code, one.attempts) for one in listed.letters] == [(buried, "upstream_failed", 3)]
    assert [(one.operation, one.code, one.count) for one in listed.groups] == [("trial.flaky", "upstream_failed", 1)]
    assert result.status is State.SUCCEEDED
    assert again.letters == ()


async def test_an_unknown_outcome_is_buried_and_not_run_again_by_a_sweeping_retry(stack: Stack, front: Front) -> None:
    stack.start_beat()
    lost = await lose(stack, front)
    stack.start_worker("trial", "w1")

    swept = await front.dead("retry", DeadRequest(), ME)
    listed = await front.dead("list", DeadRequest(state=State.UNKNOWN), ME)
    resolved = await front.dead("resolve", DeadRequest(ids=(lost,), outcome=State.SUCCEEDED, note="seen"), ME)
    after = await front.dead("list", DeadRequest(), ME)

    assert swept.letters == ()
    assert [one.id for one in listed.letters] == [lost]
    assert listed.letters[0].details["worker"] == "doomed"
    assert [one.resolved for one in resolved.letters] == [State.SUCCEEDED]
    assert after.letters == ()
    assert (await front.result(lost, ME, 0)).status is State.UNKNOWN


async def test_letters_are_dropped_by_filter_and_another_tenant_sees_none(stack: Stack, front: Front) -> None:
    stack.start_beat()
    stack.start_worker("trial", "w1")
    for label in ("a", "b"):
        await fail(stack, front, label)

    foreign = await front.dead("list", DeadRequest(), Caller("another"))
    missed = await front.dead("drop", DeadRequest(code="no_such_code"), ME)
    dropped = await front.dead("drop", DeadRequest(operation="trial.flaky"), ME)

    assert (foreign.total, missed.total, dropped.total) == (0, 0, 2)
    assert (await front.dead("list", DeadRequest(), ME)).total == 0


async def test_what_an_action_needs_is_said(front: Front) -> None:
    with pytest.raises(InvalidRequest, match="outcome"):
        await front.dead("resolve", DeadRequest(), ME)
    with pytest.raises(InvalidRequest, match="not 'burn'"):
        await front.dead("burn", DeadRequest(), ME)
    with pytest.raises(InvalidRequest, match="limit"):
        await front.dead("list", DeadRequest(limit=0), ME)
