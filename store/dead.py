"""The dead letters of a tenant: calls whose last attempt failed, and calls whose outcome nobody knows."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from store import keys
from store.connection import Broker, text
from store.ledger import decode_result
from toolswarm.messages import DeadGroup, DeadLetter, DeadRequest, ToolCall
from toolswarm.states import State

_BATCH = 500


class DeadLetters:
    """Reads and shortens the lists; what a letter says comes from the call's record."""

    def __init__(self, broker: Broker, *, retention_s: int) -> None:
        self._broker = broker
        self._retention_s = retention_s

    async def find(self, tenant: str, request: DeadRequest) -> list[tuple[DeadLetter, ToolCall]]:
        """All letters of the tenant that match, youngest first."""
        ids = [text(one) for one in await self._broker.command("ZREVRANGE", keys.dead_key(tenant), 0, -1)]
        if request.ids:
            wanted = set(request.ids)
            ids = [one for one in ids if one in wanted]
        found: list[tuple[DeadLetter, ToolCall]] = []
        for at in range(0, len(ids), _BATCH):
            records = await asyncio.gather(*(self._read(one) for one in ids[at : at + _BATCH]))
            found += [record for record in records if record is not None and _matches(record[0], request)]
        return found

    async def remove(self, tenant: str, call_id: str, *, note: str, value: str) -> bool:
        """Take a letter from the list and keep on its record what came of it; False when somebody else was first."""
        names = [keys.dead_key(tenant), keys.call_key(call_id)]
        return bool(await self._broker.script("unbury", names, [call_id, self._retention_s, note, value]))

    async def _read(self, call_id: str) -> tuple[DeadLetter, ToolCall] | None:
        raw_call, raw_result, ended_at = await self._broker.command(
            "HMGET", keys.call_key(call_id), "call", "result", "ended_at"
        )
        result = decode_result(raw_result)
        if raw_call is None or result is None or result.error is None:
            return None  # its record has expired
        call = msgspec.json.decode(raw_call, type=ToolCall)
        letter = DeadLetter(
            id=call_id,
            operation=call.operation,
            state=result.status,
            code=result.error.code,
            message=result.error.message,
            attempts=result.meta.attempts,
            accepted_at=result.meta.accepted_at or 0.0,
            ended_at=float(ended_at),
            details=result.error.details,
        )
        return letter, call


def group(letters: Iterable[DeadLetter]) -> tuple[DeadGroup, ...]:
    """The letters by what they have in common, biggest group first."""
    groups: dict[tuple[str, State, str], list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault((letter.operation, letter.state, letter.code), []).append(letter)
    made = [
        DeadGroup(
            operation=operation,
            state=state,
            code=code,
            count=len(members),
            first_at=min(member.ended_at for member in members),
            last_at=max(member.ended_at for member in members),
            message=max(members, key=lambda member: member.ended_at).message,
        )
        for (operation, state, code), members in groups.items()
    ]
    return tuple(sorted(made, key=lambda one: (-one.count, one.operation, one.code)))


_LONGEST_TEXT = 500
_SECRET_WORDS = ("secret", "token", "password", "passphrase", "api_key", "apikey", "authorization", "private_key")


def redact(value: Any, secret: Iterable[str] = ()) -> Any:
    """A value for people: without what is secret by declaration or by name, and with long texts cut."""
    hidden = set(secret)
    if isinstance(value, Mapping):
        mapping = cast("Mapping[str, Any]", value)
        return {
            name: "(not shown)"
            if name in hidden or any(word in name.lower() for word in _SECRET_WORDS)
            else redact(inner)
            for name, inner in mapping.items()
        }
    if isinstance(value, list):
        items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        return [redact(inner) for inner in items[:100]]
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return f"{value[:_LONGEST_TEXT]}… ({len(value)} characters)"
    return value


def _matches(letter: DeadLetter, request: DeadRequest) -> bool:
    return (
        (request.operation is None or request.operation == letter.operation)
        and (request.code is None or request.code == letter.code)
        and (request.state is None or request.state is letter.state)
    )
