"""Fallback chains that were set while the swarm runs; they stand over those of the configuration."""

import re
import time
from collections.abc import Callable, Mapping

import msgspec

from store import keys
from store.configuration import check_chains
from store.connection import Broker, text
from toolswarm.errors import ConfigurationError, InvalidRequest, Unavailable

Chains = dict[str, tuple[str, ...]]
LONGEST = 10
"""Names in one chain, each of which is signed for with every call."""
MOST = 1000
"""Chains that can be set."""
_TRIES = 5
_RETRY_FOR_S = 0.5
"""A connection that lay idle while the broker restarted fails at its first use."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}(\.[a-z][a-z0-9_]{0,63})?")


class FallbackChains:
    """Configuration and what was set since, read again when the copy is older than `fresh_s`."""

    def __init__(
        self,
        broker: Broker,
        configured: Mapping[str, tuple[str, ...]],
        *,
        fresh_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._broker = broker
        self._configured = dict(configured)
        self._fresh_s = fresh_s
        self._clock = clock
        self._read_at = float("-inf")
        self._stored: dict[str, bytes] = {}
        self._set_since: Chains = {}
        self._chains: Chains = dict(configured)

    async def read(self, *, at_most_s: float | None = None) -> Chains:
        """Tool or operation -> what is tried next; the same dict is returned as long as nothing has changed."""
        if self._clock() - self._read_at > (self._fresh_s if at_most_s is None else at_most_s):
            await self._read()
        return self._chains

    async def set(self, name: str, chain: tuple[str, ...] | None) -> Chains:
        """Set the chain of a tool or an operation, for all gateways; None: as it is configured.

        Raises:
            InvalidRequest: it is no chain of tools or of operations, or it comes back to where it began.
            Unavailable: others set chains all the time.
        """
        if not all(_NAME.fullmatch(one) for one in (name, *(chain or ()))):
            raise InvalidRequest("a chain is of tools (droplet) or of operations (droplet.read_file)", field="chain")
        if len(chain or ()) > LONGEST:
            raise InvalidRequest(f"chain: has more than {LONGEST} names", field="chain")
        for _ in range(_TRIES):
            await self._read()
            self._check(name, chain)
            seen = [part for pair in self._stored.items() for part in pair]
            encoded = b"" if chain is None else msgspec.json.encode(chain)
            if await self._broker.script("set_chain", [keys.CHAINS], [name, encoded, *seen]):
                return await self.read(at_most_s=0.0)
        raise Unavailable("the chains change all the time: try again", retry_after_s=1)

    def _check(self, name: str, chain: tuple[str, ...] | None) -> None:
        stored = {one: to for one, to in self._set_since.items() if one != name}
        if chain is not None:
            stored[name] = chain
            if len(stored) > MOST:
                raise InvalidRequest(f"there are {MOST} chains already: unset some", field="name")
        try:
            check_chains(self._configured | stored)
        except ConfigurationError as error:
            raise InvalidRequest(error.message.removeprefix("routing."), field="chain") from error

    async def _read(self) -> None:
        now = self._clock()
        reply = await self._broker.command("HGETALL", keys.CHAINS, retry_for_s=_RETRY_FOR_S)
        stored = {text(reply[at]): reply[at + 1] for at in range(0, len(reply), 2)}
        if stored != self._stored:
            self._set_since = {name: msgspec.json.decode(one, type=tuple[str, ...]) for name, one in stored.items()}
            self._chains = self._configured | self._set_since
            self._stored = stored
        self._read_at = now
