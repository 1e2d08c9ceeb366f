"""Circuit breakers of targets (a host, a repository's API), shared by all workers of a tool.

Closed: calls run. After some failures in a row it opens: calls fail fast, or fall back, for `reset_timeout_s`. Then it
is half-open: one call tries, and its outcome closes the breaker or opens it for twice as long. A target that nobody has
trouble with has no key, and asking after it costs nothing: workers look at the board of troubled ones once a second.
"""

import hashlib
from enum import StrEnum

import msgspec

from store import keys
from store.connection import Broker, text


class Permission(StrEnum):
    """What a breaker says to a call that asks."""

    GO = "go"
    TRY = "try"
    """The breaker is half-open, and this call is the one that tries."""
    OPEN = "open"


class BreakerRules(msgspec.Struct, frozen=True, kw_only=True):
    """When breakers open, and for how long."""

    failures: int = 5
    """So many in a row open it."""
    reset_timeout_s: float = 5.0
    """How long it stays open the first time."""
    longest_timeout_s: float = 60.0


class Breakers:
    """The breakers of one tool's targets."""

    def __init__(self, broker: Broker, tool: str, rules: BreakerRules) -> None:
        self._broker = broker
        self._tool = tool
        self._rules = rules

    async def ask(self, target: str) -> tuple[Permission, float]:
        """Whether a call to the target may run, and if not how many seconds until somebody tries."""
        reply = await self._run("ask", target)
        return Permission(text(reply[0])), float(reply[1]) if len(reply) > 1 else 0.0

    async def failed(self, target: str) -> bool:
        """The target could not be had; returns whether the breaker is open now."""
        return text((await self._run("failed", target))[0]) == "open"

    async def passed(self, target: str) -> None:
        """The target answered: its breaker is closed."""
        await self._run("passed", target)

    async def board(self) -> set[str]:
        """The targets that somebody has trouble with."""
        names = await self._broker.command("ZRANGE", keys.breaker_board(self._tool), 0, -1)
        return {text(name) for name in names}

    async def left_alone(self) -> set[str]:
        """The targets whose breakers are not closed; asks for nobody's turn to try."""
        targets = sorted(await self.board())
        opened = [await self._broker.command("HGET", self._key(target), "opened") for target in targets]
        return {target for target, times in zip(targets, opened, strict=True) if times is not None and int(times) > 0}

    async def _run(self, what: str, target: str) -> list[bytes]:
        names = [self._key(target), keys.breaker_board(self._tool)]
        rules = self._rules
        reply: list[bytes] = await self._broker.script(
            "breaker", names, [what, rules.failures, rules.reset_timeout_s, rules.longest_timeout_s, target]
        )
        return reply

    def _key(self, target: str) -> str:
        return keys.breaker_key(self._tool, hashlib.sha256(target.encode()).hexdigest()[:24])
