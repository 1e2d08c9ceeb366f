"""The catalogue: what operations there are, published by the workers and read by whoever routes."""

import time
from collections.abc import Callable

import msgspec

from store import keys
from store.connection import Broker, text
from toolswarm.messages import Operation

_RETRY_FOR_S = 0.5
"""A connection that lay idle while the broker restarted fails at its first use."""


async def publish(broker: Broker, tool: str, operations: list[Operation]) -> None:
    """Say what operations a tool has; repeated with each worker's heartbeat."""
    await broker.script("publish", [keys.CATALOGUE], [tool, msgspec.json.encode(operations)])


class Catalogue:
    """A reader's copy, read again when it is older than `fresh_s`, or sooner when a name is not in it."""

    def __init__(self, broker: Broker, *, fresh_s: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._broker = broker
        self._fresh_s = fresh_s
        self._clock = clock
        self._read_at = float("-inf")
        self._stored: dict[str, bytes] = {}
        self._operations: dict[str, Operation] = {}

    async def operations(self, *, at_most_s: float | None = None) -> dict[str, Operation]:
        """Full name -> operation, sorted by name; read again when the copy is older than `at_most_s`.

        The same dict is returned as long as nothing has changed.

        Raises:
            BrokerUnavailable: the catalogue was never read and the broker does not answer.
        """
        now = self._clock()
        if now - self._read_at > (self._fresh_s if at_most_s is None else at_most_s):
            reply = await self._broker.command("HGETALL", keys.CATALOGUE, retry_for_s=_RETRY_FOR_S)
            stored = {text(reply[at]): reply[at + 1] for at in range(0, len(reply), 2)}
            if stored != self._stored:
                found = [
                    operation
                    for entry in stored.values()
                    for operation in msgspec.json.decode(entry, type=list[Operation])
                ]
                self._operations = {
                    entry.full_name: entry for entry in sorted(found, key=lambda entry: entry.full_name)
                }
                self._stored = stored
            self._read_at = now
        return self._operations
