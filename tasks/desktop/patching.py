"""Exact replacements in bytes, one after the other, with a record of which bytes were left where they were.

Bounded before anything is built: how long each result will be is known from the number of places, and so is how much
memory the places take.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

MOST_PLACES = 500_000
"""That all replacements of one call may have together: each is remembered, and shown in a diff."""
_SEARCHED_BETWEEN_LOOKS = 4096
_SHORT_BYTES = 256


class Replacement(NamedTuple):
    """Bytes to be replaced, and how often they must be there; None: at least once."""

    old: bytes
    new: bytes
    times: int | None


class Kept(NamedTuple):
    """A run of bytes of the original that is in the result."""

    origin: int
    now: int
    length: int


class CountMismatch(Exception):
    """The bytes are not there as often as they must be; nothing was replaced."""

    def __init__(self, index: int, content: bytes, found: list[int]) -> None:
        super().__init__(f"replacement {index}: found {len(found)}")
        self.index = index
        self.content = content
        """As the replacements before this one left it."""
        self.found = found


class TooMuch(Exception):
    """The replacements would make the content too long, or are too many; nothing was replaced."""

    def __init__(self, index: int, *, size_bytes: int | None = None) -> None:
        super().__init__(f"replacement {index}")
        self.index = index
        self.size_bytes = size_bytes
        """How long the content would be; None: there are too many places."""


@dataclass(frozen=True)
class Patched:
    """The new content, how often each was replaced, and what is left of the original, when that was asked for."""

    content: bytes
    counts: list[int]
    kept: list[Kept] | None


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a patch may take, and whether anybody still waits for it."""

    most_bytes: int
    checkpoint: Callable[[], None]
    """Called again and again; it may raise."""


def patch(
    content: bytes,
    replacements: list[Replacement],
    bounds: Bounds,
    *,
    unit: int = 1,
    start: int = 0,
    with_kept: bool = False,
) -> Patched:
    """Apply the replacements in order, each to what the one before left; only the bytes they name change.

    `unit` is the width of a character in UTF-16, 2: matches begin at a whole one. The first `start` bytes (a byte
    order mark) are never matched.

    Raises:
        CountMismatch: one is not there as often as it must be.
        TooMuch: a result would be larger than the bounds allow, or there are too many places.
    """
    kept = [Kept(0, 0, len(content))] if with_kept else None
    counts: list[int] = []
    places = 0
    for index, (old, new, times) in enumerate(replacements):
        bounds.checkpoint()
        found = _find_all(content, old, bounds, most=MOST_PLACES - places, unit=unit, start=start)
        if found is None:
            raise TooMuch(index)
        if not found or (times is not None and len(found) != times):
            raise CountMismatch(index, content, found)
        size_bytes = len(content) + len(found) * (len(new) - len(old))
        if size_bytes > bounds.most_bytes:
            raise TooMuch(index, size_bytes=size_bytes)
        places += len(found)
        counts.append(len(found))
        if kept is not None:
            kept = _without(kept, found, len(old), len(new))
        content = _replaced(content, found, len(old), new)
    return Patched(content, counts, kept)


def _find_all(content: bytes, old: bytes, bounds: Bounds, *, most: int, unit: int, start: int) -> list[int] | None:
    """Where it is; None: in more places than `most`."""
    found: list[int] = []
    looked = 0
    at = content.find(old, start)
    while at >= 0:
        looked += 1
        if looked % _SEARCHED_BETWEEN_LOOKS == 0:
            bounds.checkpoint()
        if (at - start) % unit:
            at = content.find(old, at + 1)
            continue
        if len(found) == most:
            return None
        found.append(at)
        at = content.find(old, at + len(old))
    return found


def _replaced(content: bytes, found: list[int], length: int, new: bytes) -> bytes:
    pieces: list[bytes | memoryview] = []
    whole = memoryview(content)
    end = 0
    for at in found:
        # A view is larger than a short piece, but is no second copy of a long one.
        pieces += (content[end:at] if at - end <= _SHORT_BYTES else whole[end:at], new)
        end = at + length
    pieces.append(whole[end:])
    return b"".join(pieces)


def _without(kept: list[Kept], cuts: list[int], old_length: int, new_length: int) -> list[Kept]:
    """The kept runs after `old_length` bytes at each of `cuts` have made way for `new_length` others."""
    left: list[Kept] = []
    shift = 0
    next_cut = 0
    for run in kept:
        at, end = run.now, run.now + run.length
        while next_cut < len(cuts) and cuts[next_cut] < end:
            cut = cuts[next_cut]
            if cut > at:
                left.append(Kept(run.origin + at - run.now, at + shift, cut - at))
            at = max(at, min(cut + old_length, end))
            if cut + old_length > end:
                break  # it goes on in what is not of the original, or in the next run
            shift += new_length - old_length
            next_cut += 1
        if at < end:
            left.append(Kept(run.origin + at - run.now, at + shift, end - at))
    return left
