"""A seccomp filter: system calls that a command has no business with, and that Landlock does not decide about.

Sockets are the main thing. Landlock knows TCP alone, and nothing of connecting to a socket's path (before its ABI 9),
behind which brokers listen: so without network no socket can be made at all, and with it none of the kind AF_UNIX.
Pairs of connected stream sockets are allowed; they lead nowhere else. What takes its arguments from memory, where a
filter cannot look (`clone3`, `openat2`, io_uring), is said not to exist: the C library falls back to what it can see.
"""

import ctypes
import errno
import os
import socket
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

_LOAD = 0x20
_AND = 0x54
_JUMP_EQUAL = 0x15
_JUMP_AT_LEAST = 0x35
_RETURN = 0x06
_ALLOW = 0x7FFF0000
_ERROR = 0x00050000
_OFFSET_NUMBER = 0
_OFFSET_ARCHITECTURE = 4
_OFFSET_ARGUMENTS = 16
_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_libc = ctypes.CDLL(None, use_errno=True)

_SET_IDS = 0o6000
_IOPRIO_PROCESS = 1
_NEW_NAMESPACES = 0x7E020080
_FLAG_REQUESTS = (
    *(0x40086602, 0x40046602, 0x401C5820),  # FS_IOC_SETFLAGS, FS_IOC32_SETFLAGS, FS_IOC_FSSETXATTR
    *(0x40087602, 0x40047602, 0x40086604),  # FS_IOC_SETVERSION, FS_IOC32_SETVERSION, EXT4_IOC_SETVERSION
    *(0x40806685, 0x800C6613),  # FS_IOC_ENABLE_VERITY, FS_IOC_SET_ENCRYPTION_POLICY
)
"""A file's flags, such as immutable, and the like; a descriptor that only reads is enough to change them."""
_PROTOCOLS = (0, socket.IPPROTO_ICMP, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMPV6)
_TYPE = 0xF
"""The part of a socket's type that is no flag."""


Step = tuple[int, int, int, int]
"""An instruction: code, how many steps to skip when it holds and when it does not, and its operand."""


class AnyBit(NamedTuple):
    """Holds when an argument has any bit of the mask."""

    argument: int
    mask: int = 0xFFFFFFFF

    def steps(self, skip: int) -> list[Step]:
        """The test; when it does not hold, `skip` steps behind it are left out."""
        return [*_masked(self.argument, self.mask), (_JUMP_EQUAL, skip, 0, 0)]


class OneOf(NamedTuple):
    """Holds when the argument is one of the values."""

    argument: int
    values: tuple[int, ...]

    def steps(self, skip: int) -> list[Step]:
        """The test; when it does not hold, `skip` steps behind it are left out."""
        last = len(self.values) - 1
        found = [
            (_JUMP_EQUAL, last - index, 0 if index < last else skip, value) for index, value in enumerate(self.values)
        ]
        return [*_masked(self.argument, 0xFFFFFFFF), *found]


