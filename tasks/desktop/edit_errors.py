"""What an edit that cannot be made says: how often its text was found, or what is most like it."""

from typing import Any

from tasks.confined import shown
from tasks.desktop.closest import closest
from tasks.desktop.line_diff import unified_diff
from tasks.desktop.patching import MOST_PLACES, Bounds, CountMismatch, TooMuch
from toolswarm.errors import OperationFailed

_SHOWN_CHARACTERS = 4000


def wrong_count(path: str, mismatch: CountMismatch, expected: int | None, lines: list[int]) -> OperationFailed:
    """It is there more or less often than it must be."""
    found = len(mismatch.found)
    return OperationFailed(
        f"edits[{mismatch.index}].old is {found} times in {shown(path)}, not {expected}; make it longer or say count",
        code="match_count",
        before_effect=True,
        edit=mismatch.index,
        expected=expected,
        found=found,
        lines=lines,
    )


def too_much(path: str, cause: TooMuch, bounds: Bounds) -> OperationFailed:
    """The edits would take more memory than one call may."""
    if cause.size_bytes is None:
        message = f"edits[{cause.index}] comes to more than {MOST_PLACES} places in all in {shown(path)}"
        return OperationFailed(
            f"{message}; name longer texts", code="too_large", before_effect=True, limit_places=MOST_PLACES
        )
    return OperationFailed(
        f"edits[{cause.index}] would make {shown(path)} larger than {bounds.most_bytes} bytes; insert less",
        code="too_large",
        before_effect=True,
        limit_bytes=bounds.most_bytes,
        size_bytes=cause.size_bytes,
    )


def no_match(path: str, index: int, old: str, text: str, bounds: Bounds) -> OperationFailed:
    """It is not there; with what is most like it."""
    old = old.replace("\r\n", "\n")
    near = closest(text, old, bounds.checkpoint)
    details: dict[str, Any] = {"edit": index}
    advice = "read the file again"
    if near is not None:
        only_white_space = "".join(near.text.split()) == "".join(old.split())
        advice = f"lines {near.first_line} to {near.last_line} are the most similar; details have the difference"
        details["closest"] = {
            "first_line": near.first_line,
            "last_line": near.last_line,
            "similarity": near.similarity,
            "only_white_space_differs": only_white_space,
            "text": near.text[:_SHOWN_CHARACTERS],
            "diff": unified_diff("old", _whole_line(old), _whole_line(near.text)).text[:_SHOWN_CHARACTERS],
        }
    return OperationFailed(
        f"edits[{index}].old is not in {shown(path)}: {advice}", code="no_match", before_effect=True, **details
    )


def _whole_line(text: str) -> bytes:
    return (text if text.endswith("\n") else text + "\n").encode("utf-8", "replace")
