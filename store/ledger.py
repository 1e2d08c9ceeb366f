"""The call ledger: one record per call, moved on only by the scripts beside this file, on Redis' own clock.

What it promises: a call is durable and its task enqueued before `accept` returns; it ends in exactly one terminal
state; only the attempt that holds the fence can end it; and each method may be repeated after a lost reply.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from store import keys
from store.connection import Broker, text
from store.heartbeat import redis_time
from toolswarm.errors import CallNotFound, IdempotencyConflict, Overloaded
from toolswarm.messages import Effect, Priority, ResultMeta, ToolCall, ToolResult, encode
from toolswarm.states import State

SESSION_SILENCE_S = 3.0
"""After three missed heartbeats of its worker a session is taken for lost."""


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a submitted call."""

    id: str
    joined: bool
    """The same request was accepted before, and this is that call."""
    state: State
    accepted_at: float
    result: ToolResult | None = None


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """The right to run one attempt of a call, until the lease is not renewed any more."""

    id: str
    fence: int
    nonce: str
    attempt: int
    call: ToolCall
    accepted_at: float
    claimed_at: float
    deadline: float
    in_doubt: bool = False
    """An earlier attempt had begun its effect, and nobody knows whether it happened."""
    fallback_from: str | None = None
    """The operation that could not be begun, and that this one stands in for."""
    can_fall_back: bool = False


class Refusal(StrEnum):
    """Why a claim was not granted; in each case the task is a leftover, to be acknowledged and dropped."""

    BUSY = "busy"
    ENDED = "ended"
    GONE = "gone"


class Verdict(StrEnum):
    """What the ledger says to the holder of a grant."""

    OK = "ok"
    CANCEL = "cancel"
    LOST = "lost"


class Release(StrEnum):
    """What came of giving a call back."""

    OK = "ok"
    LOST = "lost"
    LATE = "late"
    """Its deadline or its last attempt comes first: nothing was changed, the holder must end it."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant may have of each queue (see `Fairness` in store/scripts/prelude.lua)."""

    window: int = 4
    """How many of its tasks lie in the shared list at once: its weight in the turn of tenants."""
    most_held: int = 0
    """How many of its calls run at once in one queue; 0: no limit."""
    most_waiting: int = 10_000
    most_waiting_of_all: int = 100_000


