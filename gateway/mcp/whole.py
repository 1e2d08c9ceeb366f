"""Values that were too large for the ledger: fetched, so that what is left after cutting has the shape to expect."""

from collections.abc import AsyncIterator

import msgspec

from gateway.bounds import BoundedFront
from routing.front import Caller
from toolswarm.errors import Unavailable, ValueGone
from toolswarm.messages import ToolResult

MOST_BYTES = 16 * 1024 * 1024
"""Of a larger one only the beginning is told: a gateway serves many at once."""


async def with_whole_value(front: BoundedFront, result: ToolResult, caller: Caller) -> ToolResult:
    """The result with its value whole; as it is when the value is too large, or not kept any more."""
    whole = result.meta.whole
    if whole is None or not whole.kept or whole.size_bytes > MOST_BYTES:
        return result
    try:
        value = msgspec.json.decode(b"".join([piece async for piece in front.value(result.id, caller)]))
    except (ValueGone, Unavailable):
        return result
    return msgspec.structs.replace(result, value=value, meta=msgspec.structs.replace(result.meta, whole=None))


async def part(pieces: AsyncIterator[bytes], offset: int, most_bytes: int) -> bytes:
    """So much of a value from there on."""
    found, at = bytearray(), 0
    async for piece in pieces:
        found += piece[max(0, offset - at) :]
        at += len(piece)
        if len(found) >= most_bytes:
            break
    return bytes(found[:most_bytes])
