"""How many calls go into one batch, and which of them are sent again; no input or output."""

from collections.abc import Iterator, Sequence

from toolswarm.errors import ToolswarmError, Unavailable
from toolswarm.messages import SubmitBody, ToolResult, encode
from toolswarm.patience import WAIT_SLICE_S
from toolswarm.states import State
from toolswarm.transport import Outcome

BATCH_CALLS = 500
BATCH_BYTES = 500_000
"""Half of what the gateway takes by default (1000 calls, 1 MiB)."""
BATCH_WAIT_S = min(5.0, WAIT_SLICE_S)
"""Short, so that one slow call does not hold back the next part of a long list."""


def parts(bodies: Sequence[SubmitBody]) -> Iterator[slice]:
    """The list in parts that the gateway takes; a body that is too large alone is sent alone, and refused there."""
    start, size_bytes = 0, 0
    for index, body in enumerate(bodies):
        more_bytes = len(encode(body))
        if index > start and (index - start >= BATCH_CALLS or size_bytes + more_bytes > BATCH_BYTES):
            yield slice(start, index)
            start, size_bytes = index, 0
        size_bytes += more_bytes
    if start < len(bodies):
        yield slice(start, len(bodies))


def most_patient(outcomes: Sequence[Outcome]) -> tuple[list[int], ToolswarmError | None]:
    """The places of the calls that were refused for want of room, and the error that asks for the longest wait."""
    places: list[int] = []
    longest: ToolswarmError | None = None
    for place, outcome in enumerate(outcomes):
        if isinstance(outcome, Unavailable):
            places.append(place)
            if longest is None or _told_s(outcome) > _told_s(longest):
                longest = outcome
    return places, longest


def put(outcomes: Sequence[Outcome], places: Sequence[int], answers: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes with the answers at their places; the first round fills all of them."""
    if not outcomes:
        return list(answers)
    merged = list(outcomes)
    for place, answer in zip(places, answers, strict=True):
        merged[place] = answer
    return merged


def as_result(outcome: Outcome) -> ToolResult:
    """The outcome as a result: a call that was refused has failed, under an empty id since it was never accepted."""
    if isinstance(outcome, ToolResult):
        return outcome
    return ToolResult(id="", status=State.FAILED, error=outcome.info())


def _told_s(error: ToolswarmError) -> float:
    return float(error.details.get("retry_after_s", 0.0))
