"""Editing a file by exact replacements within the tenant's root."""

import errno
import hashlib
import os
import stat
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tasks.atomic import Draft
from tasks.confined import Confined, Place, failure, shown
from tasks.desktop.closest import SEARCHED_CHARACTERS
from tasks.desktop.desk import Desk
from tasks.desktop.edit_errors import no_match, too_much, wrong_count
from tasks.desktop.effects import PointOfNoReturn, stop_if_asked
from tasks.desktop.encodings import MARKS, codec, encoded, mark_of, to_text
from tasks.desktop.files import Path
from tasks.desktop.journal import change
from tasks.desktop.line_diff import unified_diff
from tasks.desktop.patching import Bounds, CountMismatch, Patched, Replacement, TooMuch, patch
from tasks.desktop.reading import too_large
from tasks.desktop.remembered import ROOT
from tasks.desktop.windows import NewlineCount
from tasks.desktop.writes import ExpectedSha256, check_expected, put_file
from tasks.operation import Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

_LINES_TOLD = 20


class Edit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One exact replacement."""

    old: Annotated[str, Meta(min_length=1)]
    """The text to replace, exactly as it is in the file."""
    new: str
    """What takes its place."""
    count: Annotated[int, Meta(ge=1)] | None = 1
    """How often `old` must be there, all of which are replaced; null: at least once."""


class Edited(msgspec.Struct, frozen=True, kw_only=True):
    """What an edit has left, or would leave."""

    path: str
    """Normalized, relative to your root folder."""
    sha256: str
    """Of the new content."""
    size_bytes: int
    changed: bool
    """Whether the new content differs from the old (nothing is written in a dry run)."""
    replaced: list[int]
    """How many places each edit has replaced."""
    encoding: str
    """In which `old` and `new` were looked for and written."""
    newline: str
    """How lines ended in the file: `\\n`, `\\r\\n`, `\\r`, `mixed` or `none`."""
    diff: str | None
    """In a dry run: a unified diff."""
    diff_truncated: bool


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A content after its edits."""

    patched: Patched
    encoding: str
    newline: str


def _edit_was_done(desk: Desk, run: Run, **_arguments: Any) -> Any:
    return desk.journal.outcome(run.call, desk.root(run.call.tenant))


# Not idempotent: `new` may contain `old`, and then the same edit can be made again and again. Whether it was made
# cannot be told from the text either, but from the journal: it knows which file the edit leaves behind.
@operation(
    effect=Effect.VERIFIABLE, time_limit_s=30, marks_effect=True, probe=_edit_was_done, destructive=True, changes=ROOT
)
def edit_file(
    desk: Desk,
    run: Run,
    *,
    path: Path,
    edits: Annotated[
        list[Edit],
        Meta(
            description="Replacements {old, new, count}, applied in order, each to what the one before has left.",
            examples=[[{"old": "colour", "new": "color", "count": 1}]],
            min_length=1,
            max_length=1000,
        ),
    ],
    expected_sha256: ExpectedSha256 = None,
    encoding: Annotated[
        Literal["auto", "utf-8", "latin-1"],
        Meta(description="`auto`: by the byte order mark, else UTF-8; say `latin-1` for letters in such a file."),
    ] = "auto",
    dry_run: Annotated[bool, Meta(description="Write nothing; return a unified diff and the new SHA-256.")] = False,
) -> Edited:
    """Edit a file.

    Replaces exact texts. Each must be there as often as its `count` says (1 unless you say otherwise), else nothing is
    written: `no_match` reports the most similar lines with a diff (they are never changed in its stead),
    `match_count` the lines where it was found. Only the bytes that are named change, whatever else the file holds.
    Where every line ends in CRLF (or in CR), a `\\n` in `old` and `new` stands for that; in any other file it is a line
    feed. All edits are written in one step as write_file does it, or none. Edits of one file at the same time come one
    after the other, each on what the one before has left.
    """
    root = desk.root(run.call.tenant)
    place = root.locate(path)
    point = PointOfNoReturn(desk, run)
    result: Edited | None = None

    def edited(present: int | None) -> bytes | None:
        nonlocal result
        stop_if_asked(run)
        if present is None:
            raise failure(FileNotFoundError(errno.ENOENT, ""), place.given)
        content = read_content(present, place.given, desk)
        if expected_sha256 is not None:
            check_expected(place.given, expected_sha256, hashlib.sha256(content).hexdigest())
        bounds = edit_bounds(desk, run)
        outcome = edit_content(content, edits, bounds, encoding=encoding, path=place.given, with_kept=dry_run)
        result = told(place.path, content, outcome, with_diff=dry_run)
        return outcome.patched.content if result.changed else None

    if dry_run:
        _refuse_link(root, place)
        with root.open_file(place) as fd:
            edited(fd)
    else:

        def last_look(new: Draft) -> None:
            assert result is not None
            point.passing([change(place, before=new.before, after=new.after)], result)

        put_file(desk, run, place, change=edited, before_rename=last_look)
    assert result is not None
    return result


