"""A view of the file system for one command: what it may use is mounted, read-only or not; the rest is not there.

Landlock does not decide about `stat`, `chmod`, `chown`, `utime` and extended attributes. A read-only mount refuses
those that change something, and a path that leads nowhere answers `stat` as if nothing had ever been there.

/etc, /dev, /proc and /sys are mounted whole: all that is in them answers `stat`; Landlock alone keeps their contents.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Iterable
from functools import cache

_NEW_MOUNTS = 0x00020000
_NEW_USERS = 0x10000000
_NO_SET_IDS = 2
_NO_DEVICES = 4
_BIND = 4096
_RECURSIVE = 16384
_PRIVATE = 1 << 18
_DETACH = 2
_SYS_MOUNT_SETATTR = 442
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_AT_RECURSIVE = 0x8000
_AT_FDCWD = -100
_READ_ONLY = 1
SHARED_MEMORY = "/dev/shm"  # noqa: S108 (a mount of the command's own)
"""What programs share among their own processes; each command has one of its own, which ends with it."""
_SHARED_MEMORY_OPTIONS = "mode=1777,size=64m,nr_inodes=4096"
_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns"))


def enter(*, stage: str, system: Iterable[str], read: Iterable[str], write: Iterable[str]) -> bool:
    """Leave this process nothing but these paths: `system` as far as it is there, `read` and `write` without fail.

    `stage` is an empty folder that nobody else uses; it may be one of the paths itself. Says whether `SHARED_MEMORY` is
    one that is made for this process, and ends with it and its children.

    Raises:
        OSError: the machine does not give it, or a path is not there.
    """
    _unshare()
    writable = _both_names(write)
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    staged = os.open(stage, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _mount("view", stage, "tmpfs", _NO_SET_IDS | _NO_DEVICES, "mode=755,size=1m")
        read_only = _both_names(read)
        has_shared = _show_all(stage, staged, system=frozenset(system), read=read_only, write=writable)
    finally:
        os.close(staged)
    if "/" not in writable:
        _set_read_only(stage, flags=0)
    os.chdir(stage)
    machine = os.uname().machine
    if machine not in _SYS_PIVOT_ROOT:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), "pivot_root")
    _check(_libc.syscall(ctypes.c_long(_SYS_PIVOT_ROOT[machine]), b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _DETACH), "umount of the old root")
    os.chdir("/")
    return has_shared


@cache
def is_available(stage: str) -> bool:
    """Whether a process like this one can have a view; tried in a child, once."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            enter(stage=stage, system=("/usr", "/proc"), read=(), write=(stage,))
            code = 0
        except OSError:
            code = 1
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def _unshare() -> None:
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _check(_libc.unshare(_NEW_MOUNTS), "unshare")
        return
    _check(_libc.unshare(_NEW_MOUNTS | _NEW_USERS), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def _both_names(paths: Iterable[str]) -> frozenset[str]:
    """A path as it is configured and without symbolic links: programs use the one, links in files the other."""
    return frozenset(name for path in paths for name in (path, os.path.realpath(path)))


def _show_all(stage: str, staged: int, *, system: frozenset[str], read: frozenset[str], write: frozenset[str]) -> bool:
    has_shared = False
    for path in sorted(system | read | write | {SHARED_MEMORY}):  # a folder comes before what lies in it
        if path not in read | write:
            if path == SHARED_MEMORY:
                has_shared = _show_shared(stage + SHARED_MEMORY)
                continue
            if not os.path.exists(path):
                continue
            if os.path.islink(path):
                os.symlink(os.readlink(path), stage + path)
                continue
        source = f"/proc/self/fd/{staged}" if path == stage else path
        _show(source, path, stage, writable=path in write)
    return has_shared


def _show_shared(target: str) -> bool:
    """Hide the machine's shared memory behind an empty one."""
    if not os.path.isdir(target) or os.path.islink(target):
        return False  # this machine has none, or has it elsewhere
    _mount("shared", target, "tmpfs", _NO_SET_IDS | _NO_DEVICES, _SHARED_MEMORY_OPTIONS)
    return True


def _show(source: str, path: str, stage: str, *, writable: bool) -> None:
    target = stage + path
    if stat.S_ISDIR(os.stat(source).st_mode):
        os.makedirs(target, mode=0o755, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
    # The stage alone is not bound with what is mounted beneath it: that is the view itself.
    _mount(source, target, None, _BIND | (_RECURSIVE if source == path else 0))
    if not writable:
        _set_read_only(target, flags=_AT_RECURSIVE)


def _set_read_only(path: str, *, flags: int) -> None:
    attributes = _MountAttributes(set=_READ_ONLY)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        *(ctypes.c_int(_AT_FDCWD), os.fsencode(path), ctypes.c_uint(flags)),
        *(ctypes.byref(attributes), ctypes.c_size_t(ctypes.sizeof(attributes))),
    )
    _check(result, f"read-only mount of {path}")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    result = _libc.mount(*arguments[:3], ctypes.c_ulong(flags), arguments[3])
    _check(result, f"mount of {source or target}")


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
