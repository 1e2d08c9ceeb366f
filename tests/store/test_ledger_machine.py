"""Random histories of the ledger against a model: whatever happens, a call ends once, and a `once` has one effect."""

import asyncio
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from store.connection import Broker
from store.ledger import Grant, Ledger, Verdict
from tests.servers.submissions import submission
from tests.servers.valkey import Valkey
from toolswarm.messages import Effect, ToolResult
from toolswarm.states import TRANSITIONS, State

SERVER = Valkey()


def setup_module() -> None:
    SERVER.start()


def teardown_module() -> None:
    SERVER.stop()


class LedgerMachine(RuleBasedStateMachine):
    """A lease of 0 s is lost at the next sweep, so no history has to wait."""

    calls = Bundle("calls")
    grants = Bundle("grants")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.broker = Broker(SERVER.url)
        self.ledger = Ledger(self.broker, retention_s=60, call_deadline_s=60, max_attempts=3)
        self.effects: dict[str, Effect] = {}
        self.seen: dict[str, State] = {}
        self.begun: dict[str, int] = {}
        self.fences: dict[str, int] = {}
        self.nonces = 0

    def do(self, step: Any) -> Any:
        return self.loop.run_until_complete(step)

    @initialize()
    def empty(self) -> None:
        self.do(self.broker.command("FLUSHALL"))

    @rule(target=calls, effect=st.sampled_from(Effect))
    def accept(self, effect: Effect) -> str:
        accepted = self.do(self.ledger.accept(submission(effect)))
        self.effects[accepted.id] = effect
        self.seen[accepted.id] = State.ACCEPTED
        return str(accepted.id)

    @rule(target=grants, call=calls, lease_s=st.sampled_from([0.0, 60.0]))
    def claim(self, call: str, lease_s: float) -> Grant | None:
        self.nonces += 1
        grant = self.do(self.ledger.claim(call, worker="w", nonce=str(self.nonces), lease_s=lease_s))
        if not isinstance(grant, Grant):
            return None
        assert grant.fence > self.fences.get(call, 0)
        self.fences[call] = grant.fence
        return grant

    @rule(grant=grants)
    def begin_effect(self, grant: Grant | None) -> None:
        if grant is None:
            return
        before = self.state(grant.id)
        if self.do(self.ledger.begin_effect(grant)) is Verdict.OK:
            assert grant.fence == self.fences[grant.id]
            if before is State.RUNNING:
                self.begun[grant.id] = self.begun.get(grant.id, 0) + 1

    @rule(grant=grants, state=st.sampled_from([State.SUCCEEDED, State.FAILED]))
    def finish(self, grant: Grant | None, state: State) -> None:
        if grant is None:
            return
        if self.do(self.ledger.finish(grant, ToolResult(id=grant.id, status=state))):
            assert grant.fence == self.fences[grant.id]

    @rule(grant=consumes(grants), counts=st.booleans(), delay_s=st.sampled_from([0.0, 0.001, 3600.0]))
    def release(self, grant: Grant | None, counts: bool, delay_s: float) -> None:
        if grant is not None:
            self.do(self.ledger.release(grant, counts=counts, delay_s=delay_s))

    @rule(grant=grants)
    def renew(self, grant: Grant | None) -> None:
        if grant is not None:
            (verdict,) = self.do(self.ledger.renew([grant], lease_s=60.0))
            assert verdict is Verdict.LOST or grant.fence == self.fences[grant.id]

    @rule(call=calls)
    def cancel(self, call: str) -> None:
        self.do(self.ledger.cancel(call, "default"))

    @rule()
    def sweep(self) -> None:
        self.do(self.ledger.sweep())

    @invariant()
    def calls_move_by_the_table_and_end_once(self) -> None:
        for call, before in self.seen.items():
            now = self.state(call)
            assert now is before or now in reachable(before), f"{before} -> {now}"
            assert not before.terminal or now is before
            self.seen[call] = now

    @invariant()
    def a_call_in_doubt_ends_as_unknown_or_by_its_worker(self) -> None:
        for call, state in self.seen.items():
            if self.do(self.broker.command("HGET", f"ts:call:{call}", "in_doubt")):
                assert self.effects[call] is Effect.VERIFIABLE
                assert state not in (State.EXPIRED, State.CANCELLED)

    @invariant()
    def what_must_not_run_twice_begins_at_most_once(self) -> None:
        for call, begun in self.begun.items():
            effect = self.effects[call]
            assert effect.may_run_again or effect is Effect.VERIFIABLE or begun <= 1

    def state(self, call: str) -> State:
        return State(self.do(self.broker.command("HGET", f"ts:call:{call}", "state")).decode())

    def teardown(self) -> None:
        self.do(self.broker.close())
        self.loop.close()


def reachable(state: State) -> set[State]:
    found: set[State] = set()
    frontier = [state]
    while frontier:
        for follower in TRANSITIONS[frontier.pop()] - found:
            found.add(follower)
            frontier.append(follower)
    return found


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
