"""A call that was submitted: ask for its state, wait for it, cancel it."""

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from toolswarm.errors import ToolswarmError, WaitTimedOut
from toolswarm.messages import CallEvent, ToolResult
from toolswarm.options import value_of, whole_value
from toolswarm.patience import EARLY_ANSWER_S, RESULT_BACKOFF_S, Patience
from toolswarm.states import State
from toolswarm.transport import Transport

Answer = TypeVar("Answer")


class CallHandle:
    """One submitted call; may be shared by threads, and made anew from an id by `Client.handle`."""

    def __init__(self, transport: Transport, latest: ToolResult, *, timeout_s: float) -> None:
        self._transport = transport
        self._latest = latest
        self._timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"CallHandle({self.id!r}, {self._latest.status})"

    @property
    def id(self) -> str:
        """The call's id."""
        return self._latest.id

    @property
    def latest(self) -> ToolResult:
        """What was known of the call when it was last asked for; nothing is asked now."""
        return self._latest

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the call and give its value.

        Raises:
            CallFailed, CallCancelled, CallExpired, OutcomeUnknown: it ended without success.
            WaitTimedOut: it has not ended within `timeout_s`; it goes on.
            ValueGone: it succeeded, but its value was too large for the result and is not kept any more.
        """
        return self.value_until(time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s))

    def outcome(self, timeout_s: float | None = None) -> ToolResult:
        """Wait for the call and give all that is known of its end, whatever that was.

        Raises:
            WaitTimedOut: it has not ended within `timeout_s`; it goes on.
        """
        until = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        return self.outcome_until(until)

    def value_until(self, until: float) -> Any:
        """`result`, up to an instant of the monotonic clock."""
        ended = self.outcome_until(until)
        value = value_of(ended)
        if ended.meta.whole is None:
            return value
        return whole_value(ended, persist(lambda: self._transport.value(ended.id), Patience(until=until)))

    def outcome_until(self, until: float) -> ToolResult:
        """The same, up to an instant of the monotonic clock."""
        patience = Patience(until=until, backoff_s=RESULT_BACKOFF_S)
        asked = False
        while not self._latest.status.terminal:
            started = time.monotonic()
            wait_s = patience.slice_s(started)
            if asked and wait_s <= 0:
                raise timed_out(self._latest)
            self._latest = self._ask(patience, wait_s)
            asked = True
            early_s = min(EARLY_ANSWER_S, wait_s) - (time.monotonic() - started)
            if early_s > 0 and not self._latest.status.terminal:
                time.sleep(early_s)
        return self._latest

    def status(self) -> State:
        """The state of the call now."""
        if not self._latest.status.terminal:
            self._latest = self._ask(Patience(until=time.monotonic() + self._timeout_s), 0.0)
        return self._latest.status

    def cancel(self) -> State:
        """Ask that the call stop; the state tells what came of it so far."""
        patience = Patience(until=time.monotonic() + self._timeout_s)
        self._latest = persist(lambda: self._transport.cancel(self.id), patience)
        return self._latest.status

    def events(self) -> Iterator[CallEvent]:
        """The states of the call from now on, ending with the terminal one and its result."""
        return self._transport.events(self.id)

    def _ask(self, patience: Patience, wait_s: float) -> ToolResult:
        return persist(lambda: self._transport.result(self.id, wait_s=min(wait_s, _left_s(patience))), patience)


def persist(ask: Callable[[], Answer], patience: Patience) -> Answer:
    """Ask until there is an answer, or an error that the patience does not outlast."""
    while True:
        try:
            answer = ask()
        except ToolswarmError as error:
            delay_s = patience.delay_s(error, time.monotonic())
            if delay_s is None:
                raise
            time.sleep(delay_s)
        else:
            patience.answered()
            return answer


def timed_out(latest: ToolResult) -> WaitTimedOut:
    """The error for a call that goes on after its caller stopped waiting."""
    return WaitTimedOut(
        f"call {latest.id} has not ended yet ({latest.status}); it goes on, ask for its result later",
        id=latest.id,
        status=latest.status.value,
    )


def _left_s(patience: Patience) -> float:
    return patience.left_s(time.monotonic())
