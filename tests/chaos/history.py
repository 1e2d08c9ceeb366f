"""What was asked, what was told and what happened; and whether these agree.

Each actor appends lines of JSON to a file as it goes on: callers and who does the faults to the journal, the operations
to the file of effects. A verdict is found from these files alone: `python -m tests.chaos.history JOURNAL EFFECTS`.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from toolswarm.messages import ToolResult
from toolswarm.states import State

CHANGES = ("idempotent", "verifiable", "once")
"""The operations of the chaos tool that have an effect when they succeed."""
SAFE_TO_REPEAT = ("read", "idempotent", "flaky", "verifiable")


@dataclass
class Told:
    """One accepted call: what was asked, and what its caller was told in the end."""

    operation: str
    accepted_at: float
    result: ToolResult | None = None
    told_at: float | None = None

    @property
    def ended(self) -> bool:
        return self.result is not None and self.result.status.terminal


@dataclass
class Fault:
    """Something that was done to the system, from when until when (monotonic seconds)."""

    name: str
    at: float
    over_at: float


@dataclass
class Recovery:
    """How long it took after a fault had begun."""

    name: str
    next_success_s: float | None
    """Until some caller was told of a success; None: never."""
    all_ended_s: float | None
    """Until the last call that was open when it began had its end (0: none was open); None: one has none."""


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
    uncalled: list[str] = field(default_factory=list[str])
    """An effect that no accepted call had asked for."""
    without_effect: list[str] = field(default_factory=list[str])
    """Told as succeeded, and nothing happened."""
    wrong: list[str] = field(default_factory=list[str])
    """Told another call's value."""
    failed_safe: list[str] = field(default_factory=list[str])
    """Safe to repeat, hit by something transient, and yet without success."""
    repeated_idempotent: int = 0
    recoveries: list[Recovery] = field(default_factory=list[Recovery])

    @property
    def broken(self) -> list[str]:
        """Everything that must not be, whatever happens to the system."""
        kinds = ("lost", "repeated", "uncalled", "without_effect", "wrong")
        return [f"{kind}: {one}" for kind in kinds for one in getattr(self, kind)]

    def __str__(self) -> str:
        states = ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))
        return (
            f"{self.accepted} accepted ({states}), {self.refused} refused; lost {len(self.lost)}, second effects "
            f"{len(self.repeated)}, effects without a call {len(self.uncalled)}, succeeded without effect "
            f"{len(self.without_effect)}, wrong value {len(self.wrong)}, safe to repeat and not succeeded "
            f"{len(self.failed_safe)}; idempotent ones repeated {self.repeated_idempotent}"
        )

    def describe_recoveries(self) -> str:
        """One line a kind of fault: how often, and median and longest times."""
        kinds = defaultdict[str, list[Recovery]](list)
        for one in self.recoveries:
            kinds[one.name].append(one)
        return "\n".join(
            f"{name} {len(some)} times: next success after {spread(one.next_success_s for one in some)}, "
            f"all that were open ended after {spread(one.all_ended_s for one in some)}"
            for name, some in sorted(kinds.items())
        )


