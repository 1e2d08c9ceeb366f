"""SFTP version 3, as a client of servers that are not trusted and over links that break.

paramiko's own client reads names as UTF-8 or not at all, forgets which status the server gave and which extensions it
has, and waits for each answer without an end. Here names are bytes, every answer is checked (also of each pipelined
write), and reads and writes are many at a time.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager

import paramiko

from tasks.droplet.sftp_exchange import Exchange
from tasks.droplet.sftp_wire import Answer, Ask, Attributes, Named, OpenFlag, Refusal, Status, long, number, string

_SAFE_PIECE_BYTES = 32_768
"""What every server takes in one request."""
_LARGEST_PIECE_BYTES = 261_120
_IN_FLIGHT_BYTES = 2 << 20
"""As much as paramiko's window holds."""
_READDIRS_IN_FLIGHT = 4
_REMOVES_IN_FLIGHT = 64
_SAID_EACH = 500

_FSYNC = b"fsync@openssh.com"
_POSIX_RENAME = b"posix-rename@openssh.com"
_LIMITS = b"limits@openssh.com"


class Sftp:
    """The files of one host, over one channel; for one piece of work after the other.

    All methods raise Refusal (the server said no), Lost, InvalidAnswer, and what `patience` raises.
    """

    def __init__(self, channel: paramiko.Channel, patience: Callable[[], None], *, silence_s: float = 30.0) -> None:
        self._exchange = Exchange(channel, patience, silence_s=silence_s)
        self._piece_bytes: int | None = None
        self._extensions: frozenset[bytes] = frozenset()

    def greet(self) -> None:
        """Begin, on a fresh channel."""
        self._extensions = self._exchange.greet()

    def go_on(self, patience: Callable[[], None]) -> None:
        """Begin the next piece of work, on a channel that was settled."""
        self._exchange.patience = patience

    @property
    def is_sound(self) -> bool:
        """Whether the channel can still be used."""
        return self._exchange.is_sound

    @property
    def can_replace(self) -> bool:
        """Whether `replace` is offered."""
        return _POSIX_RENAME in self._extensions

    def settle(self) -> None:
        """Leave the channel so that somebody else can go on with it."""
        self._exchange.settle()

    @contextmanager
    def last_words(self, limit_s: float) -> Generator[None, None, None]:
        """In here, patience is a time: to clean up after the work was told to end."""
        with self._exchange.last_words(limit_s):
            yield

    # -- names ---------------------------------------------------------------------------------------------------

    def real_path(self, path: bytes) -> bytes:
        """The absolute path with all links followed; servers differ in whether the last name must be there."""
        return self._one_name(Ask.REALPATH, path)

    def read_link(self, path: bytes) -> bytes:
        """What a symbolic link says, as it is stored."""
        return self._one_name(Ask.READLINK, path)

    def stat(self, path: bytes, *, follow: bool = True) -> Attributes:
        """What a path is."""
        kind = Ask.STAT if follow else Ask.LSTAT
        return self._exchange.ask(kind, string(path), expect=Answer.ATTRS).attributes()

    def remove(self, path: bytes) -> None:
        """Remove anything but a folder."""
        self._do(Ask.REMOVE, string(path))

    def make_folder(self, path: bytes) -> None:
        """With the rights that the server gives by itself."""
        self._do(Ask.MKDIR, string(path) + Attributes().packed())

    def remove_many(self, paths: Iterable[bytes]) -> Iterator[int]:
        """Remove many at a time, what is gone already too; says how many so far, now and then."""
        asked: deque[int] = deque()
        done = 0
        try:
            for path in paths:
                asked.append(self._exchange.request(Ask.REMOVE, string(path)))
                if len(asked) >= _REMOVES_IN_FLIGHT:
                    self._removed(asked.popleft())
                    done += 1
                    if done % _SAID_EACH == 0:
                        yield done
            while asked:
                self._removed(asked.popleft())
                done += 1
            yield done
        finally:
            self._exchange.forget(asked)

    def remove_folder(self, path: bytes) -> None:
        """Remove an empty folder."""
        self._do(Ask.RMDIR, string(path))

    def rename(self, old: bytes, new: bytes) -> None:
        """Refused when there is something at `new`."""
        self._do(Ask.RENAME, string(old) + string(new))

    def replace(self, old: bytes, new: bytes) -> None:
        """In one step, also when there is something at `new`; refused by servers that cannot."""
        if not self.can_replace:
            raise Refusal(Status.OP_UNSUPPORTED, "it does not offer posix-rename@openssh.com")
        self._do(Ask.EXTENDED, string(_POSIX_RENAME) + string(old) + string(new))

    def entries(self, path: bytes) -> Iterator[Named]:
        """What is in a folder, in no order, with `.`, `..` and whatever else the server makes up."""
        handle = self._exchange.ask(Ask.OPENDIR, string(path), expect=Answer.HANDLE).string()
        asked: deque[int] = deque()
        try:
            while True:
                while len(asked) < _READDIRS_IN_FLIGHT:
                    asked.append(self._exchange.request(Ask.READDIR, string(handle)))
                try:
                    found = self._exchange.answer(asked.popleft(), expect=Answer.NAME).names()
                except Refusal as refusal:
                    if refusal.status == Status.EOF:
                        return
                    raise
                if not found:
                    raise self._exchange.invalid("it lists nothing, and says that more follows")
                yield from found
        finally:
            self._exchange.forget(asked)
            self.close(handle)

    # -- open files ----------------------------------------------------------------------------------------------

    def open(self, path: bytes, *flags: OpenFlag) -> bytes:
        """A handle."""
        fields = string(path) + number(sum(flags)) + Attributes().packed()
        return self._exchange.ask(Ask.OPEN, fields, expect=Answer.HANDLE).string()

    def close(self, handle: bytes) -> None:
        """Close a handle, without waiting: what was written and acknowledged is written."""
        self._exchange.say(Ask.CLOSE, string(handle))

    def stat_open(self, handle: bytes) -> Attributes:
        """What an open file is now."""
        return self._exchange.ask(Ask.FSTAT, string(handle), expect=Answer.ATTRS).attributes()

    def set_attributes(self, handle: bytes, attributes: Attributes) -> None:
        """Change an open file's attributes."""
        self._do(Ask.FSETSTAT, string(handle) + attributes.packed())

    def sync(self, handle: bytes) -> bool:
        """Onto the disk; False when the server cannot."""
        if _FSYNC not in self._extensions:
            return False
        self._do(Ask.EXTENDED, string(_FSYNC) + string(handle))
        return True

    def read(self, handle: bytes, *, offset: int = 0, size_hint: int = 0) -> Iterator[bytes]:
        """The content from `offset` to its end, wherever that is: the size is a hint for how much to ask ahead."""
        piece_bytes = _SAFE_PIECE_BYTES if size_hint - offset <= _SAFE_PIECE_BYTES else self._largest_piece()
        asked: deque[tuple[int, int, int]] = deque()
        ask_at = offset
        try:
            while True:
                while not asked or (ask_at < size_hint and len(asked) * piece_bytes < _IN_FLIGHT_BYTES):
                    asked.append((self._ask_to_read(handle, ask_at, piece_bytes), ask_at, piece_bytes))
                    ask_at += piece_bytes
                request, at, length = asked.popleft()
                piece = self._piece(request, length)
                if not piece:
                    return
                if len(piece) < length:  # as at the end, or in between: the rest is asked for again, and first
                    rest = (at + len(piece), length - len(piece))
                    asked.appendleft((self._ask_to_read(handle, *rest), *rest))
                yield piece
        finally:
            self._exchange.forget(request for request, _, _ in asked)

    def write(self, handle: bytes, content: Iterable[bytes], *, offset: int = 0) -> int:
        """Write, in order; returns where it has ended. Every piece was acknowledged then."""
        asked: deque[int] = deque()
        try:
            for chunk in content:
                piece_bytes = _SAFE_PIECE_BYTES if len(chunk) <= _SAFE_PIECE_BYTES else self._largest_piece()
                for start in range(0, len(chunk), piece_bytes):
                    if (len(asked) + 1) * piece_bytes > _IN_FLIGHT_BYTES:
                        self._exchange.answer(asked.popleft(), expect=Answer.STATUS)
                    piece = chunk[start : start + piece_bytes]
                    asked.append(self._exchange.request(Ask.WRITE, string(handle) + long(offset) + string(piece)))
                    offset += len(piece)
            while asked:
                self._exchange.answer(asked.popleft(), expect=Answer.STATUS)
        finally:
            self._exchange.forget(asked)
        return offset

    def _largest_piece(self) -> int:
        if self._piece_bytes is None:
            self._piece_bytes = _SAFE_PIECE_BYTES
            if _LIMITS in self._extensions:
                limits = self._exchange.ask(Ask.EXTENDED, string(_LIMITS), expect=Answer.EXTENDED_REPLY)
                limits.long()  # of a packet
                most = min(limits.long() or _SAFE_PIECE_BYTES, limits.long() or _SAFE_PIECE_BYTES)
                self._piece_bytes = max(_SAFE_PIECE_BYTES, min(most, _LARGEST_PIECE_BYTES))
        return self._piece_bytes

    def _ask_to_read(self, handle: bytes, offset: int, length: int) -> int:
        return self._exchange.request(Ask.READ, string(handle) + long(offset) + number(length))

    def _piece(self, request: int, length: int) -> bytes:
        """Empty at the end of the file."""
        try:
            piece = self._exchange.answer(request, expect=Answer.DATA).string()
        except Refusal as refusal:
            if refusal.status == Status.EOF:
                return b""
            raise
        if not 0 < len(piece) <= length:
            raise self._exchange.invalid("it sends more than it was asked for, or nothing")
        return piece

    def _removed(self, request: int) -> None:
        try:
            self._exchange.answer(request, expect=Answer.STATUS)
        except Refusal as refusal:
            if refusal.status != Status.NO_SUCH_FILE:
                raise

    def _one_name(self, kind: Ask, path: bytes) -> bytes:
        names = self._exchange.ask(kind, string(path), expect=Answer.NAME).names()
        if len(names) != 1 or b"\0" in names[0].name:
            raise self._exchange.invalid("it does not give the one path that it was asked for")
        return names[0].name

    def _do(self, kind: Ask, fields: bytes) -> None:
        self._exchange.ask(kind, fields, expect=Answer.STATUS)
