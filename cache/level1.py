"""Level 1: answers in this process' own memory, bounded by bytes, evicted by S3-FIFO.

What is new waits in a small queue: asked for once more there, it moves to the main queue, else it goes, and only its
name is remembered for a while (a ghost). So a stream of answers that nobody asks for again passes through a tenth of
the memory (Yang et al., SOSP '23). An entry lives for seconds, and what was invalidated is dropped by name or by tag.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")

_SMALL = 0.1
_MOST_USES = 3
_OVERHEAD_BYTES = 1024
"""What an entry takes beside its payload: measured, rounded up."""


class _Node(Generic[T]):
    __slots__ = ("main", "size_bytes", "tags", "until", "uses", "value")

    def __init__(self, value: T, size_bytes: int, tags: tuple[str, ...], until: float) -> None:
        self.value = value
        self.size_bytes = size_bytes
        self.tags = tags
        self.until = until
        self.uses = 0
        self.main = False


class Level1(Generic[T]):
    """Names and what is remembered under them, until an instant of the caller's clock."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._nodes: dict[str, _Node[T]] = {}
        self._small: OrderedDict[str, None] = OrderedDict()
        self._main: OrderedDict[str, None] = OrderedDict()
        self._ghosts: OrderedDict[str, None] = OrderedDict()
        self._names: dict[str, set[str]] = {}
        self._small_bytes = 0
        self.size_bytes = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, name: str, now: float) -> T | None:
        """What is remembered, if it still may be given."""
        node = self._nodes.get(name)
        if node is None or now >= node.until:
            return None
        if node.uses < _MOST_USES:
            node.uses += 1
        return node.value

    def put(self, name: str, value: T, *, size_bytes: int, tags: tuple[str, ...], until: float) -> None:
        """Remember something under a name, to be dropped by each of the tags."""
        size_bytes += _OVERHEAD_BYTES
        replaced = self._nodes.get(name)
        self.drop(name)
        if size_bytes > self._limit_bytes * _SMALL:
            return
        node = _Node(value, size_bytes, tags, until)
        self._nodes[name] = node
        for tag in tags:
            self._names.setdefault(tag, set()).add(name)
        self.size_bytes += size_bytes
        if replaced is not None:
            node.uses, node.main = replaced.uses, replaced.main
        elif self._ghosts.pop(name, self) is None:
            node.main = True
        if node.main:
            self._main[name] = None
        else:
            self._small[name] = None
            self._small_bytes += size_bytes
        while self.size_bytes > self._limit_bytes:
            self._evict()

    def drop(self, name: str) -> None:
        """Forget what is under a name."""
        node = self._nodes.pop(name, None)
        if node is None:
            return
        for tag in node.tags:
            names = self._names.get(tag)
            if names is not None:
                names.discard(name)
                if not names:
                    del self._names[tag]
        self.size_bytes -= node.size_bytes
        if node.main:
            del self._main[name]
        else:
            del self._small[name]
            self._small_bytes -= node.size_bytes

    def drop_tag(self, tag: str) -> None:
        """Forget all that has the tag."""
        for name in list(self._names.get(tag, ())):
            self.drop(name)

    def clear(self) -> None:
        """Forget everything."""
        for queue in (self._nodes, self._small, self._main, self._ghosts, self._names):
            queue.clear()
        self._small_bytes = self.size_bytes = 0

    def _evict(self) -> None:
        if self._small and (self._small_bytes > self._limit_bytes * _SMALL or not self._main):
            name = next(iter(self._small))
            node = self._nodes[name]
            if node.uses:
                self._small.popitem(last=False)
                self._small_bytes -= node.size_bytes
                node.uses, node.main = 0, True
                self._main[name] = None
                return
            self.drop(name)
            self.evicted += 1
            self._ghosts[name] = None
            while len(self._ghosts) > max(64, len(self._nodes)):
                self._ghosts.popitem(last=False)
            return
        name = next(iter(self._main))
        node = self._nodes[name]
        if node.uses:
            node.uses -= 1
            self._main.move_to_end(name)
        else:
            self.drop(name)
            self.evicted += 1
