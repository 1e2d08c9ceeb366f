"""Running one command from its start to its end, with its input and its outputs, from the worker's event loop."""

import asyncio
import codecs
import os
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

from tasks.desktop.launch import Command, Streams, Watched, launch, no_descriptors
from tasks.desktop.streams import Throttled, let_go
from tasks.output import CappedOutput
from toolswarm.errors import OperationFailed

_FASTEST_BYTES_PER_S = 134_217_728
_SETTLE_S = 3.0
"""How long the pipes may stay open behind the watcher before the rest of the output is cut off."""
Tell = Callable[[str, str], None]
"""Takes the name of a stream and what came out of it."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command with its input and its limits."""

    command: Command
    stdin: bytes | None
    timeout_s: float
    max_output_bytes: int


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How it ended; the watched has the exit code or the signal."""

    watched: Watched
    timed_out: bool
    stdout: CappedOutput
    stderr: CappedOutput


async def run_watched(job: Job, before_start: Callable[[], Awaitable[None]], tell: Tell) -> Ended:
    """Run the command to its end, its time limit, or our cancellation; then nothing of it is left.

    `before_start` is awaited when all is ready; when it raises, the command has not been started and never will be.

    Raises:
        OperationFailed: `sandbox_unavailable`, `overloaded`; `watcher_lost` when the command's watcher was killed, so
            that its end was not seen.
    """
    outputs = [Output(name, job.max_output_bytes, tell) for name in ("stdout", "stderr")]
    pipes = _Pipes(job.stdin)
    try:
        with ExitStack() as theirs:
            try:
                streams = await pipes.open(outputs, theirs)
            except OSError as error:
                raise no_descriptors(error) from error
            watched = await launch(job.command, streams)
        try:
            await before_start()
            watched.start()
            pipes.feed()
            await asyncio.wait((watched.gone,), timeout=job.timeout_s)
            # One that has ended in time is only being tidied up.
            timed_out = not watched.gone.done() and not watched.seen_to_end
        finally:
            await watched.end()
            watched.close()
            await asyncio.wait([output.closed for output in outputs], timeout=_SETTLE_S)
    finally:
        pipes.close()
    stdout, stderr = outputs
    if not watched.seen_to_end:
        raise OperationFailed(
            "the process that watched the command was killed; the command was killed too, its outcome is not known",
            code="watcher_lost",
            stdout=stdout.kept.text(),
            stderr=stderr.kept.text(),
        )
    return Ended(watched=watched, timed_out=timed_out, stdout=stdout.kept, stderr=stderr.kept)


class Output(Throttled):
    """Takes one output as it comes: keeps its head and its tail, and tells whoever follows."""

    def __init__(self, name: str, limit_bytes: int, tell: Tell) -> None:
        super().__init__(_FASTEST_BYTES_PER_S)
        self.kept = CappedOutput(limit_bytes)
        self._name = name
        self._tell = tell
        self._to_tell_bytes = limit_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def take(self, data: bytes) -> None:
        """Take what has been written next."""
        self.kept.add(data)
        if self._to_tell_bytes > 0:  # whoever follows need not hear more than the result will say
            told = data[: self._to_tell_bytes]
            self._to_tell_bytes -= len(told)
            if text := self._decoder.decode(told):
                self._tell(self._name, text)


class _Pipes:
    """Our ends of the command's streams."""

    def __init__(self, stdin: bytes | None) -> None:
        self._stdin = stdin
        self._transports: list[asyncio.ReadTransport] = []
        self._input: asyncio.WriteTransport | None = None

    async def open(self, outputs: list[Output], theirs: ExitStack) -> Streams:
        """Make the pipes; the command's ends are closed with `theirs`."""
        loop = asyncio.get_running_loop()
        ends: list[int] = []
        if self._stdin is None:
            nothing = os.open(os.devnull, os.O_RDONLY)
            theirs.callback(os.close, nothing)
            ends.append(nothing)
        else:
            read, write = os.pipe()
            theirs.callback(os.close, read)
            ends.append(read)
            self._input, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(write, "wb", 0))
        for output in outputs:
            read, write = os.pipe()
            theirs.callback(os.close, write)
            ends.append(write)
            transport, _ = await loop.connect_read_pipe(partial(_same, output), os.fdopen(read, "rb", 0))
            self._transports.append(transport)
        return Streams(*ends)

    def feed(self) -> None:
        """Write the command's input; what it does not read is dropped when it ends."""
        if self._input is not None and self._stdin is not None:
            self._input.write(self._stdin)
            with suppress(RuntimeError):  # it has ended meanwhile: the transport is closed
                self._input.write_eof()

    def close(self) -> None:
        """Let go of all that is still open."""
        for transport in self._transports:
            transport.close()
        if self._input is not None:
            let_go(self._input)


def _same(output: Output) -> Output:
    return output
