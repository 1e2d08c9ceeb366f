"""What is left of GitHub's rate limits."""

import msgspec

from tasks.github.client import Clients
from tasks.operation import Run, operation
from toolswarm.messages import Effect

_BUCKETS = ("core", "search", "code_search")


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """One of GitHub's quotas."""

    name: str
    """`core`, `search`, `code_search`, …"""
    limit: int
    used: int
    remaining: int
    reset_at: int
    """Unix seconds, when it starts again."""
    blocked_until: float | None
    """Unix seconds, until which the workers send nothing that counts for it; none: they do."""


class RateLimitStatus(msgspec.Struct, frozen=True, kw_only=True):
    """GitHub's quotas for the credential of the caller."""

    buckets: list[Bucket]
    api_requests: int
    """Requests that this call has sent to GitHub; this one costs no quota."""


class _Resource(msgspec.Struct):
    limit: int
    remaining: int
    reset: int
    used: int = 0


class _Answer(msgspec.Struct):
    resources: dict[str, _Resource]


@operation(effect=Effect.READ, time_limit_s=30)
def rate_limit_status(clients: Clients, run: Run) -> RateLimitStatus:
    """Say what is left of GitHub's rate limits.

    For the credential of the caller. Asks GitHub, which does not count it, and adds until when our own workers hold
    back.
    """
    with clients.for_call(run) as github:
        github.about("rate limits")
        resources = msgspec.convert(github.json("GET", "/rate_limit"), _Answer).resources
        known = github.budgets(_BUCKETS)
        return RateLimitStatus(
            buckets=[
                Bucket(
                    name=name,
                    limit=found.limit,
                    used=max(found.used, found.limit - found.remaining),
                    remaining=found.remaining,
                    reset_at=found.reset,
                    blocked_until=known[name].blocked_until or None if name in known else None,
                )
                for name, found in sorted(resources.items())
            ],
            api_requests=github.api_requests,
        )
