"""From the arguments of a call to a command that can be launched: its program, its environment, its working folder."""

import os
import posixpath
import re
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tasks.confined import Confined, shown
from tasks.desktop.desk import Desk
from tasks.desktop.launch import NO_DESCRIPTORS, Command, no_descriptors
from tasks.desktop.policy import GRACE_S, new_temporary
from tasks.sandbox.request import Request
from toolswarm.errors import OperationFailed

_HANDED_ON = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "USER", "LOGNAME")
"""All of the worker's environment that a command may see; the rest has keys and tokens in it."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STEERING = re.compile(
    r"PATH|IFS|ENV|BASH_ENV|SHELLOPTS|BASHOPTS|PS4|PROMPT_COMMAND|(LD|DYLD|BASH_FUNC)_.*|PYTHON(PATH|HOME|STARTUP)"
    r"|GIT_(SSH.*|EXEC_PATH|EXTERNAL_DIFF|CONFIG.*|PAGER|EDITOR|ASKPASS|PROXY_COMMAND)|NODE_OPTIONS|PERL5(OPT|LIB)|RUBY(OPT|LIB)"
)
"""Variables that make a program run another one; whoever wants that says so in argv, where it can be seen."""
_ENVIRONMENT_MAX_BYTES = 65_536
_STRING_MAX_BYTES = 131_071
"""The longest single argument that the kernel takes."""
_STRINGS_MAX_BYTES = 1_048_576
"""All arguments and variables together: half of what the kernel takes with a usual stack."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a call asks to be run."""

    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    terminal: bool = False


@contextmanager
def prepared(desk: Desk, tenant: str, wanted: Wanted) -> Generator[Command, None, None]:
    """The command, checked; its working folder is open as long as the context lasts.

    Raises:
        OperationFailed: `invalid_command`, `env_refused`, `not_found`, `not_executable`, `path_refused`, …
    """
    root = desk.root(tenant)
    temporary = new_temporary()
    environment = _environment(wanted.env, root=root, path=desk.policy.path, temporary=temporary)
    with ExitStack() as opened:
        try:
            folder_fd = opened.enter_context(root.open_folder(wanted.cwd))
        except OperationFailed as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in NO_DESCRIPTORS:
                raise no_descriptors(error.__cause__) from error
            raise
        if not os.access(".", os.X_OK, dir_fd=folder_fd, effective_ids=True):
            raise OperationFailed(
                f"cwd {shown(wanted.cwd)} cannot be entered: its mode forbids it (x)",
                code="permission",
                before_effect=True,
            )
        request = Request(
            program=_find_program(desk, wanted.argv, root, cwd=wanted.cwd),
            argv=tuple(_checked(argument, "argv") for argument in wanted.argv),
            environment={name: _checked(value, f"env {name}") for name, value in environment.items()},
            root=str(root.root),
            temporary=temporary,
            terminal=wanted.terminal,
            limits=desk.policy.limits,
            processes=desk.policy.processes,
            grace_s=GRACE_S,
            sandbox=desk.policy.sandbox,
        )
        if (
            _size_bytes([*request.argv, *(name + value for name, value in request.environment.items())])
            > _STRINGS_MAX_BYTES
        ):
            raise _invalid(f"argv and env are larger than {_STRINGS_MAX_BYTES} bytes; give the data as stdin or a file")
        yield Command(request=request, root_fd=root.fd, folder_fd=folder_fd, profile=desk.policy.profile)


def not_executable(desk: Desk, program: str, why: str = "its mode forbids it") -> OperationFailed:
    """The program is there, and cannot be run."""
    hint = "check its mode and its first line"
    if desk.policy.profile != "none":
        hint += "; it and its interpreter must be the system's, in your root folder or in the operator's sandbox_read"
    return OperationFailed(
        f"{shown(program)} cannot be executed ({why}); {hint}", code="not_executable", before_effect=True
    )


def _environment(wanted: Mapping[str, str], *, root: Confined, path: str, temporary: str) -> dict[str, str]:
    for name in wanted:
        if not _VARIABLE.fullmatch(name):
            raise _invalid(f"env: {shown(name)} is not a variable's name")
        if _STEERING.fullmatch(name):
            raise OperationFailed(
                f"env {name} would make other programs run; name them in argv", code="env_refused", before_effect=True
            )
    if sum(len(name) + len(value) for name, value in wanted.items()) > _ENVIRONMENT_MAX_BYTES:
        raise _invalid(f"env is larger than {_ENVIRONMENT_MAX_BYTES} bytes")
    handed_on = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    fixed = {
        "PATH": path,
        "HOME": str(root.root),
        "TERM": "dumb",
        "TMPDIR": temporary,
        # Git would look for a repository in the folders above, which the sandbox does not let it read.
        "GIT_CEILING_DIRECTORIES": str(root.root.parent),
    }
    return {"LANG": "C.UTF-8"} | handed_on | fixed | dict(wanted)


def _find_program(desk: Desk, argv: Sequence[str], root: Confined, *, cwd: str) -> str:
    name = _checked(argv[0], "argv")
    if not name:
        raise _invalid("argv[0], the program, is empty")
    if "/" not in name:
        found = shutil.which(name, path=desk.policy.path)
        if found is None or not os.path.isabs(found):
            raise OperationFailed(
                f"there is no program {shown(name)} on the PATH of commands; give its path, or have it installed",
                code="not_found",
                before_effect=True,
            )
        return found
    if name.startswith("/"):
        # One answer for "not there" and "not allowed", else it would tell what lies outside.
        if not desk.policy.may_execute(name, root.root) or not os.path.isfile(name):
            raise OperationFailed(
                f"there is no program {shown(name)} that commands may execute: it must be the system's, in your root "
                "folder or in the operator's sandbox_read",
                code="not_found",
                before_effect=True,
            )
        executable = os.access(name, os.X_OK)
    else:
        with root.open_file(posixpath.join(cwd, name)) as fd:
            executable = bool(os.fstat(fd).st_mode & 0o111)
    if not executable:
        raise OperationFailed(
            f"{shown(name)} cannot be executed (its mode forbids it); set its mode, or run it by its interpreter",
            code="not_executable",
            before_effect=True,
        )
    return name


def _checked(text: str, what: str) -> str:
    if "\0" in text:
        raise _invalid(f"{what} contains a NUL character")
    try:
        size_bytes = len(os.fsencode(text))
    except UnicodeEncodeError as error:
        raise _invalid(f"{what} contains half of a surrogate pair") from error
    if size_bytes > _STRING_MAX_BYTES:
        raise _invalid(f"{what} is longer than {_STRING_MAX_BYTES} bytes; give the data as stdin or a file")
    return text


def _size_bytes(strings: Sequence[str]) -> int:
    return sum(len(os.fsencode(text)) + 10 for text in strings)


def _invalid(why: str) -> OperationFailed:
    return OperationFailed(why, code="invalid_command", before_effect=True)
