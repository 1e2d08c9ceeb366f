"""Level 2: answers in the cache Redis, the generations of tags, and who runs for all who ask the same.

Each method raises BrokerUnavailable when the cache Redis does not answer, or refuses for now.
"""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from cache import entry
from cache.entry import Kept
from cache.rules import Key
from cache.seal import Sealer, tag_digest
from store.connection import Argument, Broker, text
from store.keys import cached_key, flight_key, generation_key

GENERATIONS_KEPT_S = 3600.0
"""At least: a generation that is forgotten costs the answers under it, nothing else."""
_MOST_KNOWN = 8192
RETRY_FOR_S = 0.06
"""A connection that lay idle while the server restarted fails at its first use; one that hangs is not tried twice."""


class Looked(msgspec.Struct, frozen=True):
    """An answer that may be used, and how much longer it is kept."""

    kept: Kept
    left_s: float


class Level2:
    """The cache Redis."""

    def __init__(self, server: Broker, sealer: Sealer) -> None:
        self._server = server
        self._sealer = sealer
        self._tags: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self.home = ""
        """The run of the server that answers now."""
        self.refused = 0
        """Entries that did not open: of another secret, moved, or changed."""

    async def settle(self) -> None:
        """Learn which run of the server answers: what was kept for another one is not used."""
        said = text(await self._server.command("INFO", "server", retry_for_s=RETRY_FOR_S))
        self.home = next((line[7:] for line in said.splitlines() if line.startswith("run_id:")), "")

    async def get(self, name: str) -> Looked | None:
        """The answer, when all that it depends on is as it was.

        The tags that an entry had last are asked for with it; only the first time they are not known beforehand.
        """
        key = cached_key(name)
        known = self._tags.get(name, ())
        server = self._server
        replies, left_ms = await asyncio.gather(
            server.command("MGET", key, *generation_keys(known), retry_for_s=RETRY_FOR_S),
            server.command("PTTL", key, retry_for_s=RETRY_FOR_S),
        )
        stored: bytes | None = replies[0]
        if stored is None or left_ms <= 0:
            return None
        kept = entry.decode(self._sealer, name, stored)
        if kept is None:
            self.refused += 1
            return None
        if kept.home != self.home:
            return None
        tags = tuple(tag for tag, _ in kept.tags)
        generations: Sequence[bytes | None] = replies[1:]
        if tags != known:
            self._learn(name, tags)
            generations = await server.command("MGET", *generation_keys(tags), retry_for_s=RETRY_FOR_S) if tags else ()
        if not entry.unchanged(kept, tags, generations):
            return None
        return Looked(kept, left_ms / 1000)

    async def peek(self, name: str) -> Kept | None:
        """What lies there, whether or not it may be used."""
        stored = await self._server.command("GET", cached_key(name), retry_for_s=RETRY_FOR_S)
        return None if stored is None else entry.decode(self._sealer, name, stored)

    async def begin(
        self, key: Key, tags: Sequence[str], call_id: str, *, life_s: float
    ) -> tuple[float, dict[str, bytes]]:
        """A read begins whose answer may live for so long: Redis' time, and the generations of its tags."""
        reply = await self._server.script(
            "cache_begin",
            [self._flight(key), *generation_keys(tags)],
            [call_id, _seed(), max(2 * life_s, GENERATIONS_KEPT_S)],
        )
        return float(reply[0]), dict(zip(tags, reply[1:], strict=True))

    async def fill(
        self, key: Key, call_id: str, kept: Kept, *, home: str, began_at: float, generations: Mapping[str, bytes]
    ) -> str:
        """Keep the answer of a read that began at this home: `ok`, or why not: `changed`, `older`."""
        stored = entry.encode(self._sealer, key.name, msgspec.structs.replace(kept, home=home), began_at)
        names = [cached_key(key.name), self._flight(key), *generation_keys(tuple(generations))]
        arguments: list[Argument] = [call_id, stored, max(1, int(kept.life_s * 1000)), *generations.values()]
        return text(await self._server.script("cache_fill", names, arguments))

    async def change(
        self,
        what: Literal["begin", "end"],
        digests: Sequence[str],
        call_id: str = "",
        *,
        hold_s: float = 0.0,
    ) -> None:
        """What has the tags (their digests) changes from `begin` to `end`; an `end` alone says that it has."""
        names = [generation_key(digest) for digest in digests]
        await self._server.script("cache_change", names, [what, call_id, _seed(), hold_s, GENERATIONS_KEPT_S])

    async def lease(self, key: Key, call_id: str, *, rank: int, lease_s: float, not_this: str) -> tuple[str, bool]:
        """The id of the call that runs for all who ask the same, and whether it has said that its read began."""
        arguments: list[Argument] = [call_id, rank, max(1, int(lease_s * 1000)), not_this]
        holder, begun = await self._server.script("cache_lease", [self._flight(key)], arguments)
        return holder.decode(errors="replace"), begun == b"1"  # what is no call's id is joined by nobody

    async def let_go(self, key: Key, call_id: str) -> None:
        """It runs for all no more."""
        await self._server.script("cache_let_go", [self._flight(key)], [call_id])

    async def stats(self) -> dict[str, int]:
        """What the server says of itself."""
        fields: dict[str, str] = {}
        for section in ("memory", "stats"):
            said = text(await self._server.command("INFO", section))
            fields |= {name: value for name, _, value in (line.partition(":") for line in said.splitlines())}
        return {
            "used_bytes": int(fields["used_memory"]),
            "limit_bytes": int(fields["maxmemory"]),
            "evicted": int(fields["evicted_keys"]),
            "keys": int(await self._server.command("DBSIZE")),
        }

    def _flight(self, key: Key) -> str:
        return flight_key(f"{key.flight}:{self.home[:12]}")

    def _learn(self, name: str, tags: tuple[str, ...]) -> None:
        self._tags[name] = tags
        self._tags.move_to_end(name)
        while len(self._tags) > _MOST_KNOWN:
            self._tags.popitem(last=False)


def generation_keys(tags: Sequence[str]) -> list[str]:
    """Where the generations of tags lie."""
    return [generation_key(tag_digest(tag)) for tag in tags]


def _seed() -> str:
    return f"{time.monotonic_ns():x}{secrets.token_hex(4)}"
