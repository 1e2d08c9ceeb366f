"""What the gateway has to remember of MCP beside the calls themselves, for all its replicas.

A client whose stream breaks sends its request anew, to whatever replica: `note_left` and `take_left` let it find the
call that it left. A task that asks something is a chain of calls under one id: its record says which call is the last
one, and what was answered so far. Both expire.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from store import keys
from store.catalogue import Catalogue
from store.connection import Broker, text
from toolswarm.messages import Context, Operation, Priority, canonical

CATALOGUE_FRESH_S = 0.25
"""Clients that listen are told of a change after this: by then every replica lists it."""
LEFT_S = 60
"""For so long a client that comes back finds the call that it left."""
_ANSWER = "answer:"


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A task that may ask: the request, the call that runs for it now, and what was answered in this round."""

    tenant: str
    operation: str
    arguments: dict[str, Any]
    context: Context
    priority: Priority
    call_id: str = ""
    round: int = 0
    answered: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    cancelled: bool = False


def left_digest(tenant: str, principal: str, operation: str, arguments: Mapping[str, Any]) -> str:
    """Names a request: the same for the same request of the same principal."""
    return hashlib.sha256(canonical([tenant, principal, operation, dict(arguments)])).hexdigest()[:40]


class McpRecords:
    """Reads and writes the records on the broker's Redis."""

    def __init__(self, broker: Broker, *, retention_s: int, call_deadline_s: float) -> None:
        self.task_ttl_s = retention_s
        self._broker = broker
        self._expiry_s = retention_s + int(call_deadline_s)
        self._catalogue = Catalogue(broker, fresh_s=CATALOGUE_FRESH_S)
        self._operations: dict[str, Operation] = {}
        self._listed: list[Operation] = []

    async def close(self) -> None:
        """Close the connections."""
        await self._broker.close()

    async def operations(self) -> list[Operation]:
        """The catalogue, sorted by name, at most a quarter of a second old; the same list while nothing changes."""
        now = await self._catalogue.operations()
        if now is not self._operations:
            self._operations, self._listed = now, list(now.values())
        return self._listed

    async def note_left(self, digest: str, call_id: str) -> None:
        """Nobody waits for this call any more; whoever sends the request again may have it."""
        await self._broker.command("SET", keys.left_call_key(digest), call_id, "EX", LEFT_S)

    async def take_left(self, digest: str) -> str | None:
        """The call that was left by whoever sent this request before; the next one who asks gets None."""
        found = await self._broker.command("GETDEL", keys.left_call_key(digest))
        return None if found is None else text(found)

    async def put_task(self, task_id: str, record: TaskRecord) -> None:
        """Keep the record of a new task."""
        fields: dict[str, str | bytes] = {"task": msgspec.json.encode(record), "call_id": record.call_id, "round": "0"}
        await self._put(task_id, fields)

    async def task(self, task_id: str) -> TaskRecord | None:
        """The record; None when the task cannot ask, or is not one."""
        return _record(await self._broker.command("HGETALL", keys.task_key(task_id)))

    async def answer(self, task_id: str, record: TaskRecord, responses: Mapping[str, Any]) -> TaskRecord | None:
        """Add answers to the round of `record`; the record with all of them, or None when the round is over."""
        fields: dict[str, str | bytes] = {
            f"{_ANSWER}{record.round}:{name}": msgspec.json.encode(response) for name, response in responses.items()
        }
        return _record(await self._put(task_id, fields, round=record.round))

    async def advance(self, task_id: str, record: TaskRecord, call_id: str) -> None:
        """The next round has begun, with this call; bears being said by several at once."""
        await self._put(task_id, {"call_id": call_id, "round": str(record.round + 1)}, round=record.round)

    async def cancel(self, task_id: str, record: TaskRecord) -> bool:
        """The task is over, unless it was answered meanwhile; False then."""
        return bool(await self._put(task_id, {"cancelled": "1"}, round=record.round))

    async def _put(self, task_id: str, fields: Mapping[str, str | bytes], *, round: int | None = None) -> Any:
        guard = ("", "") if round is None else ("round", str(round))
        flat = [part for pair in fields.items() for part in pair]
        return await self._broker.script("put_hash", [keys.task_key(task_id)], [self._expiry_s, *guard, *flat])


def _record(reply: Any) -> TaskRecord | None:
    fields = {text(reply[at]): cast("bytes", reply[at + 1]) for at in range(0, len(reply), 2)}
    if "task" not in fields:
        return None
    number = int(fields["round"])
    prefix = f"{_ANSWER}{number}:"
    return msgspec.structs.replace(
        msgspec.json.decode(fields["task"], type=TaskRecord),
        call_id=text(fields["call_id"]),
        round=number,
        answered={
            name.removeprefix(prefix): msgspec.json.decode(value)
            for name, value in fields.items()
            if name.startswith(prefix)
        },
        cancelled="cancelled" in fields,
    )
