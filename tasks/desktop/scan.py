"""Walking and searching a folder, with the standard library alone: a search runs this file as a program of its own.

A regular expression can take for ever on an innocent line, and Python cannot be stopped in the middle of one. In a
process of its own that costs a killed process, not a worker that looks dead. Nothing is followed out of the folder:
everything is opened by name, without following links, from the descriptor of the folder above it.

As a program: `scan.py FD`, the request as JSON on standard input, the answer as JSON on standard output.
"""

import fnmatch
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LARGEST_SEARCHED_FILE_BYTES = 8 << 20
_DEEPEST = 100
"""Each level holds a descriptor open."""
_LONGEST_LINE_SHOWN = 400
_CPU_LIMIT_S = 60
_MEMORY_LIMIT_BYTES = 2 << 30
_PROBED_FOR_NUL_BYTES = 8192
_UNSEEN_SUFFIX = ".toolswarm-tmp"
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing in a folder."""

    path: str
    """Relative to the listed folder; bytes that are no UTF-8 are spelled `\\xNN`."""
    kind: str
    """`file`, `directory`, `symlink` or `other`."""
    size_bytes: int
    modified_at: float
    unreadable: bool = False
    """A folder that could not be opened."""


@dataclass(frozen=True)
class Found:
    """An entry, with what is needed to open it."""

    entry: Entry
    folder_fd: int
    name: str


def walk(folder_fd: int, *, depth: int, skip: frozenset[str] = frozenset(), prefix: str = "") -> Iterator[Found]:
    """What is in the folder, sorted by name, each folder's entries after it; `folder_fd` of a find is soon closed."""
    with os.scandir(folder_fd) as scanned:
        names = sorted(entry.name for entry in scanned if not entry.name.endswith(_UNSEEN_SUFFIX))
    for name in names:
        try:
            status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            continue  # removed in between
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "other")
        inner = None
        unreadable = False
        if kind == "directory" and depth > 1 and name not in skip:
            try:
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
            except OSError:
                unreadable = True
        path = prefix + _spelled(name)
        try:
            entry = Entry(
                path=path,
                kind=kind,
                size_bytes=status.st_size,
                modified_at=status.st_mtime,
                unreadable=unreadable,
            )
            yield Found(entry, folder_fd, name)
            if inner is not None:
                yield from walk(inner, depth=depth - 1, skip=skip, prefix=f"{path}/")
        finally:
            if inner is not None:
                os.close(inner)


class _Search:
    """One search; `answer` is what it has so far."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._by_name = request["kind"] == "name"
        self._glob: str | None = request["glob"]
        self._max_results: int = request["max_results"]
        source = request["pattern"] if request["regex"] else re.escape(request["pattern"])
        self._pattern = re.compile(source, re.IGNORECASE if request["ignore_case"] else 0)
        self._literal = not request["regex"]
        self._matches: list[dict[str, Any]] = []
        self._counts = {"files_searched": 0, "binary_skipped": 0, "large_skipped": 0, "unreadable_skipped": 0}

    def run(self, folder_fd: int) -> dict[str, Any]:
        truncated = False
        for found in walk(folder_fd, depth=_DEEPEST, skip=frozenset({".git"})):
            if found.entry.unreadable:
                self._counts["unreadable_skipped"] += 1
            if self._wanted(found.entry.path):
                self._look_at(found)
            if len(self._matches) > self._max_results:
                truncated = True
                break
        return {"matches": self._matches[: self._max_results], "truncated": truncated, **self._counts}

    def _wanted(self, path: str) -> bool:
        if self._glob is None:
            return True
        subject = path if "/" in self._glob else path.rpartition("/")[2]
        return fnmatch.fnmatchcase(subject, self._glob)

    def _look_at(self, found: Found) -> None:
        if self._by_name:
            self._counts["files_searched"] += 1
            if self._pattern.search(found.entry.path.rpartition("/")[2]):
                self._matches.append({"path": found.entry.path, "kind": found.entry.kind})
        elif found.entry.kind == "file":
            text = self._text(found)
            if text is not None and not (self._literal and not self._pattern.search(text)):
                self._match_lines(found.entry, text)

    def _text(self, found: Found) -> str | None:
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(found.name, flags, dir_fd=found.folder_fd)
        except OSError:
            self._counts["unreadable_skipped"] += 1
            return None
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                self._counts["unreadable_skipped"] += 1
                return None
            raw = file.read(LARGEST_SEARCHED_FILE_BYTES + 1)
        if len(raw) > LARGEST_SEARCHED_FILE_BYTES:
            self._counts["large_skipped"] += 1
            return None
        if b"\0" in raw[:_PROBED_FOR_NUL_BYTES]:
            self._counts["binary_skipped"] += 1
            return None
        self._counts["files_searched"] += 1
        return raw.decode("utf-8", "replace")

    def _match_lines(self, entry: Entry, text: str) -> None:
        for number, line in enumerate(text.split("\n"), start=1):
            match = self._pattern.search(line)
            if match is None:
                continue
            start = max(0, match.start() - _LONGEST_LINE_SHOWN // 2)
            shown = line[start : start + _LONGEST_LINE_SHOWN].removesuffix("\r")
            self._matches.append({"path": entry.path, "kind": "file", "line_number": number, "line": shown})
            if len(self._matches) > self._max_results:
                return


def _spelled(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def main() -> None:
    """Answer one request, under limits of its own."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_LIMIT_S, _CPU_LIMIT_S))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    request = json.load(sys.stdin)
    try:
        answer = _Search(request).run(int(sys.argv[1]))
    except re.error as error:
        answer = {"invalid_pattern": str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
