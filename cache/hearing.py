"""What this process has heard of changes, so that level 1 keeps nothing that was out of date when it came.

An answer and the news that it has changed come over different connections. So an answer is kept only when nothing about
it was heard since it was asked for. And news may lie unread, while this process is busy or gets no turn of a processor:
so level 1 is believed only for a moment after its loop has last read all that had come.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from cache.level1 import Level1
from cache.seal import tag_digest
from store import keys

TRUST_S = 0.02
"""For so long after all news were read level 1 is believed."""
_TURNS = 4
"""Of the loop: in the first it sees that something came, then it is read, then taken in; and one more."""
_MOST = 8192
_ENTRY, _GENERATION = keys.CACHE_PREFIXES


class Hearing:
    """Drops what has changed from level 1, and remembers for a while what that was."""

    def __init__(self, level1: Level1[Any]) -> None:
        self._level1 = level1
        self._recent: OrderedDict[str, int] = OrderedDict()
        self._count = 0
        self._forgotten = 0
        self._read_at = float("-inf")
        self._reading = False

    def current(self, now: float) -> bool:
        """Whether all that came until a moment ago has been taken in; sees to it that it will have been."""
        age_s = now - self._read_at
        if age_s > TRUST_S / 2 and not self._reading:
            self._reading = True
            asyncio.get_running_loop().call_soon(self._turn, now, _TURNS)
        return age_s <= TRUST_S

    def _turn(self, began_at: float, left: int) -> None:
        if left:
            asyncio.get_running_loop().call_soon(self._turn, began_at, left - 1)
        else:
            self._reading = False
            self._read_at = began_at

    def mark(self) -> int:
        """An instant, to be given to `unheard` later."""
        return self._count

    def changed(self, key: str) -> None:
        """A key of the cache Redis was written or is gone."""
        self._count += 1
        self._recent[key] = self._count
        self._recent.move_to_end(key)
        if len(self._recent) > _MOST:
            _, self._forgotten = self._recent.popitem(last=False)
        if key.startswith(_GENERATION):
            self._level1.drop_tag(key.removeprefix(_GENERATION))
        else:
            self._level1.drop(key.removeprefix(_ENTRY))

    def lost(self) -> None:
        """Something may have changed that was not heard."""
        self._count += 1
        self._forgotten = self._count
        self._recent.clear()
        self._level1.clear()

    def unheard(self, mark: int, name: str, tags: Sequence[str]) -> bool:
        """Whether nothing about an entry and its tags was heard since the mark."""
        if mark < self._forgotten:
            return False
        recent = self._recent
        about = (keys.cached_key(name), *(keys.generation_key(tag_digest(tag)) for tag in tags))
        return all(recent.get(key, 0) <= mark for key in about)
