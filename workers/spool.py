"""Results that the ledger could not take yet, on this machine's disk: they survive the worker.

A result lies here from the first failed try until the ledger has answered. Giving it twice does no harm: the fence
decides. Files are readable by the worker's user alone; a result may hold anything that a tool has read.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from store.ledger import Grant, Ledger
from toolswarm.errors import BrokerUnavailable
from toolswarm.messages import ToolResult, encode

logger = logging.getLogger(__name__)

_SUFFIX = ".result"


class Spooled(msgspec.Struct, frozen=True, kw_only=True):
    """One result with what the ledger wants to know of it."""

    grant: Grant
    result: ToolResult
    dead: bool


class Spool:
    """A folder of results."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, one: Spooled) -> Path:
        """Write it down, durably.

        Raises:
            OSError: the disk does not take it.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._folder / f"{one.grant.id}-{one.grant.fence}{_SUFFIX}"
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(encode(one))
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
        return file

    def read(self) -> Iterator[tuple[Path, Spooled]]:
        """All that lies here; what cannot be read is named in the log and left for a person."""
        for file in sorted(self._folder.glob(f"*{_SUFFIX}")):
            try:
                yield file, msgspec.json.decode(file.read_bytes(), type=Spooled)
            except FileNotFoundError:
                continue  # another worker was faster
            except (OSError, msgspec.DecodeError) as error:
                logger.error("a spooled result cannot be read: %s (%s)", file.name, type(error).__name__)

    async def deliver(self, ledger: Ledger) -> int:
        """Give all that lies here to the ledger; returns how many it took.

        Raises:
            BrokerUnavailable: it is still away; what is left stays here.
        """
        taken = 0
        for file, one in list(self.read()):
            taken += await ledger.finish(one.grant, one.result, dead=one.dead)
            file.unlink(missing_ok=True)
        return taken


async def finish(spool: Spool, ledger: Ledger, one: Spooled, *, first_try_s: float, retry_for_s: float) -> bool:
    """End a call; while the ledger is away its result lies in the spool. False when the grant had been lost.

    Raises:
        BrokerUnavailable: it stays away; the result is in the spool, and the next worker gives it.
    """
    try:
        return await ledger.finish(one.grant, one.result, dead=one.dead, retry_for_s=first_try_s)
    except BrokerUnavailable:
        try:
            file = spool.put(one)
        except OSError as error:
            logger.error("the result of call %s cannot be spooled: %s", one.grant.id, os.strerror(error.errno or 0))
            return await ledger.finish(one.grant, one.result, dead=one.dead, retry_for_s=retry_for_s)
    logger.warning("the ledger is away: the result of call %s is spooled", one.grant.id)
    taken = await ledger.finish(one.grant, one.result, dead=one.dead, retry_for_s=retry_for_s)
    file.unlink(missing_ok=True)
    return taken