def _refuse_link(root: Confined, place: Place) -> None:
    """A dry run fails where the edit itself would."""
    if stat.S_ISLNK(root.status(place).st_mode):
        raise failure(OSError(errno.ELOOP, ""), place.given)


def read_content(fd: int, path: str, desk: Desk) -> bytes:
    """All of a file that is to be edited.

    Raises:
        OperationFailed: `too_large`.
    """
    limit_bytes = desk.settings.max_edit_bytes
    size_bytes = os.fstat(fd).st_size
    if size_bytes > limit_bytes:
        raise too_large(path, limit_bytes)
    pieces: list[bytes] = []
    at = 0
    while piece := os.pread(fd, size_bytes + 1, at):
        pieces.append(piece)
        at += len(piece)
        if at > limit_bytes:
            raise too_large(path, limit_bytes)
    return b"".join(pieces)


def edit_bounds(desk: Desk, run: Run) -> Bounds:
    """How large a content may become by edits, and when to stop."""
    return Bounds(most_bytes=desk.settings.max_edit_bytes, checkpoint=lambda: stop_if_asked(run))


def edit_content(
    content: bytes, edits: list[Edit], bounds: Bounds, *, encoding: str, path: str, with_kept: bool
) -> Outcome:
    """Apply the edits to a content; `with_kept`: as a diff needs it.

    Raises:
        OperationFailed: `no_match`, `match_count`, `too_large`, `encoding_mismatch`, `invalid_text`, `stopped`.
    """
    mark = mark_of(content)
    used = mark or "utf-8" if encoding == "auto" else encoding
    start = len(MARKS[used]) if used == mark else 0
    if mark is None and used == "utf-8" and not all(edit.old.isascii() and edit.new.isascii() for edit in edits):
        _check_utf_8(content, path)
    newline = _newline(content, used)
    replacements = [
        Replacement(
            encoded(_with_newlines(edit.old, newline), used, what=f"edits[{index}].old"),
            encoded(_with_newlines(edit.new, newline), used, what=f"edits[{index}].new"),
            edit.count,
        )
        for index, edit in enumerate(edits)
    ]
    try:
        unit = 2 if used.startswith("utf-16") else 1
        patched = patch(content, replacements, bounds, unit=unit, start=start, with_kept=with_kept)
    except TooMuch as cause:
        raise too_much(path, cause, bounds) from cause
    except CountMismatch as mismatch:
        edit = edits[mismatch.index]
        if mismatch.found:
            lines = [_line_at(mismatch.content[start:at], used) for at in mismatch.found[:_LINES_TOLD]]
            raise wrong_count(path, mismatch, edit.count, lines) from mismatch
        beginning = mismatch.content[start : start + 4 * SEARCHED_CHARACTERS]
        text = beginning.decode(codec(used), "replace").replace("\r\n", "\n")
        raise no_match(path, mismatch.index, edit.old, text, bounds) from mismatch
    return Outcome(patched=patched, encoding=used, newline=newline)


def told(path: str, content: bytes, outcome: Outcome, *, with_diff: bool) -> Edited:
    """The result of an edit of `content`."""
    patched = outcome.patched
    diff = None
    if with_diff and outcome.encoding.startswith("utf-16"):
        diff = unified_diff(path, _utf_8(content, outcome.encoding), _utf_8(patched.content, outcome.encoding))
    elif with_diff:
        diff = unified_diff(path, content, patched.content, patched.kept)
    return Edited(
        path=path,
        sha256=hashlib.sha256(patched.content).hexdigest(),
        size_bytes=len(patched.content),
        changed=patched.content != content,
        replaced=patched.counts,
        encoding=outcome.encoding,
        newline=outcome.newline,
        diff=diff.text if diff else None,
        diff_truncated=diff.truncated if diff else False,
    )


def _with_newlines(text: str, newline: str) -> str:
    if newline not in ("\r\n", "\r"):
        return text
    return text.replace("\r\n", "\n").replace("\n", newline)


def _newline(content: bytes, encoding: str) -> str:
    newlines = NewlineCount()
    newlines.add(_utf_8(content, encoding) if encoding.startswith("utf-16") else content)
    return newlines.kind()


def _utf_8(content: bytes, encoding: str) -> bytes:
    return content.decode(codec(encoding), "replace").encode()


def _line_at(before: bytes, encoding: str) -> int:
    text = _utf_8(before, encoding) if encoding.startswith("utf-16") else before
    return text.count(b"\n") + 1


def _check_utf_8(content: bytes, path: str) -> None:
    if to_text(content, "utf-8") is None:
        raise OperationFailed(
            f"{shown(path)} is not UTF-8, and edits has letters beyond ASCII: say encoding=latin-1 if it is that",
            code="encoding_mismatch",
            before_effect=True,
        )