class NoneOf(NamedTuple):
    """Holds when the masked argument is none of the values."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF

    def steps(self, skip: int) -> list[Step]:
        """The test; when it does not hold, `skip` steps behind it are left out."""
        last = len(self.values) - 1
        jumps = [(_JUMP_EQUAL, last - index + skip, 0, value) for index, value in enumerate(self.values)]
        return [*_masked(self.argument, self.mask), *jumps]


def _masked(argument: int, mask: int) -> list[Step]:
    return [(_LOAD, 0, 0, _OFFSET_ARGUMENTS + 8 * argument), (_AND, 0, 0, mask)]


class Denial(NamedTuple):
    """System calls that fail with `error` when all the conditions hold."""

    names: tuple[str, ...]
    error: int = errno.EPERM
    conditions: tuple[AnyBit | OneOf | NoneOf, ...] = ()


_ALWAYS = (
    Denial(
        ("io_uring_setup", "io_uring_enter", "io_uring_register", "clone3", "openat2", "fchmodat2", "userfaultfd"),
        errno.ENOSYS,
    ),
    Denial(
        ("add_key", "keyctl", "request_key", "bpf", "perf_event_open", "kexec_load", "kexec_file_load"), errno.ENOSYS
    ),
    Denial(("init_module", "finit_module", "delete_module", "setns", "mount_setattr", "open_by_handle_at")),
    # A namespace of one's own brings capabilities in it, and with them most of the kernel's weak spots.
    Denial(("clone", "unshare"), conditions=(AnyBit(0, _NEW_NAMESPACES & ~0x80),)),
    Denial(("unshare",), conditions=(AnyBit(0, 0x80),)),
    # A program with the owner's rights would be an exit for whoever else is on the machine.
    Denial(("chmod", "fchmod", "creat", "mkdir", "mknod"), conditions=(AnyBit(1, _SET_IDS),)),
    Denial(("fchmodat", "mkdirat", "mknodat"), conditions=(AnyBit(2, _SET_IDS),)),
    Denial(("open",), conditions=(AnyBit(1, os.O_CREAT), AnyBit(2, _SET_IDS))),
    Denial(("openat",), conditions=(AnyBit(2, os.O_CREAT), AnyBit(3, _SET_IDS))),
    # The limits and the priority of other processes of the same user, the worker's among them.
    Denial(("prlimit64",), conditions=(AnyBit(0),)),
    Denial(("setpriority",), conditions=(AnyBit(0),)),  # of a group's or a user's processes
    Denial(("setpriority",), conditions=(AnyBit(1),)),
    Denial(("ioprio_set",), conditions=(NoneOf(0, (_IOPRIO_PROCESS,)),)),
    Denial(("ioprio_set",), conditions=(AnyBit(1),)),
    Denial(
        ("sched_setparam", "sched_setscheduler", "sched_setattr", "sched_setaffinity"),
        conditions=(AnyBit(0),),
    ),
    # System V's and POSIX' named memory, semaphores and queues outlive the command, and are shared by its user's.
    Denial(
        (
            *("shmget", "shmat", "shmctl", "semget", "semop", "semtimedop", "semctl", "msgget", "msgsnd", "msgrcv"),
            *("msgctl", "mq_open", "mq_unlink"),
        ),
        errno.ENOSYS,
    ),
    # A datagram socket, also one of a pair, can send to any path.
    Denial(("socketpair",), errno.EACCES, (NoneOf(1, (socket.SOCK_STREAM, socket.SOCK_SEQPACKET), _TYPE),)),
)
_NO_METADATA = (
    Denial(("ioctl",), conditions=(OneOf(1, _FLAG_REQUESTS),)),
    Denial(("setxattrat", "removexattrat", "file_setattr"), errno.ENOSYS),
    Denial(
        (
            *("chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat"),
            *("utime", "utimes", "futimesat", "utimensat"),
            *("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"),
        )
    ),
)
_NO_NETWORK = (Denial(("socket",), errno.EACCES),)
_NETWORK = (
    Denial(("socket",), errno.EACCES, (NoneOf(0, (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)),)),
    # Landlock's rules for ports are for TCP: other protocols that carry streams (MPTCP, SCTP) would go around them.
    Denial(("socket",), errno.EACCES, (NoneOf(2, _PROTOCOLS),)),
)

_X86_64 = (
    {"open": 2, "socket": 41, "socketpair": 53, "clone": 56, "mkdir": 83, "creat": 85, "chmod": 90, "fchmod": 91}
    | {"mknod": 133, "setpriority": 141, "init_module": 175, "delete_module": 176, "kexec_load": 246, "add_key": 248}
    | {"request_key": 249, "keyctl": 250, "openat": 257, "mkdirat": 258, "mknodat": 259, "fchmodat": 268}
    | {"unshare": 272, "perf_event_open": 298, "prlimit64": 302, "open_by_handle_at": 304, "setns": 308}
    | {"finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323}
    | {"sched_setparam": 142, "sched_setscheduler": 144, "sched_setaffinity": 203, "ioprio_set": 251}
    | {"sched_setattr": 314, "shmget": 29, "shmat": 30, "shmctl": 31, "semget": 64, "semop": 65, "semctl": 66}
    | {"msgget": 68, "msgsnd": 69, "msgrcv": 70, "msgctl": 71, "semtimedop": 220, "mq_open": 240, "mq_unlink": 241}
    | {"chown": 92, "fchown": 93, "lchown": 94, "utime": 132, "utimes": 235, "fchownat": 260, "futimesat": 261}
    | {"utimensat": 280, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197}
    | {"lremovexattr": 198, "fremovexattr": 199, "ioctl": 16}
)
_AARCH64 = (
    {"mknodat": 33, "mkdirat": 34, "fchmod": 52, "fchmodat": 53, "openat": 56, "unshare": 97, "kexec_load": 104}
    | {"init_module": 105, "delete_module": 106, "setpriority": 140, "socket": 198, "socketpair": 199}
    | {"add_key": 217, "request_key": 218, "keyctl": 219, "clone": 220, "perf_event_open": 241, "prlimit64": 261}
    | {"open_by_handle_at": 265, "setns": 268, "finit_module": 273, "bpf": 280, "userfaultfd": 282}
    | {"kexec_file_load": 294}
    | {"setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16}
    | {"ioprio_set": 30, "fchownat": 54, "fchown": 55, "utimensat": 88, "sched_setparam": 118}
    | {"sched_setscheduler": 119, "sched_setaffinity": 122, "sched_setattr": 274, "mq_open": 180, "mq_unlink": 181}
    | {"msgget": 186, "msgctl": 187, "msgrcv": 188, "msgsnd": 189, "semget": 190, "semctl": 191, "semtimedop": 192}
    | {"semop": 193, "shmget": 194, "shmctl": 195, "shmat": 196, "ioctl": 29}
)
_EVERYWHERE = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "clone3": 435,
    "openat2": 437,
} | {"mount_setattr": 442, "fchmodat2": 452, "setxattrat": 463, "removexattrat": 466, "file_setattr": 469}
NUMBERS = {"x86_64": _X86_64 | _EVERYWHERE, "aarch64": _AARCH64 | _EVERYWHERE}
"""Machine -> system call -> its number; one that a machine lacks is not in its table."""
_AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


def prepare() -> None:
    """Assemble the filters now, so that each process that is forked from this one has them."""
    for network in (False, True):
        for metadata in (False, True):
            _program(network, metadata)


def install(*, network: bool, metadata: bool) -> None:
    """Put this process, and all that it starts, under the filter for good; it must have `no_new_privs`.

    Without `metadata`, no mode, owner, time or extended attribute of any file can be changed.

    Raises:
        OSError: ENOSYS on a machine whose system calls are not known here, or without seccomp.
    """
    program = _program(network, metadata)
    if program is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if _libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@cache
def _program(network: bool, metadata: bool) -> _Program | None:
    machine = os.uname().machine
    if machine not in NUMBERS:
        return None
    steps = [_Instruction(*step) for step in assemble(machine, network=network, metadata=metadata)]
    return _Program(len(steps), (_Instruction * len(steps))(*steps))


def assemble(machine: str, *, network: bool, metadata: bool) -> Iterator[Step]:
    """The filter as a program of classic BPF."""
    yield (_LOAD, 0, 0, _OFFSET_ARCHITECTURE)
    yield (_JUMP_EQUAL, 1, 0, _AUDIT_ARCHITECTURES[machine])
    yield (_RETURN, 0, 0, _ERROR | errno.ENOSYS)
    yield (_LOAD, 0, 0, _OFFSET_NUMBER)
    if machine == "x86_64":
        yield (_JUMP_AT_LEAST, 0, 1, _X32)
        yield (_RETURN, 0, 0, _ERROR | errno.ENOSYS)
    for denial in _ALWAYS + (_NETWORK if network else _NO_NETWORK) + (() if metadata else _NO_METADATA):
        for name in denial.names:
            number = NUMBERS[machine].get(name)
            if number is not None:
                block = _block(denial)
                yield (_JUMP_EQUAL, 0, len(block), number)
                yield from block
    yield (_RETURN, 0, 0, _ALLOW)


def _block(denial: Denial) -> list[Step]:
    steps: list[Step] = [(_RETURN, 0, 0, _ERROR | denial.error)]
    for condition in reversed(denial.conditions):
        steps = condition.steps(len(steps)) + steps
    return [*steps, (_LOAD, 0, 0, _OFFSET_NUMBER)]
