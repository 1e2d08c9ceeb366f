"""Landlock: the kernel keeps a process, and all that it starts, to the folders and ports it was given.

It decides when a file is opened, made, renamed or removed. It does not decide about `stat`, `chmod`, `utime` and
extended attributes: those are kept by the command's view (`tasks.sandbox.view`), or refused (`tasks.sandbox.seccomp`).
"""

import ctypes
import errno
import os
import stat

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_FOLDER = 1 << 3
REMOVE_FOLDER = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_CHARACTER_DEVICE = 1 << 6
MAKE_FOLDER = 1 << 7
MAKE_FILE = 1 << 8
MAKE_SOCKET = 1 << 9
MAKE_FIFO = 1 << 10
MAKE_BLOCK_DEVICE = 1 << 11
MAKE_LINK = 1 << 12
MOVE_BETWEEN_FOLDERS = 1 << 13
TRUNCATE = 1 << 14
CONTROL_DEVICE = 1 << 15

READ = EXECUTE | READ_FILE | READ_FOLDER
CHANGE = (
    (WRITE_FILE | REMOVE_FOLDER | REMOVE_FILE | MAKE_FOLDER | MAKE_FILE | MAKE_SOCKET | MAKE_FIFO | MAKE_LINK)
    | MOVE_BETWEEN_FOLDERS
    | TRUNCATE
)
DEVICE = READ_FILE | WRITE_FILE | CONTROL_DEVICE

_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | CONTROL_DEVICE
_HANDLED_SINCE = {1: MOVE_BETWEEN_FOLDERS - 1, 2: MOVE_BETWEEN_FOLDERS, 3: TRUNCATE, 5: CONTROL_DEVICE}
"""ABI -> the rights that it is the first to know."""
_TCP = 3  # bind and connect
_CONNECT_TCP = 2
_TCP_SINCE = 4
_SCOPES = 3  # abstract sockets and signals
_SCOPES_SINCE = 6

_SYS_CREATE_RULESET = 444  # the same numbers on every architecture
_SYS_ADD_RULE = 445
_SYS_RESTRICT_SELF = 446
_VERSION = 1
_PATH_BENEATH = 1
_NET_PORT = 2
_libc = ctypes.CDLL(None, use_errno=True)


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class _NetPort(ctypes.Structure):
    _fields_ = (("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64))


def abi() -> int:
    """What the kernel offers: 0 is nothing; 3 (Linux 6.2) all of files, 4 also TCP, 6 also signals."""
    try:
        return _call(_SYS_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return 0
        raise


class Ruleset:
    """Everything that the kernel's ABI knows is denied but what is allowed here; takes effect with `restrict`."""

    def __init__(self, *, tcp: bool) -> None:
        """With `tcp`, connections and listening are denied too, but for `allow_port`.

        Raises:
            OSError: EOPNOTSUPP when the kernel lacks what is asked for.
        """
        version = abi()
        if version < 1 or (tcp and version < _TCP_SINCE):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        self._files = sum(rights for since, rights in _HANDLED_SINCE.items() if since <= version)
        attributes = _RulesetAttributes(self._files, _TCP if tcp else 0, _SCOPES if version >= _SCOPES_SINCE else 0)
        size = 8 if version < _TCP_SINCE else 16 if version < _SCOPES_SINCE else 24
        self._fd = _call(_SYS_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))

    def allow(self, fd: int, rights: int) -> None:
        """Allow `rights` on an open file, or on an open folder and all beneath it."""
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_FILES
        rule = _PathBeneath(rights & self._files, fd)
        _call(
            _SYS_ADD_RULE, ctypes.c_int(self._fd), ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0)
        )

    def allow_port(self, port: int) -> None:
        """Allow connections to a TCP port, of any host."""
        rule = _NetPort(_CONNECT_TCP, port)
        _call(_SYS_ADD_RULE, ctypes.c_int(self._fd), ctypes.c_int(_NET_PORT), ctypes.byref(rule), ctypes.c_uint32(0))

    def restrict(self) -> None:
        """Put this process under the rules for good; it must have `no_new_privs`."""
        _call(_SYS_RESTRICT_SELF, ctypes.c_int(self._fd), ctypes.c_uint32(0))
        self.close()

    def close(self) -> None:
        """Let go of the rules, in force or not."""
        os.close(self._fd)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
