"""What the exit status says: 0 ok, 1 the call failed, 2 usage or refused, 3 not reachable, 4 timed out, 5 unknown."""

from toolswarm.errors import (
    CallEnded,
    GatewayUnreachable,
    OutcomeUnknown,
    ToolswarmError,
    Unavailable,
    WaitTimedOut,
)
from toolswarm.states import State

OK = 0
FAILED = 1
REFUSED = 2
UNREACHABLE = 3
TIMED_OUT = 4
UNKNOWN = 5
INTERRUPTED = 130
BROKEN_PIPE = 141


def exit_of_state(state: State) -> int:
    """The exit status for what became of a call."""
    if not state.terminal:
        return TIMED_OUT
    return {State.SUCCEEDED: OK, State.UNKNOWN: UNKNOWN}.get(state, FAILED)


def exit_of_error(error: ToolswarmError) -> int:
    """The exit status for an error."""
    match error:
        case OutcomeUnknown():
            return UNKNOWN
        case CallEnded():
            return FAILED
        case WaitTimedOut():
            return TIMED_OUT
        case GatewayUnreachable() | Unavailable():
            return UNREACHABLE
        case _:
            status = error.details.get("http_status")
            # Neither an answer of ours nor a refusal: something else listens there, or the gateway is broken.
            broken = isinstance(status, int) and not 400 <= status < 500
            return UNREACHABLE if broken else REFUSED
