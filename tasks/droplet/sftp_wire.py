"""The fields of SFTP version 3 packets: names are bytes, and nothing that the server claims is believed unchecked."""

import stat
import struct
from dataclasses import dataclass
from enum import IntEnum

_LONGEST_NAME_BYTES = 4096
_LARGEST_SIZE_BYTES = (1 << 53) - 1
"""What JSON carries exactly; no file is that large."""


class Ask(IntEnum):
    """Kinds of requests."""

    INIT = 1
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    READLINK = 19
    EXTENDED = 200


class Answer(IntEnum):
    """Kinds of answers."""

    VERSION = 2
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED_REPLY = 201


class Status(IntEnum):
    """What a server may say of a request; everything without a number of its own is FAILURE."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    OP_UNSUPPORTED = 8


class OpenFlag(IntEnum):
    """How a file is opened."""

    READ = 1
    WRITE = 2
    CREATE = 8
    TRUNCATE = 16
    EXCLUSIVE = 32


class InvalidAnswer(Exception):
    """The server has broken the protocol: nothing more that it says on this channel can be understood."""


class Refusal(Exception):
    """The server has said no to one request; the channel is as good as before."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """What the server says of a file; None: it does not say."""

    size_bytes: int | None = None
    """None also for a size that no file can have."""
    owner: int | None = None
    group: int | None = None
    mode: int | None = None
    """With the kind of file, as in `st_mode`."""
    accessed_at: int | None = None
    modified_at: int | None = None

    @property
    def kind(self) -> str:
        """`file`, `directory`, `symlink` or `other`; also when the server does not say."""
        kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
        return kinds.get(stat.S_IFMT(self.mode or 0), "other")

    @property
    def permissions(self) -> int | None:
        """The mode without the kind."""
        return None if self.mode is None else stat.S_IMODE(self.mode)

    @property
    def octal(self) -> str | None:
        """The permissions as results show them, `0644`."""
        return None if self.permissions is None else f"{self.permissions:04o}"

    def packed(self) -> bytes:
        """As a request carries them."""
        flags, raw = 0, b""
        if self.size_bytes is not None:
            flags, raw = flags | 1, raw + struct.pack(">Q", self.size_bytes)
        if self.owner is not None and self.group is not None:
            flags, raw = flags | 2, raw + struct.pack(">II", self.owner, self.group)
        if self.mode is not None:
            flags, raw = flags | 4, raw + struct.pack(">I", self.mode)
        if self.accessed_at is not None and self.modified_at is not None:
            flags, raw = flags | 8, raw + struct.pack(">II", self.accessed_at, self.modified_at)
        return struct.pack(">I", flags) + raw


@dataclass(frozen=True)
class Named:
    """One entry of a folder, as the server spells it."""

    name: bytes
    attributes: Attributes

    @property
    def is_usable(self) -> bool:
        """Whether it can be the name of one thing in the folder, and leads nowhere else."""
        name = self.name
        return (
            0 < len(name) <= _LONGEST_NAME_BYTES
            and name not in (b".", b"..")
            and b"/" not in name
            and b"\0" not in name
        )


class Fields:
    """Takes the fields off an answer, and never reads beyond its end."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._raw)

    def number(self) -> int:
        """Four bytes."""
        value: int = struct.unpack(">I", self._take(4))[0]
        return value

    def long(self) -> int:
        """Eight bytes."""
        value: int = struct.unpack(">Q", self._take(8))[0]
        return value

    def string(self) -> bytes:
        """A length and so many bytes."""
        return self._take(self.number())

    def attributes(self) -> Attributes:
        """What is said of a file."""
        flags = self.number()
        size = self.long() if flags & 1 else None
        owner, group = (self.number(), self.number()) if flags & 2 else (None, None)
        mode = self.number() if flags & 4 else None
        accessed_at, modified_at = (self.number(), self.number()) if flags & 8 else (None, None)
        if flags & 0x80000000:
            for _ in range(self.number()):
                self.string()
                self.string()
        return Attributes(
            size_bytes=size if size is not None and size <= _LARGEST_SIZE_BYTES else None,
            owner=owner,
            group=group,
            mode=mode,
            accessed_at=accessed_at,
            modified_at=modified_at,
        )

    def names(self) -> list[Named]:
        """The entries of an answer; a count that is larger than the answer is found out."""
        found: list[Named] = []
        for _ in range(self.number()):
            name = self.string()
            self.string()  # the same for people
            found.append(Named(name, self.attributes()))
        return found

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._raw):
            raise InvalidAnswer("an answer ends in the middle of a field")
        taken = self._raw[self._at : end]
        self._at = end
        return taken


def string(raw: bytes) -> bytes:
    """A field of a request."""
    return struct.pack(">I", len(raw)) + raw


def number(value: int) -> bytes:
    """A field of a request."""
    return struct.pack(">I", value)


def long(value: int) -> bytes:
    """A field of a request."""
    return struct.pack(">Q", value)
