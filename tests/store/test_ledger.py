"""The ledger's transitions, one idea each, against a real Valkey."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from store.connection import Broker
from store.ledger import Grant, Ledger, Refusal, Release, Verdict
from tests.servers.submissions import submission
from tests.servers.waiting import until_async
from toolswarm import states
from toolswarm.errors import CallNotFound, IdempotencyConflict
from toolswarm.messages import Effect, ToolResult
from toolswarm.states import TRANSITIONS, State


async def claim(ledger: Ledger, call_id: str, *, nonce: str = "n", lease_s: float = 60.0) -> Grant:
    grant = await ledger.claim(call_id, worker="w", nonce=nonce, lease_s=lease_s)
    assert isinstance(grant, Grant)
    return grant


async def sweep_and_let_pass(ledger: Ledger, broker: Broker, call_id: str) -> list[tuple[str, str]]:
    """A sweep, and the pause after which a lost call comes back is over."""
    done = await ledger.sweep()
    await broker.command("HDEL", f"ts:call:{call_id}", "not_before")
    return done


def test_the_picture_of_the_states_is_the_table() -> None:
    picture = re.search(r"```(.*?)```", states.__doc__ or "", re.DOTALL)
    assert picture is not None

    drawn: dict[str, set[str]] = {state.value: set() for state in State}
    for line in picture[1].strip().splitlines():
        steps = [step.split(" | ") for step in line.split(" -> ")]
        for sources, targets in pairwise(steps):
            drawn[sources[0]].update(targets)

    assert drawn == {state.value: {to.value for to in ends} for state, ends in TRANSITIONS.items()}


def test_the_scripts_move_calls_by_the_same_table() -> None:
    prelude = (Path(__file__).parents[2] / "store/scripts/prelude.lua").read_text()
    moves = re.search(r"local MOVES = \{(.*?)\n\}", prelude, re.DOTALL)
    assert moves is not None

    table = {
        row[0]: set(re.findall(r"(\w+) = true", row[1]))
        for row in re.findall(r"(\w+) = \{(.*?)\}", moves[1], re.DOTALL)
    }

    assert table == {state.value: {to.value for to in ends} for state, ends in TRANSITIONS.items() if ends}


async def test_an_accepted_call_is_enqueued_in_the_same_step(ledger: Ledger, broker: Broker) -> None:
    order = submission()

    accepted = await ledger.accept(order)

    assert (accepted.state, accepted.joined) == (State.ACCEPTED, False)
    assert await broker.command("LRANGE", "tool.trial\x06\x163", 0, -1) == [order.message]


async def test_the_same_acceptance_repeated_enqueues_nothing_more(ledger: Ledger, broker: Broker) -> None:
    order = submission()
    await ledger.accept(order)

    again = await ledger.accept(order)

    assert again.joined
    assert await broker.command("LLEN", "tool.trial\x06\x163") == 1


async def test_a_second_request_with_the_same_key_joins_the_first(ledger: Ledger) -> None:
    first = await ledger.accept(submission(key="k"))

    second = await ledger.accept(submission(key="k"))

    assert (second.id, second.joined) == (first.id, True)


async def test_a_key_used_for_another_request_is_a_conflict(ledger: Ledger) -> None:
    await ledger.accept(submission(key="k"))

    with pytest.raises(IdempotencyConflict, match="fresh key"):
        await ledger.accept(submission(key="k", request="another"))


async def test_a_claimed_call_is_busy_for_everybody_else(ledger: Ledger) -> None:
    accepted = await ledger.accept(submission())
    await claim(ledger, accepted.id)

    other = await ledger.claim(accepted.id, worker="v", nonce="m", lease_s=60)

    assert other is Refusal.BUSY


async def test_a_claim_whose_reply_was_lost_is_granted_again_under_the_same_fence(ledger: Ledger) -> None:
    accepted = await ledger.accept(submission())
    first = await claim(ledger, accepted.id)

    again = await claim(ledger, accepted.id)

    assert (again.fence, again.attempt) == (first.fence, first.attempt)


async def test_only_the_holder_of_the_fence_can_finish(ledger: Ledger, broker: Broker) -> None:
    accepted = await ledger.accept(submission())
    lost = await claim(ledger, accepted.id, nonce="old", lease_s=0)
    await sweep_and_let_pass(ledger, broker, accepted.id)
    held = await claim(ledger, accepted.id, nonce="new")

    late = await ledger.finish(lost, ToolResult(id=accepted.id, status=State.SUCCEEDED, value="late"))
    taken = await ledger.finish(held, ToolResult(id=accepted.id, status=State.SUCCEEDED, value="right"))

    assert (late, taken) == (False, True)
    _, result = await ledger.read_result(accepted.id)
    assert result is not None
    assert result.value == "right"


async def test_a_lost_read_is_given_back_and_a_begun_once_is_unknown(ledger: Ledger) -> None:
    read = await ledger.accept(submission(Effect.READ))
    once = await ledger.accept(submission(Effect.ONCE))
    await claim(ledger, read.id, lease_s=0)
    grant = await claim(ledger, once.id, lease_s=0)
    assert await ledger.begin_effect(grant) is Verdict.OK

    done = dict(await ledger.sweep())

    assert done == {read.id: "given_back", once.id: "unknown"}
    _, result = await ledger.read_result(once.id)
    assert result is not None
    assert result.error is not None
    assert result.error.details["worker"] == "w"


async def test_a_once_that_had_not_begun_its_effect_may_run_again(ledger: Ledger) -> None:
    once = await ledger.accept(submission(Effect.ONCE))
    await claim(ledger, once.id, lease_s=0)

    done = await ledger.sweep()

    assert done == [(once.id, "given_back")]


async def test_a_call_that_loses_every_worker_is_buried_as_poison(ledger: Ledger, broker: Broker) -> None:
    accepted = await ledger.accept(submission())
    for attempt in range(3):
        await claim(ledger, accepted.id, nonce=str(attempt), lease_s=0)
        await sweep_and_let_pass(ledger, broker, accepted.id)

    _, result = await ledger.read_result(accepted.id)

    assert result is not None
    assert result.error is not None
    assert (result.status, result.error.code) == (State.FAILED, "poison")


async def test_an_accepted_call_that_is_in_no_queue_is_enqueued_again(ledger: Ledger, broker: Broker) -> None:
    order = submission()
    await ledger.accept(order)
    await broker.command("DEL", "tool.trial\x06\x163")
    await broker.command("ZADD", "ts:due", 0, order.call.id)

    done = await ledger.sweep()

    assert done == [(order.call.id, "enqueued")]
    assert await broker.command("LLEN", "tool.trial\x06\x163") == 1


async def test_a_waiting_call_is_cancelled_at_once_and_a_running_one_is_told(ledger: Ledger) -> None:
    waiting = await ledger.accept(submission())
    running = await ledger.accept(submission())
    grant = await claim(ledger, running.id)

    ended = await ledger.cancel(waiting.id, "default")
    asked = await ledger.cancel(running.id, "default")

    assert (ended.status, asked.status) == (State.CANCELLED, State.RUNNING)
    assert await ledger.renew([grant], lease_s=60) == [Verdict.CANCEL]
    assert await ledger.begin_effect(grant) is Verdict.CANCEL


async def test_another_tenants_call_is_not_found(ledger: Ledger) -> None:
    accepted = await ledger.accept(submission())

    with pytest.raises(CallNotFound):
        await ledger.cancel(accepted.id, "somebody-else")
    with pytest.raises(CallNotFound):
        await ledger.watch(accepted.id, "somebody-else", "channel")


async def test_a_released_call_runs_elsewhere_and_the_attempt_does_not_count(ledger: Ledger) -> None:
    accepted = await ledger.accept(submission())
    grant = await claim(ledger, accepted.id)

    assert await ledger.release(grant) is Release.OK

    again = await claim(ledger, accepted.id, nonce="m")
    assert (again.attempt, again.fence) == (1, 2)


async def test_calls_that_were_lost_together_come_back_apart(ledger: Ledger, broker: Broker) -> None:
    lost = [(await ledger.accept(submission())).id for _ in range(20)]
    for call_id in lost:
        await claim(ledger, call_id, lease_s=0)

    await ledger.sweep()

    due = [float(await broker.command("ZSCORE", "ts:due", call_id)) for call_id in lost]
    assert 0.1 < max(due) - min(due) <= 1.0


async def test_a_lost_verifiable_is_given_back_in_doubt(ledger: Ledger, broker: Broker) -> None:
    accepted = await ledger.accept(submission(Effect.VERIFIABLE))
    grant = await claim(ledger, accepted.id, lease_s=0)
    await ledger.begin_effect(grant)

    done = await sweep_and_let_pass(ledger, broker, accepted.id)

    assert done == [(accepted.id, "given_back")]
    assert (await claim(ledger, accepted.id, nonce="m")).in_doubt


async def test_a_call_in_doubt_that_nobody_looked_after_ends_as_unknown(ledger: Ledger) -> None:
    accepted = await ledger.accept(submission(Effect.VERIFIABLE))
    grant = await claim(ledger, accepted.id, lease_s=0)
    await ledger.begin_effect(grant)
    await ledger.sweep()

    ended = await ledger.cancel(accepted.id, "default")

    assert ended.status is State.UNKNOWN
    assert ended.error is not None
    assert "look before you repeat it" in ended.error.message


async def test_a_postponed_call_waits_in_no_queue_until_it_is_due(ledger: Ledger, broker: Broker) -> None:
    accepted = await ledger.accept(submission())
    await broker.command("DEL", "tool.trial\x06\x163")
    grant = await claim(ledger, accepted.id)
    await ledger.release(grant, delay_s=0.05)

    early = await ledger.claim(accepted.id, worker="w", nonce="early", lease_s=60)

    async def is_due() -> bool:
        return (accepted.id, "due") in await ledger.sweep()

    await until_async(is_due, "the call is due")
    again = await claim(ledger, accepted.id, nonce="m")
    assert early is Refusal.BUSY
    assert await broker.command("LLEN", "tool.trial\x06\x163") == 1
    assert again.attempt == 1


async def test_a_call_is_not_postponed_past_its_deadline_or_its_last_attempt(ledger: Ledger) -> None:
    first = await claim(ledger, (await ledger.accept(submission())).id)
    second = await ledger.accept(submission())
    for nonce in ("a", "b"):
        assert await ledger.release(await claim(ledger, second.id, nonce=nonce), counts=True) is Release.OK

    assert await ledger.release(first, delay_s=3600) is Release.LATE
    assert await ledger.release(await claim(ledger, second.id, nonce="c"), counts=True) is Release.LATE


async def test_a_call_for_a_session_of_a_dead_worker_ends_as_session_lost(ledger: Ledger, broker: Broker) -> None:
    accepted = await ledger.accept(submission(queue="tool.trial@gone"))
    await broker.command("ZADD", "ts:due", 0, accepted.id)

    done = await ledger.sweep()

    _, result = await ledger.read_result(accepted.id)
    assert done == [(accepted.id, "session_lost")]
    assert result is not None
    assert result.error is not None
    assert (result.status, result.error.code) == (State.FAILED, "session_lost")
