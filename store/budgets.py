"""Rate budgets of a remote service, one set for each credential, shared by all workers through the broker's Redis.

A bucket is what the service itself counts (`core`, `search`, …): its limit, what was used and when it starts again are
learned from every answer. Beside it stand the limits that no answer tells: requests at once, points and writes in a
time. Who asks before each request is granted it or told how long to wait; calls of lower priority leave a reserve.
"""

import secrets
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from store import keys
from store.connection import Broker, text

Outcome = Literal["ok", "none", "bucket", "credential"]
"""What an answer says: all is well, nothing (no answer came), or that the bucket or the credential is blocked."""
LONGEST_BLOCK_S = 3600.0
HOLD_S = 120.0
"""A request whose worker died counts as running for this long."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits that no answer tells."""

    at_once: int
    points_per_minute: int
    writes_per_minute: int
    writes_per_hour: int


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One request that is to be sent."""

    credential: str
    """A fingerprint: never the credential itself."""
    bucket: str
    points: int
    writes: int
    reserve: float
    """The share of each budget that must be left afterwards."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Not now."""

    wait_s: float
    reason: str
    strikes: int
    """How many times in a row the service has blocked this credential."""


class Lesson(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer says of its bucket."""

    bucket: str
    limit: int
    used: int
    window: int
    """When the bucket starts again, on the service's clock."""
    reset_in_s: float


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a credential after an answer."""

    strikes: int
    """How many times in a row it was blocked."""
    blocked_s: float
    """How long it is to be left alone, or its bucket."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one bucket."""

    limit: int
    used: int
    reset_at: float
    """Unix seconds, on Redis' clock."""
    blocked_until: float


class Budgets:
    """Asks and reports; every reply comes from one script, so workers need no lock."""

    def __init__(self, broker: Broker, limits: Limits) -> None:
        self._broker = broker
        self._limits = limits

    async def take(self, wish: Wish) -> str | Refusal:
        """The id of the granted request, which must be given to `report`; or for how long to wait.

        Raises:
            BrokerUnavailable: no answer.
        """
        request = f"{wish.bucket} {secrets.token_hex(8)}"
        limits = self._limits
        reply = await self._broker.script(
            "budget_take",
            [
                keys.budget_key(wish.credential),
                keys.budget_bucket_key(wish.credential, wish.bucket),
                keys.budget_running_key(wish.credential),
                *(keys.budget_spent_key(wish.credential, what) for what in ("points", "writes_minute", "writes_hour")),
            ],
            [
                *(request, wish.bucket, wish.points, wish.writes, wish.reserve, HOLD_S),
                *(limits.at_once, limits.points_per_minute, limits.writes_per_minute, limits.writes_per_hour),
            ],
        )
        if reply[0] == b"1":
            return request
        return Refusal(wait_s=float(reply[1]), reason=text(reply[2]), strikes=int(reply[3]))

    async def report(
        self,
        wish: Wish,
        request: str,
        *,
        lesson: Lesson | None = None,
        outcome: Outcome = "none",
        blocked_s: float = 0.0,
        doubles: bool = False,
    ) -> Standing:
        """Say how a granted request ended; `doubles`: the block is twice as long each time in a row.

        Raises:
            BrokerUnavailable: no answer.
        """
        bucket = lesson.bucket if lesson else wish.bucket
        learned: Sequence[Any] = ("", 0, 0, 0)
        if lesson:
            learned = (lesson.limit, lesson.used, lesson.window, f"{max(0.0, lesson.reset_in_s):.3f}")
        reply = await self._broker.script(
            "budget_report",
            [
                keys.budget_key(wish.credential),
                keys.budget_bucket_key(wish.credential, bucket),
                keys.budget_running_key(wish.credential),
            ],
            [request, *learned, outcome, f"{blocked_s:.3f}", "1" if doubles else "0", LONGEST_BLOCK_S],
        )
        return Standing(strikes=int(reply[0]), blocked_s=float(reply[1]))

    async def known(self, credential: str, bucket: str) -> Known | None:
        """What is known of a bucket; None when no answer has told of it in the last two hours.

        Raises:
            BrokerUnavailable: no answer.
        """
        fields = await self._broker.command(
            "HMGET", keys.budget_bucket_key(credential, bucket), "limit", "used", "reset_at", "blocked_until"
        )
        if fields[0] is None:
            return None
        limit, used, reset_at, blocked_until = (float(field or 0) for field in fields)
        return Known(limit=int(limit), used=int(used), reset_at=reset_at, blocked_until=blocked_until)
