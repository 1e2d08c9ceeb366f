"""Searching the files within the tenant's root, in a process of its own (see `tasks.desktop.scan`)."""

import asyncio
import sys
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tasks.desktop import scan
from tasks.desktop.desk import Desk
from tasks.operation import Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

_TIME_LIMIT_S = 30.0


class Match(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line, or one name, that the pattern was found in."""

    path: str
    """Relative to the searched folder."""
    kind: str
    line_number: int | None = None
    """Counted from 1."""
    line: str | None = None
    """The line, or the part of it around the match."""


class Matches(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, sorted by path and line, and what was not looked at."""

    matches: list[Match]
    truncated: bool
    """Whether there are more."""
    files_searched: int
    binary_skipped: int
    large_skipped: int
    unreadable_skipped: int


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    invalid_pattern: str


@operation(effect=Effect.READ, time_limit_s=_TIME_LIMIT_S)
async def search(
    desk: Desk,
    run: Run,
    *,
    pattern: Annotated[str, Meta(description="What to look for.", max_length=10_000)],
    path: Annotated[str, Meta(description="Folder, relative to your root folder.")] = ".",
    kind: Annotated[
        Literal["content", "name"], Meta(description="Look into files, or at the names of files and folders.")
    ] = "content",
    glob: Annotated[
        str | None,
        Meta(description="Only files whose name (or whose path, if it has a slash) is like this: `*.py`, `src/*.py`."),
    ] = None,
    ignore_case: Annotated[bool, Meta(description="Take A for a.")] = False,
    max_results: Annotated[int, Meta(description="How many matches at most.", ge=1, le=10_000)] = 100,
    regex: Annotated[bool, Meta(description="The pattern is a regular expression (Python's).")] = False,
) -> Matches:
    """Search files or their names.

    Looks for a text or a regular expression, line by line. Binary files, files over 8 MiB and folders named `.git`
    are left out; links are not followed.
    """
    request = {
        "pattern": pattern,
        "kind": kind,
        "glob": glob,
        "ignore_case": ignore_case,
        "max_results": max_results,
        "regex": regex,
    }
    with desk.root(run.call.tenant).open_folder(path) as fd:
        raw = await _scan(fd, msgspec.json.encode(request), min(_TIME_LIMIT_S - 1, run.remaining_s()))
    try:
        return msgspec.json.decode(raw, type=Matches)
    except msgspec.ValidationError:
        why = msgspec.json.decode(raw, type=_Answer).invalid_pattern
    raise OperationFailed(
        f"pattern is not a valid regular expression: {why}", code="invalid_pattern", before_effect=True
    )


async def _scan(folder_fd: int, request: bytes, timeout_s: float) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", scan.__file__, str(folder_fd)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=(folder_fd,),
        env={},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate(request)
    except TimeoutError as error:
        raise OperationFailed(
            f"the search took longer than {timeout_s:.0f} s; search a smaller folder or a simpler pattern",
            code="time_limit",
            before_effect=True,
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise OperationFailed(
            "the search needed too much time or memory; search a smaller folder or a simpler pattern",
            code="search_failed",
            before_effect=True,
            exit_code=process.returncode,
        )
    return output
