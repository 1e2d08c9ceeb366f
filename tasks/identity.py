"""Which file it is, and in which state: what a file can be known by later on.

An inode's number is used again as soon as it is free, often for the very next file, so the time of birth belongs to it.
`os.stat` does not tell that time in this version of Python; `statx` does. Where neither the system nor the file system
knows it (it is 0 then), the inode's number alone must do.
"""

import ctypes
import errno
import os
import struct
from typing import NamedTuple

_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_BASIC_AND_BIRTH = 0xFFF
_BIRTH = 0x800
_SIZE_BYTES = 256
_HEAD = struct.Struct("=I28xQQ")
"""The mask, the inode and the size."""
_BIRTH_AT, _MODIFIED_AT, _DEVICE_AT = 80, 112, 136
_TIME = struct.Struct("=qI")
_DEVICE = struct.Struct("=II")

_libc = ctypes.CDLL(None, use_errno=True)
_statx = getattr(_libc, "statx", None)


class Identity(NamedTuple):
    """A file or folder, and its state."""

    device: int
    inode: int
    born_ns: int
    size_bytes: int
    modified_ns: int

    def is_same_file(self, other: "Identity") -> bool:
        """Whether it is the same one, in whatever state."""
        return self[:3] == other[:3]


def identity_of(fd: int) -> Identity:
    """Of what is open."""
    return _look(fd, b"", _AT_EMPTY_PATH) or _without_birth(os.fstat(fd))


def identity_at(folder_fd: int, name: bytes) -> Identity:
    """Of what has the name; of a link, the link itself.

    Raises:
        OSError: FileNotFoundError and the like.
    """
    found = _look(folder_fd, name, _AT_SYMLINK_NOFOLLOW)
    return found or _without_birth(os.stat(name, dir_fd=folder_fd, follow_symlinks=False))


def _look(fd: int, name: bytes, flags: int) -> Identity | None:
    if _statx is None:
        return None
    buffer = ctypes.create_string_buffer(_SIZE_BYTES)
    if _statx(ctypes.c_int(fd), ctypes.c_char_p(name), ctypes.c_int(flags), ctypes.c_uint(_BASIC_AND_BIRTH), buffer):
        number = ctypes.get_errno()
        if number in (errno.ENOSYS, errno.EPERM):
            return None
        raise OSError(number, os.strerror(number))
    raw = buffer.raw
    mask, inode, size_bytes = _HEAD.unpack_from(raw)
    seconds, nanoseconds = _TIME.unpack_from(raw, _MODIFIED_AT)
    born = _TIME.unpack_from(raw, _BIRTH_AT) if mask & _BIRTH else (0, 0)
    device = os.makedev(*_DEVICE.unpack_from(raw, _DEVICE_AT))
    return Identity(device, inode, born[0] * 10**9 + born[1], size_bytes, seconds * 10**9 + nanoseconds)


def _without_birth(status: os.stat_result) -> Identity:
    return Identity(status.st_dev, status.st_ino, 0, status.st_size, status.st_mtime_ns)
