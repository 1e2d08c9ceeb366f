"""Opening a path so that the kernel, not we, sees to it that it stays beneath a folder.

`openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)` decides while it resolves, so nobody can swap a folder for a link
between a check and the use. Where the kernel or a seccomp filter does not offer it, the path is walked component by
component with `O_NOFOLLOW`; then symbolic links are refused altogether.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Callable

_SYS_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_TRIES = 128
"""openat2 says EAGAIN when a rename goes on anywhere on the way: a busy attacker may cause a few in a row."""

_RENAME_NOREPLACE = 1

_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = getattr(_libc, "renameat2", None)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_by_kernel(root_fd: int, path: bytes, flags: int) -> int:
    """A descriptor of `path` beneath `root_fd`, by openat2.

    Raises:
        OSError: EXDEV for a path that leads outside; ENOSYS or EPERM where openat2 is not to be had.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    for _ in range(_TRIES):
        fd = int(
            _libc.syscall(
                ctypes.c_long(_SYS_OPENAT2),
                ctypes.c_int(root_fd),
                ctypes.c_char_p(path),
                ctypes.byref(how),
                ctypes.c_size_t(ctypes.sizeof(how)),
            )
        )
        if fd >= 0:
            return fd
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            break
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


def open_by_walk(root_fd: int, path: bytes, flags: int) -> int:
    """The same by walking; a symbolic link anywhere on the way is refused with ELOOP.

    Raises:
        OSError: EXDEV for a path that leads outside, ELOOP for a link.
    """
    if path.startswith(b"/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    last = parts.pop() if parts and parts[-1] != b".." else b"."
    folders = [os.dup(root_fd)]
    try:
        for part in parts:
            if part == b"..":
                if len(folders) == 1:
                    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
                os.close(folders.pop())
                continue
            folders.append(_open_component(folders[-1], part, os.O_PATH | os.O_DIRECTORY))
        return _open_component(folders[-1], last, flags)
    finally:
        for fd in folders:
            os.close(fd)


def rename_new(source_fd: int, source: bytes, target_fd: int, target: bytes) -> None:
    """Rename in one step, and never over something that is there.

    Raises:
        OSError: FileExistsError when the target exists.
    """
    if _renameat2 is not None:
        arguments = (ctypes.c_int(source_fd), ctypes.c_char_p(source), ctypes.c_int(target_fd), ctypes.c_char_p(target))
        if _renameat2(*arguments, ctypes.c_uint(_RENAME_NOREPLACE)) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number))
    # A file system without the flag: what makes the name must fail when it is taken.
    if stat.S_ISDIR(os.stat(source, dir_fd=source_fd, follow_symlinks=False).st_mode):
        os.mkdir(target, dir_fd=target_fd)
        os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)
    else:
        os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)
        os.unlink(source, dir_fd=source_fd)


def _open_component(folder_fd: int, name: bytes, flags: int) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    except NotADirectoryError as error:
        # O_DIRECTORY with O_NOFOLLOW says ENOTDIR for a link too; the difference matters to whoever reads the error.
        try:
            os.readlink(name, dir_fd=folder_fd)
        except OSError:
            raise error from None
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error


def _choose() -> Callable[[int, bytes, int], int]:
    top = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(open_by_kernel(top, b".", os.O_PATH | os.O_DIRECTORY))
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return open_by_walk
        raise
    finally:
        os.close(top)
    return open_by_kernel


open_beneath: Callable[[int, bytes, int], int] = _choose()
"""`(root_fd, path, flags) -> fd`: what this machine can do."""
