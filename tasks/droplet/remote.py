"""One command on one channel: its line, its output, its end.

SSH carries a line for the login shell (a POSIX one), so the arguments are quoted into it. The line tells the process
group of the command first; it is what is killed when time is up, since closing a channel kills nothing.
"""

import secrets
import select
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import paramiko

from tasks.output import CappedOutput

_TICK_S = 0.05
_CHUNK_BYTES = 65_536
_AFTER_EXIT_S = 0.5
"""How long the output may stay open after the command's exit: something it has started may hold it for ever."""
_LONGEST_PREAMBLE_BYTES = 65_536


@dataclass(frozen=True)
class CommandLine:
    """What is sent, and the mark by which the answer's first line is known."""

    text: str
    mark: bytes


def command_line(argv: Sequence[str], cwd: str | None) -> CommandLine:
    """The line for the login shell; `cwd` is never taken for an option, nor looked up in CDPATH."""
    mark = f"toolswarm-{secrets.token_hex(8)}"
    go = "" if cwd is None else f"cd -- {shlex.quote(cwd if cwd.startswith('/') else f'./{cwd}')}; "
    script = f"{go}there=$?; echo {mark} $$ $there; test $there = 0 && exec {shlex.join(argv)}"
    return CommandLine("exec sh -c " + shlex.quote(script), mark.encode())


class RemoteCommand:
    """Takes what the command says, and knows its process group once it runs."""

    def __init__(self, channel: paramiko.Channel, *, mark: bytes, stdin: bytes, limit_bytes: int) -> None:
        self._channel = channel
        self._mark = mark + b" "
        self._unsent = memoryview(stdin)
        self._preamble: bytearray | None = bytearray()
        self._exited_at: float | None = None
        self.group: int | None = None
        """Also its process id; None: it has not begun."""
        self.is_there = True
        """Whether its working folder could be gone to."""
        self.stdout = CappedOutput(limit_bytes)
        self.stderr = CappedOutput(limit_bytes)

    def start(self, line: str) -> None:
        """Send the line.

        Raises:
            paramiko.SSHException: the server refused, or the connection was lost: the command may run or not.
        """
        self._channel.exec_command(line)
        self._channel.settimeout(0.0)
        if not self._unsent:
            self._channel.shutdown_write()

    def pump(self, stop: Callable[[], bool]) -> bool:
        """Carry data both ways until the command ends (True) or `stop()` says so (False)."""
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        while True:
            ended = self._has_ended()
            if not self._move():
                if ended:
                    self._give_up_preamble()
                    return True
                if self._channel.eof_received:
                    self._channel.status_event.wait(_TICK_S)  # the descriptor stays readable from now on
                else:
                    poll.poll(_TICK_S * 1000)
            if stop():
                return False

    @property
    def exit_code(self) -> int | None:
        """None when there is none: it was ended by a signal, or the connection was lost."""
        code = self._channel.exit_status
        return code if code >= 0 else None

    def _has_ended(self) -> bool:
        channel = self._channel
        if channel.closed:
            return True
        if not channel.status_event.is_set():
            return False
        if self._exited_at is None:
            self._exited_at = time.monotonic()
        return bool(channel.eof_received) or time.monotonic() > self._exited_at + _AFTER_EXIT_S

    def _move(self) -> bool:
        moved = False
        channel = self._channel
        if channel.recv_ready():
            self._take(channel.recv(_CHUNK_BYTES))
            moved = True
        if channel.recv_stderr_ready():
            self.stderr.add(channel.recv_stderr(_CHUNK_BYTES))
            moved = True
        if self._unsent and not channel.closed and channel.send_ready():
            self._send()
            moved = True
        return moved

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._channel.send(bytes(self._unsent[:_CHUNK_BYTES])) :]
            if not self._unsent:
                self._channel.shutdown_write()
        except OSError:  # closed by the other side, which did not want it all: its exit code says the rest
            self._unsent = self._unsent[:0]

    def _take(self, chunk: bytes) -> None:
        if self._preamble is None:
            self.stdout.add(chunk)
            return
        self._preamble += chunk
        start = self._preamble.find(self._mark)
        end = self._preamble.find(b"\n", start)
        if 0 <= start < end:
            group, there = self._preamble[start + len(self._mark) : end].split()
            self.group, self.is_there = int(group), int(there) == 0
            # What comes before it is the login shell's own chatter.
            rest, self._preamble = bytes(self._preamble[end + 1 :]), None
            self.stdout.add(rest)
        elif len(self._preamble) > _LONGEST_PREAMBLE_BYTES:
            self._give_up_preamble()

    def _give_up_preamble(self) -> None:
        if self._preamble is not None:
            self.stdout.add(bytes(self._preamble))
            self._preamble = None


def kill_line(group: int, signal: str) -> str:
    """Ends the command's group; where its shell leads no group, the process alone."""
    # In this spelling: dash does not understand `kill -TERM -- -GROUP`.
    return f"kill -s {signal} -- -{group} 2>/dev/null || kill -s {signal} {group}"
