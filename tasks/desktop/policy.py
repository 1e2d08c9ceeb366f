"""What commands may do on this machine: from the operator's settings to the sandbox, the limits and the PATH.

Nothing here can be changed by a call.
"""

import os
import secrets
import tempfile
from functools import cached_property
from pathlib import Path

import msgspec

from store.tool_settings import Desktop
from tasks.sandbox.confine import InForce
from tasks.sandbox.request import Sandbox

LEAST_ABI = {"landlock": 6, "landlock-files": 3}
"""Sandbox -> the ABI of Landlock that it takes: 3 can keep files from being truncated, 6 confines signals."""
GRACE_S = 2.0
"""Between SIGTERM and SIGKILL."""
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = (
    *("alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "debian_version", "fonts", "gai.conf"),
    *(
        "gitconfig",
        "group",
        "host.conf",
        "hosts",
        "inputrc",
        "java-*-openjdk",
        "ld.so.cache",
        "ld.so.conf",
        "ld.so.conf.d",
        "ld.so.preload",
        "locale.alias",
        "locale.conf",
        "localtime",
    ),
    *("magic", "magic.mime", "manpath.config", "mime.types", "networks", "nsswitch.conf", "os-release", "passwd"),
    *(
        "perl",
        "pki/ca-trust",
        "pki/tls/certs",
        "profile",
        "protocols",
        "python3*",
        "resolv.conf",
        "rpc",
        "services",
        "shells",
        "ssl/certs",
        "ssl/openssl.cnf",
        "terminfo",
        "timezone",
    ),
)
_PROC = (
    *("cpuinfo", "filesystems", "loadavg", "meminfo", "self", "stat", "uptime", "version", "sys/fs/file-max"),
    *("sys/kernel/cap_last_cap", "sys/kernel/ngroups_max", "sys/kernel/osrelease", "sys/kernel/ostype"),
    *("sys/kernel/pid_max", "sys/kernel/random/boot_id", "sys/kernel/random/uuid", "sys/kernel/threads-max"),
    *("sys/vm/max_map_count", "sys/vm/overcommit_memory", "sys/net/core/somaxconn"),
)
_SYSTEM = (
    *_FOLDERS,
    *(str(path) for pattern in _ETC for path in Path("/etc").glob(pattern)),
    *(f"/proc/{name}" for name in _PROC),
    *("/sys/devices/system/cpu", "/sys/kernel/mm/transparent_hugepage"),
)
"""What programs need of the system; of /etc and /proc no more than that: no other process, no key, no password."""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")


class SandboxInForce(msgspec.Struct, frozen=True, kw_only=True):
    """What kept the command in."""

    profile: str
    """`landlock`, `landlock-files` or `none`, as the operator has configured it."""
    landlock_abi: int
    """The version of Landlock that was in force; 0: none."""
    metadata: str
    """Modes, owners, times and attributes of files outside. `hidden`: the files are not there, except the system's
    (/usr, /etc, /dev, /proc and /sys among them), which are mounted read-only; `refused`: none can be changed, in your
    root folder neither, but seen; `open`: as their modes allow."""
    network: str
    """`none`, `all`, or the TCP ports that may be connected to."""
    reads: tuple[str, ...]
    """`system` is the system's programs and libraries; the rest is the operator's."""
    writes: tuple[str, ...]
    """`root` is your root folder; `TMPDIR` is the command's own and is removed behind it."""
    processes: int
    memory_bytes: int
    """For each process."""


def _mounts() -> tuple[str, ...]:
    """The folders that the system's files lie in, and those files that are elsewhere (/etc/resolv.conf often is)."""
    folders = (*_FOLDERS, "/etc", "/proc", "/sys", "/dev")
    files = {os.path.realpath(path) for path in _SYSTEM if not path.startswith(("/proc/", "/sys/"))}
    known = tuple(f"{os.path.realpath(folder)}/" for folder in folders)
    return (*folders, *sorted(path for path in files if not f"{path}/".startswith(known)))


class Policy:
    """The settings, as commands need them."""

    def __init__(self, settings: Desktop) -> None:
        self.profile = settings.sandbox
        self.processes = settings.command_processes
        self.limits = {
            "CORE": 0,
            "DATA": settings.command_memory_bytes,
            "FSIZE": settings.command_file_bytes,
            "NOFILE": settings.command_open_files,
            "CPU": settings.command_cpu_s,
        }
        self._settings = settings

    @cached_property
    def sandbox(self) -> Sandbox | None:
        """What a watcher is told."""
        if self.profile == "none":
            return None
        settings = self._settings
        return Sandbox(
            needs_abi=LEAST_ABI[self.profile],
            system=_SYSTEM,
            read=tuple(map(os.path.abspath, settings.sandbox_read)),
            write=tuple(map(os.path.abspath, settings.sandbox_write)),
            devices=_DEVICES,
            network=settings.sandbox_network,
            metadata=settings.sandbox_metadata,
            mounts=_mounts(),
            connect_ports=settings.sandbox_ports if settings.sandbox_network else (),
        )

    def may_execute(self, program: str, root: Path) -> bool:
        """Whether the sandbox lets the program at this absolute path be executed, if there is one."""
        if self.profile == "none":
            return True
        settings = self._settings
        folders = (*_FOLDERS, *settings.sandbox_read, *settings.sandbox_write, str(root))
        return any(Path(program).resolve().is_relative_to(Path(folder).resolve()) for folder in folders)

    @cached_property
    def path(self) -> str:
        """The worker's PATH, as far as the sandbox lets its programs run."""
        inherited = os.environ.get("PATH", _DEFAULT_PATH)
        if self.profile == "none":
            return inherited
        extra = (*self._settings.sandbox_read, *self._settings.sandbox_write)
        allowed = [Path(path).resolve() for path in (*_FOLDERS, *extra)]
        parts = [
            part
            for part in (*inherited.split(":"), *_DEFAULT_PATH.split(":"))
            if os.path.isabs(part) and any(Path(part).resolve().is_relative_to(folder) for folder in allowed)
        ]
        return ":".join(dict.fromkeys(parts))

    def in_force(self, given: InForce) -> SandboxInForce:
        """What a result says of it."""
        settings = self._settings
        confined = self.profile != "none"
        ports = ",".join(map(str, settings.sandbox_ports))
        return SandboxInForce(
            profile=self.profile,
            landlock_abi=given.abi,
            metadata=given.metadata,
            network="all" if not confined else "none" if not settings.sandbox_network else ports or "all",
            reads=("system", *settings.sandbox_read) if confined else ("all",),
            writes=("root", "TMPDIR", *settings.sandbox_write) if confined else ("all",),
            processes=self.processes,
            memory_bytes=settings.command_memory_bytes,
        )


def new_temporary() -> str:
    """The name of a temporary folder for one command."""
    return f"{tempfile.gettempdir()}/toolswarm-{secrets.token_hex(8)}"
