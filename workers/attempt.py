"""One attempt of a call: what the operation sees of it, and how it is stopped."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from store.ledger import Grant, Ledger, Verdict
from toolswarm.errors import ToolswarmError
from toolswarm.messages import ToolCall
from workers.telling import Teller

T = TypeVar("T")


class LeaseLost(ToolswarmError):
    """Another attempt holds the call, it has ended, or it was cancelled: change nothing."""

    code = "lease_lost"


class StopReason(StrEnum):
    """Why an attempt is stopped before its operation has answered."""

    TIME_LIMIT = "time_limit"
    DEADLINE = "deadline"
    CANCEL = "cancel"
    LOST = "lost"
    DRAIN = "drain"


class Attempt:
    """Implements `tasks.operation.Run` for the worker."""

    def __init__(self, grant: Grant, ledger: Ledger, *, lease_s: float, asked_at: float, worker: str) -> None:
        self.grant = grant
        self.worker = worker
        self.in_doubt = grant.in_doubt
        """Whether an earlier attempt may have had its effect, and nobody has looked yet."""
        self.effect_begun = False
        self.place: str | None = None
        self.stopped_by: StopReason | None = None
        self.lease_ends_at = asked_at + lease_s
        """On this process' monotonic clock, counted from before the claim was sent: never later than the ledger's."""
        self._ledger = ledger
        self._lease_s = lease_s
        self._loop = asyncio.get_running_loop()
        self.teller = Teller(ledger, grant)
        self._ends_at = float("inf")
        self._cancel: Callable[[], Any] | None = None

    # -- what the operation may ask and say ------------------------------------------------------------------

    @property
    def call(self) -> ToolCall:
        """The call that is run."""
        return self.grant.call

    @property
    def fence(self) -> int:
        """Grows with every attempt of this call."""
        return self.grant.fence

    def remaining_s(self) -> float:
        """Seconds until the attempt is stopped."""
        return max(0.0, self._ends_at - time.monotonic())

    def stop_requested(self) -> bool:
        """Whether the attempt is to stop now: also when its lease is over and nobody has noticed yet.

        An operation that asks while it holds the lock of what it changes applies its writes in the order of fences.
        """
        return self.stopped_by is not None or time.monotonic() >= self.lease_ends_at

    def executed_on(self, place: str) -> None:
        """Say where the effect happens."""
        self.place = place

    def tell(self, output: Mapping[str, Any]) -> None:
        """Say something to whoever follows the call."""
        self.teller.tell(output)

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the worker's loop, from the operation's thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def begin_effect(self) -> None:
        """Record the point of no return, from the operation's thread."""
        self.wait(self.begin_effect_async())

    async def begin_effect_async(self) -> None:
        """Record the point of no return.

        Raises:
            LeaseLost: it must not be passed.
        """
        if self.stopped_by is not None:
            raise LeaseLost("the attempt is being stopped: its effect must not begin")
        verdict = await self._ledger.begin_effect(self.grant, retry_for_s=self._lease_s)
        if verdict is Verdict.CANCEL:
            self.stop(StopReason.CANCEL)
        elif verdict is Verdict.LOST:
            self.stop(StopReason.LOST)
        else:
            self.effect_begun = True
            return
        raise LeaseLost("the call was cancelled or is held by another attempt: its effect must not begin")

    # -- what the worker does with it ------------------------------------------------------------------------

    def limit(self, seconds: float) -> None:
        """From now on the operation has this long."""
        self._ends_at = time.monotonic() + seconds

    def on_stop(self, cancel: Callable[[], Any]) -> None:
        """What interrupts the operation; called on the loop, at once if it was stopped already."""
        self._cancel = cancel
        if self.stopped_by is not None:
            cancel()

    def stop(self, reason: StopReason) -> None:
        """Interrupt the operation; the first reason counts."""
        if self.stopped_by is None:
            self.stopped_by = reason
            if self._cancel is not None:
                self._cancel()

    def renewed(self, asked_at: float) -> None:
        """The ledger renewed the lease for a request that was sent at `asked_at` (monotonic)."""
        self.lease_ends_at = asked_at + self._lease_s
