"""What was read of files, kept in this process' memory: exact, because each hit is compared with the file's status.

An entry counts only for the same device, inode, size, modification and change time (the last cannot be set by hand),
and is not kept at all when the file was changed so lately that one more change could bear the same time. The one
writer that no status tells of is a program that stores through a shared memory map: its changes are seen when the
kernel next updates the times, as every `make` and `git` sees them. The time to live bounds memory, not staleness.
"""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping

import msgspec

CLOCK_GRANULARITY_NS = 20_000_000
"""Coarser than the clock that kernels stamp files with (at most 10 ms): two changes within it may look like one."""
_ENTRY_BYTES = 512
"""What an entry costs besides its content."""

Key = tuple[int, int]
Version = tuple[int, int, int]


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What reading a whole file has shown."""

    sha256: str
    size_bytes: int
    newline: str
    """`\\n`, `\\r\\n`, `\\r`, `mixed` or `none`."""
    mark: str | None
    """The encoding that its byte order mark says; None: there is no mark."""
    content: bytes | None
    """All of it, when it is small."""


class _Entry(msgspec.Struct, frozen=True):
    version: Version
    facts: FileFacts
    ends_at: float
    cost_bytes: int


class ReadCache:
    """Least recently used goes first, beyond `limit_bytes` in all; safe for threads."""

    def __init__(self, limit_bytes: int, ttl_s: Mapping[str, float]) -> None:
        self._limit_bytes = limit_bytes
        self._ttl_s = dict(ttl_s)
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self.used_bytes = 0
        self.hits = 0
        self.misses = 0

    def get(self, status: os.stat_result) -> FileFacts | None:
        """The facts of exactly this file in exactly this state."""
        key = _key(status)
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and (entry.version != _version(status) or entry.ends_at < time.monotonic()):
                self._remove(key)
                entry = None
            if entry is None:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end(key)
            return entry.facts

    def put(self, status: os.stat_result, facts: FileFacts, *, operation: str) -> None:
        """Keep what was read; `status` is from before the reading began, and was the same when it ended."""
        ttl_s = self._ttl_s.get(operation, 0.0)
        cost_bytes = _ENTRY_BYTES + len(facts.content or b"")
        if ttl_s <= 0 or cost_bytes > self._limit_bytes:
            return
        if max(status.st_mtime_ns, status.st_ctime_ns) > time.time_ns() - CLOCK_GRANULARITY_NS:
            return
        key = _key(status)
        with self._lock:
            self._remove(key)
            self._entries[key] = _Entry(_version(status), facts, time.monotonic() + ttl_s, cost_bytes)
            self.used_bytes += cost_bytes
            while self.used_bytes > self._limit_bytes:
                self._remove(next(iter(self._entries)))

    def drop(self, device: int, inode: int) -> None:
        """Forget a file that is gone or was replaced."""
        with self._lock:
            self._remove((device, inode))

    def _remove(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.used_bytes -= entry.cost_bytes


def _key(status: os.stat_result) -> Key:
    return status.st_dev, status.st_ino


def _version(status: os.stat_result) -> Version:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
