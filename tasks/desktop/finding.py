"""Finding lines and names in a folder: a program of its own that answers one request after the other.

A regular expression can take for ever on an innocent line, and Python cannot be stopped in the middle of one. In a
process of its own that costs a killed process, not a worker that looks dead. It needs the standard library alone, so
it starts fast and stays small (see `tasks.desktop.finders`, which keeps it).

Everything is opened by name, from the descriptor of the folder above it and with O_NOFOLLOW: whoever swaps a folder
for a link meanwhile gains nothing, also when the names come from ripgrep. The order is that of the names' bytes, a
folder before what is in it.
"""

import errno
import json
import os
import re
import resource
import socket
import stat
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

FRAME = struct.Struct("!QQQ")
"""Before a request: the bytes of its JSON, of the list of files, of the list of what is unreadable (NUL after each)."""
LENGTH = struct.Struct("!Q")
"""Before an answer: the bytes of its JSON."""
LONGEST_LINE_SHOWN = 400
DEEPEST = 100
"""Each level holds a descriptor open; folders below are not looked into."""
BLOCK_BYTES = 8 << 20
MOST_ANSWER_BYTES = 2 << 20
"""Of matches as JSON; what does not fit is found again from the cursor."""
_MEMORY_LIMIT_BYTES = 1 << 30
_UNSEEN_SUFFIX = b".toolswarm-tmp"
_NOT_ENTERED = b".git"
_MARK = b"\xef\xbb\xbf"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_OUR_LACK = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_CHANGED = (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENOTDIR)
"""What opening says of something that was removed or swapped since it was seen."""

Parts = tuple[bytes, ...]


class Item(NamedTuple):
    """One thing in the tree: its names from the searched folder down, and the folder that it is in, still open."""

    parts: Parts
    kind: str
    folder_fd: int
    unreadable: bool


def walk(folder_fd: int, *, after: Parts, above: Parts = ()) -> Iterator[Item]:
    """All that is in the folder and may be seen, from `after` on."""
    with os.scandir(folder_fd) as scanned:
        entries = sorted((os.fsencode(entry.name), entry) for entry in scanned)
    first = after[0] if after else b""
    for name, entry in entries:
        if name < first or name.endswith(_UNSEEN_SUFFIX):
            continue
        parts = (*above, name)
        kind = _kind(entry)
        inner, unreadable = None, False
        if kind == "directory" and name != _NOT_ENTERED and len(parts) < DEEPEST:
            inner, unreadable = _open(name, _FOLDER, folder_fd)
        try:
            yield Item(parts, kind, folder_fd, unreadable)
            if inner is not None:
                yield from walk(inner, after=after[1:] if name == first else (), above=parts)
        finally:
            if inner is not None:
                os.close(inner)


def chosen(folder_fd: int, listed: Iterable[bytes], unreadable: Iterable[bytes], *, after: Parts) -> Iterator[Item]:
    """Those of the listed files that `walk` would come to, and of the unreadable ones too, in its order."""
    wanted = {parts: False for parts in (tuple(path.split(b"/")) for path in listed) if _is_reached(parts, after)}
    wanted |= {parts: True for parts in (tuple(path.split(b"/")) for path in unreadable) if _is_reached(parts, after)}
    for parts in sorted(wanted):
        opened = [folder_fd]
        try:
            for name in parts[:-1]:
                inner, _ = _open(name, _FOLDER, opened[-1])
                if inner is None:
                    break  # changed since it was listed
                opened.append(inner)
            else:
                kind = _kind_of_name(parts[-1], opened[-1]) if wanted[parts] else "file"
                yield Item(parts, kind, opened[-1], wanted[parts] and kind == "directory")
        finally:
            for fd in opened[1:]:
                os.close(fd)


def _is_reached(parts: Parts, after: Parts) -> bool:
    return (
        parts >= after
        and len(parts) <= DEEPEST
        and not any(name in (b"", b".", b"..") or name.endswith(_UNSEEN_SUFFIX) for name in parts)
        and _NOT_ENTERED not in parts[:-1]
    )


def _kind(entry: "os.DirEntry[str]") -> str:
    if entry.is_symlink():
        return "symlink"
    if entry.is_dir(follow_symlinks=False):
        return "directory"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def _kind_of_name(name: bytes, folder_fd: int) -> str:
    with os.scandir(folder_fd) as scanned:  # a folder that may be listed but not entered tells by no other way
        return next((_kind(entry) for entry in scanned if os.fsencode(entry.name) == name), "other")