class Fallback(msgspec.Struct, frozen=True, kw_only=True):
    """The same call as another operation would run it."""

    call: ToolCall
    tool: str
    queue: str
    effect: Effect
    message: bytes

    def encode(self) -> bytes:
        """As fall_back.lua takes it apart: lines, none of which can have a line end in it."""
        lists = keys.call_list(self.queue, Priority(self.call.priority))
        fields = (self.call.operation, self.tool, self.queue, lists, keys.bell_key(self.queue), self.effect.value)
        return b"\n".join([*(field.encode() for field in fields), self.message, encode(self.call)])


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A call with all that the ledger keeps beside it."""

    call: ToolCall
    tool: str
    queue: str
    effect: Effect
    message: bytes
    """The Celery message; it is enqueued again as it is."""
    request_hash: str
    wake: str
    """Channel that is told the end."""
    share: Share = Share()
    fallbacks: tuple[Fallback, ...] = ()
    """What to try, in order, when the operation cannot be begun."""


class Ledger:
    """The transitions of calls, as methods."""

    def __init__(self, broker: Broker, *, retention_s: int, call_deadline_s: float, max_attempts: int) -> None:
        self._broker = broker
        self._retention_s = retention_s
        self._call_deadline_s = call_deadline_s
        self._max_attempts = max_attempts

    async def now(self) -> float:
        """The ledger's clock: the only one that leases and deadlines are counted on."""
        return await redis_time(self._broker)

    async def accept(self, submission: Submission, *, retry_for_s: float = 0.0) -> Acceptance:
        """Make the call durable and enqueue its task, in one step.

        Raises:
            Overloaded: too many calls of this tenant, or in this queue, wait already.
            IdempotencyConflict: the key (or the id) was used for another request.
            BrokerUnavailable: no answer; the call may or may not have been accepted, ask again with the same id.
        """
        call = submission.call
        key = keys.call_key(call.id)
        idempotency = key
        if call.idempotency_key is not None:
            idempotency = keys.idempotency_key(call.tenant, call.principal, call.idempotency_key)
        reply = await self._broker.script(
            "accept",
            [
                key,
                idempotency,
                keys.call_list(submission.queue, Priority(call.priority)),
                keys.bell_key(submission.queue),
            ],
            [
                call.id,
                submission.request_hash,
                "" if call.deadline is None else f"{call.deadline:.6f}",
                self._call_deadline_s,
                self._retention_s,
                submission.message,
                call.tenant,
                submission.share.window,
                submission.share.most_held,
                submission.share.most_waiting,
                submission.share.most_waiting_of_all,
                *("call", encode(call)),
                *("operation", call.operation),
                *("tool", submission.tool),
                *("queue", submission.queue),
                *("effect", submission.effect.value),
                *("principal", call.principal),
                *("max_attempts", self._max_attempts),
                *("reply", submission.wake),
                *(
                    part
                    for place, fallback in enumerate(submission.fallbacks, 1)
                    for part in (f"fallback:{place}", fallback.encode())
                ),
            ],
            retry_for_s=retry_for_s,
        )
        if reply[0] == b"conflict":
            raise IdempotencyConflict(
                "this idempotency key belongs to another request: use a fresh key for a different call",
                id=text(reply[1]),
            )
        if reply[0] == b"full":
            raise _full(text(reply[1]), int(reply[2]))
        return Acceptance(
            joined=reply[0] == b"joined",
            id=text(reply[1]),
            state=State(text(reply[2])),
            result=decode_result(reply[3]),
            accepted_at=float(reply[4]),
        )

    async def claim(
        self, call_id: str, *, worker: str, nonce: str, lease_s: float, retry_for_s: float = 0.0
    ) -> Grant | Refusal:
        """Take the call for one attempt, or learn why not."""
        reply = await self._broker.script(
            "claim", [keys.call_key(call_id)], [call_id, worker, nonce, lease_s], retry_for_s=retry_for_s
        )
        if reply[0] != b"granted":
            return Refusal(text(reply[0]))
        return Grant(
            id=call_id,
            fence=int(reply[1]),
            nonce=nonce,
            attempt=int(reply[2]),
            call=msgspec.json.decode(reply[3], type=ToolCall),
            accepted_at=float(reply[4]),
            claimed_at=float(reply[5]),
            deadline=float(reply[6]),
            in_doubt=reply[7] == b"1",
            fallback_from=text(reply[8]) or None,
            can_fall_back=bool(reply[9]),
        )

    async def begin_effect(self, grant: Grant, *, retry_for_s: float = 0.0) -> Verdict:
        """Record that the point of no return comes next; only on `ok` may it be passed."""
        reply = await self._broker.script(
            "effecting", [keys.call_key(grant.id)], [grant.id, grant.fence, grant.nonce], retry_for_s=retry_for_s
        )
        return Verdict(text(reply))

    async def renew(self, grants: Sequence[Grant], *, lease_s: float) -> list[Verdict]:
        """Renew the leases of everything that a worker runs; one answer each, in order."""
        arguments: list[str | int | float] = [lease_s]
        for grant in grants:
            arguments += [grant.id, grant.fence, grant.nonce]
        reply = await self._broker.script("renew", [], arguments)
        return [Verdict(text(answer)) for answer in reply]

    async def finish(self, grant: Grant, result: ToolResult, *, dead: bool = False, retry_for_s: float = 0.0) -> bool:
        """End the call; False when the grant had been lost, and the result was not taken.

        `dead` puts it on the list of dead letters: it failed although it was tried as often as it may be.
        """
        reply = await self._broker.script(
            "finish",
            [keys.call_key(grant.id)],
            [grant.id, grant.fence, grant.nonce, result.status.value, encode(result), "1" if dead else "0"],
            retry_for_s=retry_for_s,
        )
        return bool(reply == b"ok")

    async def release(
        self, grant: Grant, *, delay_s: float = 0.0, counts: bool = False, retry_for_s: float = 0.0
    ) -> Release:
        """Give the call back for another attempt, now or after a delay; `counts` says that this attempt was one."""
        reply = await self._broker.script(
            "release",
            [keys.call_key(grant.id)],
            [grant.id, grant.fence, grant.nonce, f"{max(0.0, delay_s):.6f}", "1" if counts else "0"],
            retry_for_s=retry_for_s,
        )
        return Release(text(reply))

    async def fall_back(self, grant: Grant, *, retry_for_s: float = 0.0) -> Release:
        """Hand the call to the next operation of its chain; `late` when there is none that may run."""
        reply = await self._broker.script(
            "fall_back", [keys.call_key(grant.id)], [grant.id, grant.fence, grant.nonce], retry_for_s=retry_for_s
        )
        return Release(text(reply))

    async def say(self, grant: Grant, said: Sequence[bytes]) -> bool:
        """Tell followers what the operation says (JSON objects); False when nobody follows."""
        reply = await self._broker.script("say", [keys.call_key(grant.id)], [grant.id, grant.fence, grant.nonce, *said])
        return bool(reply == b"1")

    async def cancel(self, call_id: str, tenant: str) -> ToolResult:
        """Ask that a call stop; a running one is stopped by its worker within a third of the lease.

        Raises:
            CallNotFound: the tenant has no such call.
        """
        reply = await self._broker.script("cancel", [keys.call_key(call_id)], [call_id, tenant])
        if not reply:
            raise not_found(call_id)
        return decode_result(reply[1]) or ToolResult(id=call_id, status=State(text(reply[0])))

    async def watch(self, call_id: str, tenant: str, channel: str) -> tuple[ToolResult, float]:
        """The state of a call and the time of its last change; until it ends the channel hears of each further one.

        Raises:
            CallNotFound: the tenant has no such call.
        """
        reply = await self._broker.script("watch", [keys.call_key(call_id)], [tenant, channel])
        if not reply:
            raise not_found(call_id)
        pending = ToolResult(id=call_id, status=State(text(reply[0])), meta=ResultMeta(accepted_at=float(reply[2])))
        return decode_result(reply[1]) or pending, float(reply[3])

    async def read_result(self, call_id: str) -> tuple[bool, ToolResult | None]:
        """Whether the call's record exists, and its result if it has ended."""
        state, result = await self._broker.command("HMGET", keys.call_key(call_id), "state", "result")
        return state is not None, decode_result(result)

    async def sweep(self, limit: int = 200) -> list[tuple[str, str]]:
        """Look at the calls that are due; for each one that was touched its id and what was done (sweep.lua)."""
        reply = await self._broker.script("sweep", [], [limit, SESSION_SILENCE_S])
        return [(text(reply[at]), text(reply[at + 1])) for at in range(0, len(reply), 2)]

    async def count_refused(self, tool: str) -> None:
        """Count a task that a worker of the tool did not believe; it stands beside the terminal states."""
        await self._broker.script("count_refused", [keys.COUNTERS], [tool])

    async def counts(self) -> dict[str, dict[str, int]]:
        """Tool -> terminal state -> calls ended so; `refused` -> tasks that were not believed."""
        reply = await self._broker.command("HGETALL", keys.COUNTERS)
        counts: dict[str, dict[str, int]] = {}
        for at in range(0, len(reply), 2):
            tool, _, state = text(reply[at]).partition("|")
            counts.setdefault(tool, {})[state] = int(reply[at + 1])
        return counts


def decode_result(stored: Any) -> ToolResult | None:
    """A stored result, or None for an empty field."""
    return msgspec.json.decode(stored, type=ToolResult) if stored else None


def _full(what: str, waiting: int) -> Overloaded:
    whose = "of yours" if what == "tenant" else "of all tenants"
    return Overloaded(
        f"{waiting} calls {whose} wait in this queue already: try again later", waiting=waiting, retry_after_s=1
    )


def not_found(call_id: str) -> CallNotFound:
    """The same answer for a call that never was, has expired, or is another tenant's."""
    return CallNotFound("there is no such call (results are kept for a limited time)", id=call_id[:64])
