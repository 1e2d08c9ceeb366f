"""Exact replacements in bytes, one after the other, with a record of which bytes were left where they were."""

from dataclasses import dataclass
from typing import NamedTuple


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


@dataclass(frozen=True)
class Patched:
    """The new content, how often each was replaced, and what is left of the original."""

    content: bytes
    counts: list[int]
    kept: list[Kept]


def patch(content: bytes, replacements: list[Replacement], *, unit: int = 1, start: int = 0) -> Patched:
    """Apply the replacements in order, each to what the one before left; only the bytes they name change.

    `unit` is the width of a character in UTF-16, 2: matches begin at a whole one. The first `start` bytes (a byte
    order mark) are never matched.

    Raises:
        CountMismatch: one is not there as often as it must be.
    """
    kept = [Kept(0, 0, len(content))]
    counts: list[int] = []
    for index, (old, new, times) in enumerate(replacements):
        found = _find_all(content, old, unit=unit, start=start)
        if not found or (times is not None and len(found) != times):
            raise CountMismatch(index, content, found)
        counts.append(len(found))
        kept = _without(kept, found, len(old), len(new))
        content = _replaced(content, found, len(old), new)
    return Patched(content, counts, kept)


def _find_all(content: bytes, old: bytes, *, unit: int, start: int) -> list[int]:
    found: list[int] = []
    at = content.find(old, start)
    while at >= 0:
        if (at - start) % unit:
            at = content.find(old, at + 1)
        else:
            found.append(at)
            at = content.find(old, at + len(old))
    return found


def _replaced(content: bytes, found: list[int], length: int, new: bytes) -> bytes:
    pieces: list[bytes] = []
    end = 0
    for at in found:
        pieces += (content[end:at], new)
        end = at + length
    pieces.append(content[end:])
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
