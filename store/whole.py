"""Values too large for the ledger, whole: in pieces in the cache's Redis, as long as the result can be read there.

Nobody is promised that they stay (that server evicts, and forgets when it is restarted): a result says how large its
value is and what its hash is, so a caller who gets all of it knows that it is all, and one who does not is told so.
"""

from collections.abc import AsyncIterator

from store import keys
from store.connection import Broker
from toolswarm.errors import BrokerUnavailable, ValueGone
from toolswarm.messages import WholeValue

PIECE_BYTES = 1024 * 1024
MAX_WHOLE_BYTES = 64 * 1024 * 1024
"""A larger one is not kept at all: ten of them would push out everything that is remembered."""


class WholeValues:
    """Keeps them and gives them back, piece by piece: neither side holds one twice."""

    def __init__(self, cache: Broker, *, keep_s: int) -> None:
        self._cache = cache
        self._keep_s = keep_s

    async def keep(self, call_id: str, value: bytes) -> bool:
        """Keep it; False when it is too large, or when the server does not take it now."""
        if len(value) > MAX_WHOLE_BYTES:
            return False
        try:
            for number, at in enumerate(range(0, len(value), PIECE_BYTES)):
                piece = value[at : at + PIECE_BYTES]
                await self._cache.command("SET", keys.piece_key(call_id, number), piece, "EX", self._keep_s)
        except BrokerUnavailable:
            return False
        return True

    async def pieces(self, call_id: str, whole: WholeValue) -> AsyncIterator[bytes]:
        """The value, in order.

        Raises:
            ValueGone: it was never kept, or a piece of it is not there any more.
        """
        for number in range(-(-whole.size_bytes // PIECE_BYTES) if whole.kept else 1):
            piece = await self._cache.command("GET", keys.piece_key(call_id, number)) if whole.kept else None
            if piece is None:
                raise ValueGone(
                    "the whole value is not kept (any more): the result has its beginning", size_bytes=whole.size_bytes
                )
            yield piece
