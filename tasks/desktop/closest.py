"""Finding the lines that look most like a text that is not there: to be shown, never to be changed.

Bounded: a few telling lines of the text are looked up among all lines of the file (a C loop), and only the places that
they point to are compared as a whole.
"""

from collections.abc import Callable
from typing import NamedTuple

from rapidfuzz import fuzz, process

SEARCHED_CHARACTERS = 2 << 20
_LINE_CHARACTERS = 400
_TEXT_LINES = 200
_TELLING_LINES = 3
_PLACES_OF_EACH = 6
_LEAST_LINE_SCORE = 55.0
_LEAST_SCORE = 60.0


class Closest(NamedTuple):
    """The lines most like the text."""

    first_line: int
    """Counted from 1; so is the last."""
    last_line: int
    similarity: float
    """From 0 to 1."""
    text: str


def closest(content: str, wanted: str, checkpoint: Callable[[], None]) -> Closest | None:
    """The most similar lines; None when nothing is much like the text. `checkpoint` is called now and then."""
    whole = content[:SEARCHED_CHARACTERS].split("\n")
    lines = [line[:_LINE_CHARACTERS] for line in whole]
    wanted_lines = [line[:_LINE_CHARACTERS] for line in wanted.removesuffix("\n").split("\n")][:_TEXT_LINES]
    target = "\n".join(wanted_lines)
    best: tuple[float, int, int] | None = None
    height = len(wanted_lines)
    for start in _places(lines, wanted_lines, checkpoint):
        checkpoint()
        score = fuzz.ratio(target, "\n".join(lines[start : start + height]), score_cutoff=best[0] if best else 0)
        if best is None or score > best[0]:
            best = (score, start, start + height)
    if best is None:
        return None
    score, start, end = _trimmed(lines, target, best, checkpoint)
    if score < _LEAST_SCORE:
        return None
    end = min(end, len(lines))
    return Closest(start + 1, end, round(score / 100, 3), "\n".join(whole[start:end]))


def _places(lines: list[str], wanted: list[str], checkpoint: Callable[[], None]) -> list[int]:
    """Where the text might begin."""
    telling = sorted(range(len(wanted)), key=lambda number: -len(wanted[number].strip()))[:_TELLING_LINES]
    places: dict[int, None] = {}
    for number in telling:
        checkpoint()
        found = process.extract(
            wanted[number], lines, scorer=fuzz.ratio, limit=_PLACES_OF_EACH, score_cutoff=_LEAST_LINE_SCORE
        )
        for _, _, index in found:
            places[min(max(0, index - number), len(lines) - 1)] = None
    return list(places)


def _trimmed(
    lines: list[str], target: str, best: tuple[float, int, int], checkpoint: Callable[[], None]
) -> tuple[float, int, int]:
    """The file may have a line more or less than the text."""
    _, first, last = best
    for start in range(max(0, first - 1), first + 2):
        checkpoint()
        for end in range(max(start + 1, last - 2), last + 3):
            score = fuzz.ratio(target, "\n".join(lines[start:end]), score_cutoff=best[0])
            if score > best[0]:
                best = (score, start, end)
    return best
