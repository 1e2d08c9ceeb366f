"""What was asked, what was told and what happened; and whether these agree."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from toolswarm.messages import ToolResult
from toolswarm.states import State


@dataclass
class Told:
    """One accepted call: what was asked, and what its caller was told in the end."""

    operation: str
    accepted_at: float
    result: ToolResult | None = None
    told_at: float | None = None


@dataclass
class Verdict:
    """What a history came to."""

    accepted: int = 0
    refused: int = 0
    states: Counter[str] = field(default_factory=Counter[str])
    lost: list[str] = field(default_factory=list[str])
    """Accepted, and nobody was told an end."""
    repeated: list[str] = field(default_factory=list[str])
    """A second effect of a call that must have at most one."""
    without_effect: list[str] = field(default_factory=list[str])
    """Told as succeeded, and nothing happened."""
    wrong: list[str] = field(default_factory=list[str])
    """Told another call's value."""
    failed_safe: list[str] = field(default_factory=list[str])
    """Safe to repeat, hit by something transient, and yet without success."""
    repeated_idempotent: int = 0

    def __str__(self) -> str:
        states = ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))
        return (
            f"{self.accepted} accepted ({states}), {self.refused} refused; lost {len(self.lost)}, second effects "
            f"{len(self.repeated)}, succeeded without effect {len(self.without_effect)}, wrong value "
            f"{len(self.wrong)}, safe to repeat and not succeeded {len(self.failed_safe)}; "
            f"idempotent ones repeated {self.repeated_idempotent}"
        )


class History:
    """Written by the callers as it happens."""

    def __init__(self) -> None:
        self.calls: dict[str, Told] = {}
        self.refused = 0

    def accepted(self, call_id: str, operation: str, at: float) -> None:
        self.calls.setdefault(call_id, Told(operation, at))

    def told(self, result: ToolResult, at: float) -> None:
        call = self.calls[result.id]
        assert call.result is None or call.result.status is result.status, f"{result.id} was told two ends"
        call.result, call.told_at = result, at

    def check(self, effects_file: Path) -> Verdict:
        effects = Counter[tuple[str, str]]()
        for line in effects_file.read_text().splitlines() if effects_file.exists() else []:
            effect = json.loads(line)
            effects[effect["call"], effect["what"]] += 1
        verdict = Verdict(accepted=len(self.calls), refused=self.refused)
        for call_id, call in self.calls.items():
            happened = effects[call_id, call.operation]
            if call.operation in ("once", "verifiable") and happened > 1:
                verdict.repeated.append(call_id)
            if call.operation == "idempotent" and happened > 1:
                verdict.repeated_idempotent += 1
            if call.result is None or not call.result.status.terminal:
                verdict.lost.append(call_id)
                continue
            state = call.result.status
            verdict.states[state] += 1
            if state is State.SUCCEEDED:
                if call.operation in ("idempotent", "verifiable", "once") and not happened:
                    verdict.without_effect.append(call_id)
                if call.result.value != call_id:
                    verdict.wrong.append(call_id)
            elif call.operation in ("read", "idempotent", "flaky", "verifiable"):
                verdict.failed_safe.append(f"{call_id} {call.operation} {state} {call.result.error}")
        return verdict


def ids_without_end(calls: Iterable[tuple[str, Told]]) -> list[str]:
    """The calls that nobody was told the end of so far."""
    return [call_id for call_id, call in calls if call.result is None or not call.result.status.terminal]
