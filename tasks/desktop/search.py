"""Searching the files within the tenant's root: ripgrep says where to look, `tasks.desktop.finding` finds the lines."""

import asyncio
import base64
import hashlib
import json
import os
import socket
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tasks.confined import Confined, Place
from tasks.desktop import globs, literals, ripgrep
from tasks.desktop.desk import Desk
from tasks.desktop.finders import FINDERS
from tasks.desktop.remembered import ROOT
from tasks.operation import Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect, canonical

_TIME_LIMIT_S = 60.0
_RESERVE_S = 1.0
"""Kept back from the attempt's time, to say that it was too short."""
_MOST_CONTEXT_LINES = 20


class Match(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line, or one name, that the pattern was found in."""

    path: str
    """Relative to your root folder, as other operations take it; bytes that are no UTF-8 are spelled `\\xNN`."""
    kind: str
    """`file`, `directory`, `symlink` or `other`."""
    line_number: int | None = None
    """Counted from 1."""
    line: str | None = None
    """The line without its end; of a line over 400 characters, the part around the match."""
    before: list[str] | None = None
    """The lines before it, when they were asked for."""
    after: list[str] | None = None
    """The lines after it, when they were asked for."""


class Matches(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, sorted by path and line."""

    path: str
    """What was searched, relative to your root folder."""
    matches: list[Match]
    truncated: bool
    """Whether there are more; then give `next_cursor` as `cursor`, and all else as before."""
    next_cursor: str | None
    unreadable_skipped: int
    """Files and folders that the worker may not read, as far as the search came."""


@operation(effect=Effect.READ, time_limit_s=_TIME_LIMIT_S, tags=ROOT)
async def search(
    desk: Desk,
    run: Run,
    *,
    pattern: Annotated[
        str,
        Meta(
            description="Text to look for; with `regex`, a regular expression of Python's `re`.",
            max_length=10_000,
            examples=["TODO", r"def \w+\(self"],
        ),
    ],
    path: Annotated[
        str, Meta(description="Folder or file to search, relative to your root folder.", examples=["src"])
    ] = ".",
    kind: Annotated[
        Literal["content", "name"],
        Meta(description="Search the lines of files, or the names of files, folders and links."),
    ] = "content",
    glob: Annotated[
        Annotated[str, Meta(min_length=1, max_length=globs.LONGEST_CHARACTERS)] | None,
        Meta(
            description="Only what is called so; with a slash in it, what has such a path below `path`. `*` and `?` "
            "stand for anything but a slash, `**/` for any folders, `[ab]` for one of these, `{js,ts}` for either.",
            examples=["*.py", "src/**/*.{js,ts}"],
        ),
    ] = None,
    regex: Annotated[bool, Meta(description="The pattern is a regular expression.")] = False,
    ignore_case: Annotated[bool, Meta(description="Take A for a.")] = False,
    before: Annotated[
        int, Meta(description="How many lines before each match to show.", ge=0, le=_MOST_CONTEXT_LINES)
    ] = 0,
    after: Annotated[
        int, Meta(description="How many lines after each match to show.", ge=0, le=_MOST_CONTEXT_LINES)
    ] = 0,
    max_results: Annotated[
        int, Meta(description="How many matches at most; fewer come when they are long.", ge=1, le=10_000)
    ] = 100,
    cursor: Annotated[
        Annotated[str, Meta(max_length=20_000)] | None,
        Meta(description="`next_cursor` of an earlier answer: go on behind its last match."),
    ] = None,
    timeout_s: Annotated[
        float, Meta(description="After this the search fails with `time_limit`.", gt=0, le=_TIME_LIMIT_S - 10)
    ] = 20.0,
) -> Matches:
    """Search files or names.

    Looks for a text or a regular expression, in one line at a time: a match never spans lines, and `^` and `$` are the
    line's ends. Matches are sorted by path and line number, so that a cursor goes on where the last answer ended.

    Hidden files are searched, and files that a .gitignore names. Left out are: binary files (those with a NUL byte),
    what is in folders named `.git`, folders more than 100 deep, and what may not be read, which is counted. Symbolic
    links are not followed. Text is read as UTF-8; bytes that are not become U+FFFD. Of a line over 8 MiB only the
    beginning is searched.
    """
    what = _what(pattern, kind=kind, regex=regex, ignore_case=ignore_case, glob=glob)
    fingerprint = hashlib.sha256(canonical([what, path])).hexdigest()[:16]
    timeout_s = min(timeout_s, max(0.1, run.remaining_s() - _RESERVE_S))
    amount = {"before": before, "after": after, "max_results": max_results, "timeout_s": timeout_s}
    request = what | amount | _start(cursor, fingerprint)
    confined = desk.root(run.call.tenant)
    place = confined.locate(path)
    run.executed_on(socket.gethostname())
    with _opened(confined, place) as (fd, is_folder):
        try:
            async with asyncio.timeout(timeout_s):
                found = await _find(fd, request, glob=glob, is_folder=is_folder)
        except TimeoutError as error:
            raise OperationFailed(
                f"the search took longer than {timeout_s:g} s; search a smaller folder or for a simpler pattern, "
                "or give it a larger timeout_s",
                code="time_limit",
                before_effect=True,
            ) from error
    prefix = "" if place.is_root else place.path
    matches = [{**match, "path": "/".join(filter(None, (prefix, match["path"])))} for match in found["matches"]]
    return Matches(
        path=place.path,
        matches=msgspec.convert(matches, list[Match]),
        truncated=found["next"] is not None,
        next_cursor=None if found["next"] is None else _cursor(found["next"], fingerprint),
        unreadable_skipped=found["unreadable_skipped"],
    )


def _what(pattern: str, *, kind: str, regex: bool, ignore_case: bool, glob: str | None) -> dict[str, Any]:
    if not regex and ("\n" in pattern or "\0" in pattern):
        raise OperationFailed(
            "pattern has a line break or a NUL character, and is looked for within lines of text; "
            "look for one of its lines",
            code="invalid_pattern",
            before_effect=True,
        )
    return {
        "pattern": pattern,
        "kind": kind,
        "regex": regex,
        "ignore_case": ignore_case,
        "glob": None if glob is None else globs.translated(glob),
        "glob_on_path": glob is not None and "/" in glob,
        "literals": literals.required(pattern, regex=regex, ignore_case=ignore_case) if kind == "content" else (),
    }


async def _find(fd: int, request: Mapping[str, Any], *, glob: str | None, is_folder: bool) -> dict[str, Any]:
    texts: tuple[str, ...] = request["literals"]
    lists = None
    if texts and is_folder:
        FINDERS.prepare()
        agreed = globs.for_ripgrep(glob)
        lists = await ripgrep.files_with(texts, fd, ignore_case=request["ignore_case"], glob=agreed)
    if lists == (b"", b"") and not request["regex"]:
        return {"matches": [], "next": None, "unreadable_skipped": 0}  # a regex may be wrong: it goes on, to be refused
    found = await FINDERS.find(fd, request, lists)
    if "invalid_pattern" in found:
        raise OperationFailed(
            f"pattern is not a valid regular expression: {found['invalid_pattern']}",
            code="invalid_pattern",
            before_effect=True,
        )
    return found


@contextmanager
def _opened(confined: Confined, place: Place) -> Generator[tuple[int, bool]]:
    """A descriptor of the folder or file, and whether it is a folder."""
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(confined.open_folder(place)), True
        except OperationFailed as error:
            if error.failure_code != "not_a_directory":
                raise
            opened = stack.enter_context(confined.open_file(place)), False
        yield opened


def _cursor(position: Mapping[str, Any], fingerprint: str) -> str:
    raw = json.dumps([fingerprint, position["start"], position["start_line"]]).encode()
    return base64.urlsafe_b64encode(raw).decode()


def _start(cursor: str | None, fingerprint: str) -> dict[str, Any]:
    if cursor is None:
        return {"start": (), "start_line": 0}
    try:
        given, start, line = msgspec.convert(
            json.loads(base64.urlsafe_b64decode(cursor)), tuple[str, list[str], Annotated[int, Meta(ge=0)]]
        )
        for name in start:
            os.fsencode(name)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise _invalid_cursor("is no next_cursor of a search") from error
    if given != fingerprint:
        raise _invalid_cursor("belongs to another search; give the same arguments as before with it")
    return {"start": start, "start_line": line}


def _invalid_cursor(why: str) -> OperationFailed:
    return OperationFailed(f"cursor {why}", code="invalid_cursor", before_effect=True)
