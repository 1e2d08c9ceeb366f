"""Which remembered reads are refreshed before anybody has to wait: values in, values out."""

from collections.abc import Collection, Iterable

import msgspec

from cache.popularity import Popular

UNASKED_TTLS = 2.0
"""Who has not asked for so many times its freshness is taken to have gone."""


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """How a tool stands at this tick."""

    waiting: int
    """Tasks in its queue."""
    slots: int
    """Calls that its workers run at once."""
    left_alone: Collection[str] = ()
    """Targets whose breakers are not closed."""


def paused(circumstances: Circumstances) -> str | None:
    """Why nothing of the tool is refreshed at this tick; None when something may be."""
    if not circumstances.slots:
        return "no_worker"
    return "late" if circumstances.waiting > circumstances.slots else None


def due(popular: Iterable[Popular], circumstances: Circumstances, *, now: float, next_in_s: float) -> list[Popular]:
    """What expires before a refresh at the next tick could be done, and is worth it; order is kept.

    Worth it is what is expected to be asked for at least once while it is fresh, is still asked for, and does not need
    a target that is left alone.
    """
    return [
        one
        for one in popular
        if one.fresh_until > 0
        and one.fresh_until - now <= next_in_s + one.cost_s
        and one.rate_per_s * one.ttl_s >= 1
        and now - one.asked_at <= UNASKED_TTLS * one.ttl_s
        and not _is_left_alone(one.call.place, circumstances.left_alone)
    ]


def _is_left_alone(place: str | None, left_alone: Collection[str]) -> bool:
    # A breaker of a host is named `host web-1`, of anything else as the place itself.
    return place is not None and (place in left_alone or f"host {place}" in left_alone)
