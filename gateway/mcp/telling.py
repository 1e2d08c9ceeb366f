"""Errors in words that a model can act on: what happened, whether it may be repeated, and where to look."""

from typing import Any

import msgspec

from gateway.mcp.cutting import cut_text
from toolswarm.errors import BrokerUnavailable
from toolswarm.messages import ErrorInfo
from toolswarm.states import State

_DETAILS_BYTES = 4096
_TOLD_ELSEWHERE = frozenset({"operation"})
_PERHAPS = "It may have been accepted all the same: look before you repeat what must not happen twice."


def refused_text(error: ErrorInfo) -> str:
    """Of a call that was not accepted."""
    if error.code == BrokerUnavailable.code:
        return _joined(error, _PERHAPS)
    if error.retryable:
        return _joined(error, f"Nothing was run. Send it again{_after(error.details)}.")
    return _joined(error, "Nothing was run. Correct the call first.")


def ended_text(status: State, error: ErrorInfo, call_id: str) -> str:
    """Of a call that ended without success."""
    if status is State.UNKNOWN:
        return _joined(
            error,
            f"The outcome is unknown: it may or may not have happened. Look before you repeat it (call {call_id}).",
            start="" if error.code == "outcome_unknown" else "outcome_unknown: ",
        )
    if status is State.CANCELLED:
        return _joined(error, "The call was cancelled.")
    if status is State.EXPIRED:
        return _joined(error, "Its deadline passed before it could answer; nothing of it is left running.")
    if error.retryable:
        return _joined(error, f"The same call may succeed later: try it again{_after(error.details)}.")
    return _joined(error, "The same call would fail again.")


def _joined(error: ErrorInfo, advice: str, *, start: str = "") -> str:
    lines = [f"{start}{error.code}: {error.message}", advice]
    details = {name: value for name, value in error.details.items() if name not in _TOLD_ELSEWHERE}
    if details:
        lines.append("Details: " + cut_text(msgspec.json.encode(details, enc_hook=str).decode(), _DETAILS_BYTES))
    return "\n".join(lines)


def _after(details: dict[str, Any]) -> str:
    seconds = details.get("retry_after_s")
    return f" in {seconds:g} s" if isinstance(seconds, int | float) and seconds > 0 else ""