def _open(name: bytes, flags: int, folder_fd: int) -> tuple[int | None, bool]:
    """A descriptor; or None, and whether it is there but may not be read."""
    try:
        return os.open(name, flags, dir_fd=folder_fd), False
    except OSError as error:
        if error.errno in _OUR_LACK:
            raise
        return None, error.errno not in _CHANGED


class Search:
    """One search; `run` gives its answer."""

    def __init__(self, request: dict[str, Any]) -> None:
        source = request["pattern"] if request["regex"] else re.escape(request["pattern"])
        self._search = re.compile(source, re.IGNORECASE if request["ignore_case"] else 0).search
        self._glob = None if request["glob"] is None else re.compile(request["glob"]).fullmatch
        self._glob_on_path: bool = request["glob_on_path"]
        self._by_name: bool = request["kind"] == "name"
        self._literals: list[bytes] = [text.encode() for text in request["literals"]]
        self._ignore_case: bool = request["ignore_case"]
        self._before: int = request["before"]
        self._following: int = request["after"]
        self._most: int = request["max_results"]
        self._start: Parts = tuple(os.fsencode(name) for name in request["start"])
        self._start_line: int = request["start_line"]
        self._matches: list[dict[str, Any]] = []
        self._last: tuple[Parts, int] = (), 0
        """Where the last match that is told was found."""
        self._unreadable = 0
        self._answer_bytes = 0

    def run(self, fd: int, lists: tuple[list[bytes], list[bytes]] | None) -> dict[str, Any]:
        """Search the folder (all of it, or what the lists name), or the one file."""
        if stat.S_ISREG(os.fstat(fd).st_mode):
            self._search_file(fd, (), self._start_line)
        else:
            items = walk(fd, after=self._start) if lists is None else chosen(fd, *lists, after=self._start)
            for item in items:
                self._look_at(item)
                if len(self._matches) > self._most:
                    break
        parts, line = self._last
        position = {"start": [os.fsdecode(name) for name in parts], "start_line": line}
        return {
            "matches": self._matches[: self._most],
            "next": position if len(self._matches) > self._most else None,
            "unreadable_skipped": self._unreadable,
        }

    def _add(self, parts: Parts, line_number: int, match: dict[str, Any]) -> None:
        one = {"path": b"/".join(parts).decode("utf-8", "backslashreplace"), **match}
        self._answer_bytes += len(json.dumps(one))
        if self._matches and self._answer_bytes > MOST_ANSWER_BYTES:
            self._most = min(self._most, len(self._matches))
        self._matches.append(one)
        if len(self._matches) <= self._most:
            self._last = parts, line_number

    def _look_at(self, item: Item) -> None:
        parts = item.parts
        if parts < self._start:
            return  # a folder above the start
        if item.unreadable and parts != self._start:
            self._unreadable += 1
        if self._by_name:
            if parts != self._start and self._wanted(parts) and self._search(os.fsdecode(parts[-1])):
                self._add(parts, 0, {"kind": item.kind})
        elif item.kind == "file" and self._wanted(parts):
            fd, unreadable = _open(parts[-1], _FILE, item.folder_fd)
            if fd is None:
                self._unreadable += unreadable
                return
            try:
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    self._search_file(fd, parts, self._start_line if parts == self._start else 0)
            finally:
                os.close(fd)

    def _wanted(self, parts: Parts) -> bool:
        subject = b"/".join(parts) if self._glob_on_path else parts[-1]
        return self._glob is None or self._glob(os.fsdecode(subject)) is not None

    def _search_file(self, fd: int, parts: Parts, skipped: int) -> None:
        """Add the file's matches after line `skipped`.

        `lines` has the block's lines, and around them those that matches show: a match is looked for when the lines
        after it are there, too.
        """
        lines: list[str] = []
        first = 0  # number of lines before `lines`
        done = 0  # how many of `lines` were searched
        likely: list[int] = []  # lines of the file that the pattern may be in
        is_text = False
        for order, (block, last) in enumerate(_blocks(fd)):
            holding = self._holding(block)
            if not lines and not holding and (last or not self._before + self._following):
                first += block.count(b"\n")
                continue
            if not is_text and (b"\0" in block if last and not order else _is_binary(fd)):
                return
            is_text = True
            begin = first + len(lines)
            lines += _lines(block)
            likely += [begin + index for index in holding]
            end = len(lines) if last else max(0, len(lines) - self._following)
            where = range(max(first + done, skipped), first + end)
            self._search_lines(lines, [line - first for line in likely if line in where], first, parts)
            if len(self._matches) > self._most:
                return
            kept = max(0, end - self._before)
            first, done = first + kept, end - kept
            del lines[:kept]
            likely = [line for line in likely if line >= where.stop]

    def _search_lines(self, lines: list[str], where: list[int], first: int, parts: Parts) -> None:
        for index in where:
            found = self._search(lines[index])
            if found is None:
                continue
            number = first + index + 1
            match: dict[str, Any] = {"kind": "file", "line_number": number, "line": _part(lines[index], found.start())}
            if self._before:
                match["before"] = [_part(line, 0) for line in lines[max(0, index - self._before) : index]]
            if self._following:
                match["after"] = [_part(line, 0) for line in lines[index + 1 : index + 1 + self._following]]
            self._add(parts, number, match)
            if len(self._matches) > self._most:
                return

    def _holding(self, block: bytes) -> Sequence[int]:
        """The lines of the block that hold a necessary text: looking costs a tenth of running the pattern."""
        if not self._literals or (self._ignore_case and not block.isascii()):
            return range(block.count(b"\n") + (not block.endswith(b"\n")))
        if self._ignore_case:
            block = block.lower()
        return sorted({index for literal in self._literals for index in _lines_with(literal, block)})


