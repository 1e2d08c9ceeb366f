"""What a process does to itself before it becomes the command: limits, its view, no privileges, Landlock and seccomp.

Any step that fails is told to the worker, and the command is not run.
"""

import ctypes
import errno
import os
import resource
import stat
import tempfile
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from tasks.beneath import open_beneath
from tasks.sandbox import landlock, seccomp, view
from tasks.sandbox.request import Request, Sandbox

_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITIES_VERSION = 0x20080522
_OUT_OF_MEMORY_SCORE = 500
"""When memory is short, the kernel takes the command before the worker."""
_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """The command is not run, because it would run with less of a sandbox than was configured; says why."""

    def __init__(self, why: str, *, setting: str = "") -> None:
        super().__init__(why)
        self.setting = setting
        """The operator's setting that would help, when there is one."""


class InForce(NamedTuple):
    """What a process has been put under."""

    abi: int
    """Landlock's; 0 without."""
    metadata: str
    """How what lies outside keeps its modes, owners, times and attributes: `hidden`, `refused` or `open`."""


def prepare() -> None:
    """Do once what each command would have to do again: a process that is forked from this one has it."""
    seccomp.prepare()
    if landlock.abi():
        landlock.Ruleset(tcp=False).close()
    with suppress(OSError):  # not now: then each command finds out by itself, or says why it cannot
        _best_metadata()


@cache
def _best_metadata() -> str:
    """What `auto` means here; found in the folder that commands have their temporary folders in."""
    stage = tempfile.mkdtemp(prefix="toolswarm-view-", dir=os.environ.get("TMPDIR"))
    try:
        return "hidden" if view.is_available(stage) else "refused"
    finally:
        os.rmdir(stage)


def confine(request: Request, *, root: int, folder: int) -> InForce:
    """Put this process under the request's limits and sandbox, into the open `folder` beneath the open `root`.

    Raises:
        Refused: the machine cannot give it.
    """
    _limit(request)
    sandbox = request.sandbox
    if sandbox is None:
        os.fchdir(folder)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        return InForce(0, "open")
    version = landlock.abi()
    if version < sandbox.needs_abi:
        raise Refused(f"Landlock ABI {version}, needs {sandbox.needs_abi}", setting="desktop.sandbox")
    _check_folders(sandbox)
    metadata = sandbox.metadata
    try:
        if metadata == "auto":
            metadata = _best_metadata()
        own = [request.temporary]
        if metadata != "hidden":
            os.fchdir(folder)
        elif _enter_view(request, sandbox, root=root, folder=folder):
            own.append(view.SHARED_MEMORY)
        folders = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in own]
        rules = _rules(sandbox, (root, *folders), terminal=request.terminal)
        _drop_capabilities()
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        rules.restrict()
        seccomp.install(network=sandbox.network, metadata=metadata != "refused")
    except OSError as error:
        setting = "desktop.sandbox_metadata" if metadata == "hidden" else "desktop.sandbox"
        raise Refused(f"{error.filename or 'the kernel'}: {error.strerror}", setting=setting) from error
    return InForce(version, metadata)


def _check_folders(sandbox: Sandbox) -> None:
    for setting, paths in (("sandbox_read", sandbox.read), ("sandbox_write", sandbox.write)):
        for path in paths:
            try:
                os.stat(path)
            except OSError as error:
                raise Refused(f"{path}: {error.strerror}", setting=f"desktop.{setting}") from error


def _enter_view(request: Request, sandbox: Sandbox, *, root: int, folder: int) -> bool:
    """Have nothing mounted but what the command may use; `root` and `folder` still lead to the old mounts.

    Says whether it has shared memory of its own.
    """
    temporary = os.stat(request.temporary)
    top, inner = (os.readlink(f"/proc/self/fd/{fd}") for fd in (root, folder))
    has_shared = view.enter(
        stage=request.temporary,
        system=sandbox.mounts,
        read=sandbox.read,
        write=(request.root, request.temporary, *sandbox.write),
    )
    shown = os.open(request.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if inner != top and not inner.startswith(top.rstrip("/") + "/"):
        raise Refused("its working folder has been moved out of the root folder")
    below = os.fsencode(os.path.relpath(inner, top))
    entered = open_beneath(shown, below, os.O_PATH | os.O_DIRECTORY)
    if not (os.path.sameopenfile(shown, root) and os.path.sameopenfile(entered, folder)):
        raise Refused("its root folder or its working folder has been replaced meanwhile")
    if not os.path.samestat(temporary, os.stat(request.temporary)):
        raise Refused("its temporary folder is not what it was")  # whatever it is now, Landlock would let be written
    os.fchdir(entered)
    _look_through_the_view_for_input()
    return has_shared


def _look_through_the_view_for_input() -> None:
    """Read nothing from the view's /dev/null: the worker's own leads to the machine's, whose mode could be changed."""
    given = os.fstat(0)
    if stat.S_ISCHR(given.st_mode) and given.st_rdev == os.stat(os.devnull).st_rdev:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        if nothing != 0:
            os.close(nothing)


def _limit(request: Request) -> None:
    for name, wanted in request.limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(kind)
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, value))
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    try:
        if int(os.read(fd, 20)) < _OUT_OF_MEMORY_SCORE:
            os.write(fd, b"%d" % _OUT_OF_MEMORY_SCORE)
    finally:
        os.close(fd)


def _rules(sandbox: Sandbox, folders: tuple[int, ...], *, terminal: bool) -> landlock.Ruleset:
    rules = landlock.Ruleset(tcp=bool(sandbox.connect_ports))
    for rights, paths in ((landlock.READ, sandbox.system), (landlock.DEVICE, sandbox.devices)):
        for path in paths:
            try:
                _allow(rules, path, rights)
            except FileNotFoundError:
                continue  # not every machine has each of them
    for path in sandbox.read:
        _allow(rules, path, landlock.READ)
    for path in sandbox.write:
        _allow(rules, path, landlock.READ | landlock.CHANGE)
    for fd in folders:
        rules.allow(fd, landlock.READ | landlock.CHANGE)
    if terminal:
        rules.allow(0, landlock.DEVICE)
    for port in sandbox.connect_ports:
        rules.allow_port(port)
    return rules


def _allow(rules: landlock.Ruleset, path: str, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rules.allow(fd, rights)
    finally:
        os.close(fd)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def _drop_capabilities() -> None:
    """Make root a user like any other: not even a program that it executes gets a capability."""
    if os.geteuid() == 0:
        number = 0
        while _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) == 0 or _is_absent(number):
            number += 1
    header = _CapabilityHeader(_CAPABILITIES_VERSION, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if _libc.capset(ctypes.byref(header), ctypes.byref(nothing)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _is_absent(number: int) -> bool:
    """Whether a capability that could not be dropped was not there; false behind the kernel's last one."""
    held = int(_libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0))
    if held > 0:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), "PR_CAPBSET_DROP")
    return held == 0


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), f"prctl {option}")
