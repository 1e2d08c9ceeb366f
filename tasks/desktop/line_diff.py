"""A unified diff of two contents, in time that grows with their length alone.

Where an edit was made is known, so nothing has to be searched for: the lines that an edit touches are compared with
each other (by `difflib`, when they are few), all others are equal.
"""

from bisect import bisect_right
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import accumulate, islice
from typing import NamedTuple

from tasks.desktop.patching import Kept

_CONTEXT_LINES = 3
_COMPARED_LINES = 400
"""More changed lines in one place are shown as all replaced."""
_LONGEST_BYTES = 65_536
_MOST_BLOCKS = _LONGEST_BYTES // 2 + 1
"""Each shows at least a sign and a line end: with so many, the diff is too long."""
_MOST_LINES = 2_000_000
"""Their starts are held in memory."""


class Diff(NamedTuple):
    """The text of a diff."""

    text: str
    truncated: bool


class _Block(NamedTuple):
    """Lines of the old content that lines of the new one stand for."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


class _Lines:
    """A content by its lines; each has its `\\n`, but for the last, perhaps."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        pieces = content.split(b"\n")
        self._starts = list(accumulate((len(piece) + 1 for piece in pieces[:-1]), initial=0))
        if not pieces[-1]:
            self._starts.pop()
        self.count = len(self._starts)

    def __getitem__(self, number: int) -> bytes:
        end = self._starts[number + 1] if number + 1 < self.count else len(self.content)
        return self.content[self._starts[number] : end]

    def of(self, at: int) -> int:
        """The line that the byte belongs to."""
        if at == len(self.content) and self.is_start(at):
            return self.count
        return bisect_right(self._starts, at) - 1

    def is_start(self, at: int) -> bool:
        return at == 0 or self.content[at - 1] == 0x0A

    def end(self, at: int, *, whole: bool) -> int:
        """The line before which a change ends that ends at this byte."""
        if at == len(self.content):
            return self.count
        return self.of(at) + (0 if whole else 1)


def unified_diff(path: str, old: bytes, new: bytes, kept: list[Kept] | None = None) -> Diff:
    """The differences; `kept` says what is common, else the common beginning and end are looked for."""
    if old == new:
        return Diff("", False)
    head = f"--- {path}\n+++ {path}\n"
    if old.count(b"\n") + new.count(b"\n") > _MOST_LINES:
        return Diff(head, True)
    old_lines, new_lines = _Lines(old), _Lines(new)
    fine = (
        fine
        for block in _merged(_touched(old_lines, new_lines, kept if kept is not None else _common_ends(old, new)))
        for fine in _refined(block, old_lines, new_lines)
    )
    blocks = list(islice(fine, _MOST_BLOCKS))
    pieces = [head]
    left_bytes = _LONGEST_BYTES
    for line in _shown(blocks, old_lines, new_lines):
        if len(line) > 4 * left_bytes:
            return Diff("".join(pieces), True)
        text = line.decode("utf-8", "backslashreplace")
        if len(text) > left_bytes:
            return Diff("".join(pieces), True)
        left_bytes -= len(text)
        pieces.append(text)
    return Diff("".join(pieces), False)


def _common_ends(old: bytes, new: bytes) -> list[Kept]:
    head = _common_length(old, new)
    rest = min(len(old), len(new)) - head
    tail = _common_length(old[head:][::-1][:rest], new[head:][::-1][:rest])
    return [Kept(0, 0, head), Kept(len(old) - tail, len(new) - tail, tail)]


def _common_length(one: bytes, other: bytes) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _touched(old: _Lines, new: _Lines, kept: list[Kept]) -> Iterator[_Block]:
    old_at = new_at = 0
    for run in [*kept, Kept(len(old.content), len(new.content), 0)]:
        if run.origin > old_at or run.now > new_at:
            whole = old.is_start(run.origin) and new.is_start(run.now)
            yield _Block(
                old.of(old_at), old.end(run.origin, whole=whole), new.of(new_at), new.end(run.now, whole=whole)
            )
        old_at, new_at = run.origin + run.length, run.now + run.length


def _merged(blocks: Iterator[_Block]) -> Iterator[_Block]:
    last: _Block | None = None
    for block in blocks:
        if last is None:
            last = block
        elif block.old_start <= last.old_end or block.new_start <= last.new_end:
            old_end, new_end = max(last.old_end, block.old_end), max(last.new_end, block.new_end)
            last = _Block(last.old_start, old_end, last.new_start, new_end)
        else:
            yield last
            last = block
    if last is not None:
        yield last


def _refined(block: _Block, old: _Lines, new: _Lines) -> Iterator[_Block]:
    if max(block.old_end - block.old_start, block.new_end - block.new_start) > _COMPARED_LINES:
        yield block
        return
    before = [old[number] for number in range(block.old_start, block.old_end)]
    after = [new[number] for number in range(block.new_start, block.new_end)]
    for tag, old_start, old_end, new_start, new_end in SequenceMatcher(None, before, after, False).get_opcodes():
        if tag != "equal":
            yield _Block(
                block.old_start + old_start,
                block.old_start + old_end,
                block.new_start + new_start,
                block.new_start + new_end,
            )


def _shown(blocks: list[_Block], old: _Lines, new: _Lines) -> Iterator[bytes]:
    first = 0
    while first < len(blocks):
        last = first
        while last + 1 < len(blocks) and blocks[last + 1].old_start - blocks[last].old_end <= 2 * _CONTEXT_LINES:
            last += 1
        yield from _hunk(blocks[first : last + 1], old, new)
        first = last + 1


def _hunk(blocks: list[_Block], old: _Lines, new: _Lines) -> Iterator[bytes]:
    before = min(_CONTEXT_LINES, blocks[0].old_start)
    after = min(_CONTEXT_LINES, old.count - blocks[-1].old_end)
    old_start, new_start = blocks[0].old_start - before, blocks[0].new_start - before
    old_end, new_end = blocks[-1].old_end + after, blocks[-1].new_end + after
    yield f"@@ -{_range(old_start, old_end)} +{_range(new_start, new_end)} @@\n".encode()
    at = old_start
    for block in blocks:
        yield from (_line(b" ", old[number]) for number in range(at, block.old_start))
        yield from (_line(b"-", old[number]) for number in range(block.old_start, block.old_end))
        yield from (_line(b"+", new[number]) for number in range(block.new_start, block.new_end))
        at = block.old_end
    yield from (_line(b" ", old[number]) for number in range(at, old_end))


def _line(sign: bytes, line: bytes) -> bytes:
    return sign + line if line.endswith(b"\n") else sign + line + b"\n\\ No newline at end of file\n"


def _range(start: int, end: int) -> str:
    length = end - start
    first = start + 1 if length else start
    return str(first) if length == 1 else f"{first},{length}"