class History:
    """Written by the callers, and by who does the faults, as it happens. Times are monotonic seconds."""

    def __init__(self, journal: Path | None = None) -> None:
        self.calls: dict[str, Told] = {}
        self.refused = 0
        self.faults: list[Fault] = []
        self.successes = 0
        self._journal = journal.open("a", encoding="utf-8", buffering=1) if journal is not None else None

    @classmethod
    def read(cls, journal: Path) -> "History":
        """What a journal tells."""
        history = cls()
        for line in journal.read_text(encoding="utf-8").splitlines():
            history.note(json.loads(line))
        return history

    def accepted(self, call_id: str, operation: str, at: float) -> None:
        self.note({"event": "accepted", "at": at, "call": call_id, "operation": operation})

    def refuse(self, at: float) -> None:
        self.note({"event": "refused", "at": at})

    def told(self, result: ToolResult, at: float) -> None:
        self.note({"event": "told", "at": at, "result": msgspec.to_builtins(result)})

    def struck(self, name: str, at: float, over_at: float) -> None:
        self.note({"event": "fault", "at": at, "over_at": over_at, "name": name})

    def note(self, event: dict[str, Any]) -> None:
        """One event, into the journal first."""
        if self._journal is not None:
            self._journal.write(f"{json.dumps(event)}\n")
        at = float(event["at"])
        match event["event"]:
            case "accepted":
                self.calls.setdefault(event["call"], Told(event["operation"], at))
            case "refused":
                self.refused += 1
            case "fault":
                self.faults.append(Fault(event["name"], at, event["over_at"]))
            case _:
                self._note_end(msgspec.convert(event["result"], ToolResult), at)

    def close(self) -> None:
        """Nothing more is written."""
        if self._journal is not None:
            self._journal.close()

    def without_end(self) -> list[str]:
        """The calls that nobody was told the end of so far."""
        return [call_id for call_id, call in self.calls.items() if not call.ended]

    def succeeded_between(self, begin: float, end: float) -> int:
        """How many callers were told of a success in that time."""
        return sum(begin <= at < end for at in self._successes())

    def check(self, effects_file: Path) -> Verdict:
        effects = read_effects(effects_file)
        verdict = Verdict(accepted=len(self.calls), refused=self.refused, recoveries=self._recoveries())
        for call_id, what in effects:
            call = self.calls.get(call_id)
            if what in CHANGES and (call is None or call.operation != what):
                verdict.uncalled.append(f"{call_id} {what}")
        for call_id, call in self.calls.items():
            _judge(verdict, call_id, call, effects[call_id, call.operation])
        return verdict

    def _note_end(self, result: ToolResult, at: float) -> None:
        call = self.calls[result.id]
        assert call.result is None or call.result.status is result.status, f"{result.id} was told two ends"
        call.result, call.told_at = result, at
        self.successes += result.status is State.SUCCEEDED

    def _successes(self) -> list[float]:
        return sorted(
            call.told_at
            for call in self.calls.values()
            if call.told_at is not None and call.result is not None and call.result.status is State.SUCCEEDED
        )

    def _recoveries(self) -> list[Recovery]:
        successes = self._successes()
        found: list[Recovery] = []
        for fault in self.faults:
            next_one = next((at - fault.at for at in successes if at > fault.at), None)
            open_then = [
                call.told_at
                for call in self.calls.values()
                if call.accepted_at <= fault.at and (call.told_at is None or call.told_at > fault.at)
            ]
            ends = [at - fault.at for at in open_then if at is not None]
            all_ended = max(ends, default=0.0) if len(ends) == len(open_then) else None
            found.append(Recovery(fault.name, next_one, all_ended))
        return found


def read_effects(file: Path) -> Counter[tuple[str, str]]:
    """How often each call had which effect."""
    effects = Counter[tuple[str, str]]()
    for line in file.read_text().splitlines() if file.exists() else []:
        effect = json.loads(line)
        effects[effect["call"], effect["what"]] += 1
    return effects


def spread(seconds: Iterable[float | None]) -> str:
    """Median and longest, for people; `never` when it did not happen each time."""
    known = list(seconds)
    happened = sorted(one for one in known if one is not None)
    if len(happened) < len(known) or not happened:
        return f"never ({len(known) - len(happened)} of {len(known)})" if known else "-"
    return f"{median(happened):.1f} s (longest {happened[-1]:.1f} s)"


def _judge(verdict: Verdict, call_id: str, call: Told, happened: int) -> None:
    if call.operation in ("once", "verifiable") and happened > 1:
        verdict.repeated.append(f"{call_id} {call.operation}")
    if call.operation == "idempotent" and happened > 1:
        verdict.repeated_idempotent += 1
    if call.result is None or not call.ended:
        verdict.lost.append(call_id)
        return
    state = call.result.status
    verdict.states[state] += 1
    if state is State.SUCCEEDED:
        if call.operation in CHANGES and not happened:
            verdict.without_effect.append(call_id)
        if call.result.value != call_id:
            verdict.wrong.append(call_id)
    elif call.operation in SAFE_TO_REPEAT:
        verdict.failed_safe.append(f"{call_id} {call.operation} {state} {call.result.error}")


if __name__ == "__main__":
    found = History.read(Path(sys.argv[1])).check(Path(sys.argv[2]))
    print(found)
    print(found.describe_recoveries())
    sys.exit(1 if found.broken else 0)
