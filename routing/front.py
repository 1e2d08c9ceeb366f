"""What every way in shares: authenticate elsewhere, then submit, wait, cancel and ask here. (Being written.)"""

from collections.abc import AsyncIterator, Sequence

import msgspec
from store.configuration import Configuration
from toolswarm.errors import ToolswarmError
from toolswarm.messages import CallEvent, Operation, Route, SubmitBody, SwarmStatus, ToolResult


class Caller(msgspec.Struct, frozen=True):
    """Who calls: the tenant and the principal that the API key stands for."""

    tenant: str = "default"
    principal: str = "default"


class Front:
    """The one producer of calls, for gateway, router pool and beat."""

    @classmethod
    async def open(cls, configuration: Configuration) -> "Front":
        """Make pools and start the waiter; does not need the broker to be up yet."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop waiting and close connections; bears being called twice."""

    async def ready(self) -> None:
        """Return when calls can be accepted.

        Raises:
            BrokerUnavailable: the broker does not answer.
        """

    async def submit(self, body: SubmitBody, caller: Caller) -> ToolResult:
        """Validate, classify, accept and enqueue; returns the call's id and state (accepted, or later when joined).

        Raises:
            UnknownOperation, InvalidArguments, InvalidRequest, IdempotencyConflict, BrokerUnavailable.
        """
        raise NotImplementedError

    async def submit_many(
        self, bodies: Sequence[SubmitBody], caller: Caller
    ) -> list[ToolResult | ToolswarmError]:
        """Submit each for itself: one that is refused does not touch the others."""
        raise NotImplementedError

    async def result(self, call_id: str, caller: Caller, wait_s: float) -> ToolResult:
        """The result, or after `wait_s` the state so far (not terminal).

        Raises:
            CallNotFound: no such call of this caller's tenant.
        """
        raise NotImplementedError

    async def cancel(self, call_id: str, caller: Caller) -> ToolResult:
        """Ask that the call stop; the state tells what came of it so far."""
        raise NotImplementedError

    def events(self, call_id: str, caller: Caller) -> AsyncIterator[CallEvent]:
        """The states of the call from now on, ending with the terminal one and its result."""
        raise NotImplementedError

    async def route(self, body: SubmitBody, caller: Caller) -> Route:
        """Where the call would go, and why; nothing is accepted."""
        raise NotImplementedError

    async def operations(self) -> list[Operation]:
        """The catalogue."""
        raise NotImplementedError

    async def status(self) -> SwarmStatus:
        """Workers, backlogs and counts."""
        raise NotImplementedError