def _lines_with(literal: bytes, block: bytes) -> Iterator[int]:
    index = counted = 0
    at = block.find(literal)
    while at >= 0:
        index += block.count(b"\n", counted, at)
        yield index
        counted = block.find(b"\n", at)
        at = block.find(literal, counted) if counted >= 0 else -1


def _blocks(fd: int) -> Iterator[tuple[bytes, bool]]:
    """The file in pieces of whole lines, and which one is the last; of a line over the size, the beginning."""
    asked = min(BLOCK_BYTES, max(os.fstat(fd).st_size + 1, 4096))
    read = os.read(fd, asked)
    left = read[len(_MARK) :] if read.startswith(_MARK) else read
    while len(read) == asked:  # a file gives less at its end only
        end = left.rfind(b"\n") + 1
        if end:
            yield left[:end], False
            left = left[end:]
        elif len(left) >= BLOCK_BYTES:
            yield left[:BLOCK_BYTES] + b"\n", False
            left = b""
            while len(read) == asked and b"\n" not in left:
                left = read = os.read(fd, asked)
            left = left[left.find(b"\n") + 1 :] if b"\n" in left else b""
            continue
        asked = BLOCK_BYTES
        read = os.read(fd, asked)
        left += read
    yield left, True


def _is_binary(fd: int) -> bool:
    """Whether there is a NUL byte anywhere in a file that is larger than a block."""
    at = 0
    while chunk := os.pread(fd, 1 << 20, at):
        if b"\0" in chunk:
            return True
        at += len(chunk)
    return False


def _lines(block: bytes) -> list[str]:
    lines = block.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _part(line: str, at: int) -> str:
    start = max(0, at - LONGEST_LINE_SHOWN // 2) if len(line) > LONGEST_LINE_SHOWN else 0
    return line[start : start + LONGEST_LINE_SHOWN]


def main() -> None:
    """Answer requests that come over the socket that is standard input, until its other end is closed."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    with socket.socket(fileno=0) as connection:
        while _serve(connection):
            pass


def _serve(connection: socket.socket) -> bool:
    header, fds, _, _ = socket.recv_fds(connection, FRAME.size, 1, socket.MSG_WAITALL)
    if len(header) < FRAME.size:
        return False
    try:
        request, listed, unreadable = (_receive(connection, size) for size in FRAME.unpack(header))
        answer = _answer(json.loads(request), fds[0], listed, unreadable)
    finally:
        for fd in fds:
            os.close(fd)
    raw = json.dumps(answer).encode()
    connection.sendall(LENGTH.pack(len(raw)) + raw)
    return True


def _receive(connection: socket.socket, size: int) -> bytes:
    raw = bytearray(size)
    view = memoryview(raw)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise EOFError("the worker is gone")
        view = view[count:]
    return bytes(raw)


def _answer(request: dict[str, Any], fd: int, listed: bytes, unreadable: bytes) -> dict[str, Any]:
    # The worker kills us in time; this is for when the worker is gone.
    limit_s = int(time.process_time() + request["timeout_s"]) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, resource.RLIM_INFINITY))
    lists = (listed.split(b"\0")[:-1], unreadable.split(b"\0")[:-1]) if request["from_lists"] else None
    try:
        search = Search(request)
    except (re.error, RecursionError, OverflowError) as error:
        return {"invalid_pattern": str(error)}
    try:
        return search.run(fd, lists)
    except MemoryError:
        return {"out_of_memory": True}


if __name__ == "__main__":
    main()
