"""What an answer says of GitHub's rate limits, and how long to stay away; values in, values out.

GitHub tells of a limit in many ways: the primary one (an hour's, or for searches a minute's quota) with 403 or 429 and
`X-RateLimit-Remaining: 0`, a secondary one with 403 or 429, a text, and perhaps `Retry-After`. A 403 without any of
these is a matter of rights.
"""

import math
import random
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from store.budgets import LONGEST_BLOCK_S, Lesson

DEFAULT_WAIT_S = 60.0
"""GitHub's advice where it does not say how long."""
LONGEST_WAIT_S = LONGEST_BLOCK_S
"""No limit of GitHub's lasts longer than an hour; a later time is a mistake or an attack."""
_LONGEST_SPREAD_S = 60.0


class Limited(msgspec.Struct, frozen=True, kw_only=True):
    """GitHub refuses because of a rate limit."""

    primary: bool
    """Else a secondary one, which holds for the credential and not for one bucket."""
    wait_s: float
    """Not before: what GitHub says, within reason."""
    told: bool
    """Whether GitHub said how long."""


def limited(status: int, headers: Mapping[str, str], message: str, *, now: float) -> Limited | None:
    """Whether the answer is that of a rate limit; `headers` have lower-case names."""
    lowered = message.lower()
    about_limits = "rate limit" in lowered or "abuse detection" in lowered
    used_up = headers.get("x-ratelimit-remaining") == "0"
    if status != 429 and not (
        status == 403 and (about_limits or "retry-after" in headers or (used_up and not message))
    ):
        return None
    primary = used_up and "secondary" not in lowered and "abuse" not in lowered
    wait_s = retry_after_s(headers.get("retry-after", ""), now)
    if wait_s is None and primary:
        reset_at = _number(headers.get("x-ratelimit-reset", ""))
        wait_s = None if reset_at is None else reset_at - _clock(headers, now)
    told = wait_s is not None and wait_s >= 0
    return Limited(
        primary=primary,
        wait_s=min(wait_s + 1.0, LONGEST_WAIT_S) if wait_s is not None and told else DEFAULT_WAIT_S,
        told=told,
    )


def lesson(headers: Mapping[str, str], *, bucket: str, now: float) -> Lesson | None:
    """What the headers of an answer say of its bucket; None when they do not."""
    limit, reset_at = _whole(headers.get("x-ratelimit-limit")), _whole(headers.get("x-ratelimit-reset"))
    remaining, used = _whole(headers.get("x-ratelimit-remaining")), _whole(headers.get("x-ratelimit-used"))
    if limit is None or reset_at is None or remaining is None or limit <= 0:
        return None
    return Lesson(
        bucket=headers.get("x-ratelimit-resource") or bucket,
        limit=limit,
        used=max(used or 0, limit - remaining),
        window=reset_at,
        reset_in_s=min(max(0.0, reset_at - _clock(headers, now)), LONGEST_WAIT_S),
    )


def delay_s(at_least_s: float, *, strikes: int, chance: random.Random) -> float:
    """When to come again: never before `at_least_s`, then full jitter over a time that doubles with every block."""
    spread_s = min(_LONGEST_SPREAD_S, float(1 << min(max(0, strikes), 10)))
    return at_least_s + chance.uniform(0.0, spread_s)


def _clock(headers: Mapping[str, str], now: float) -> float:
    """GitHub's own clock, which its reset times are on."""
    date = _date(headers.get("date", ""))
    return now if date is None else date


def retry_after_s(retry_after: str, now: float) -> float | None:
    """Seconds until the time that a `Retry-After` header names; None when it names none."""
    number = _number(retry_after)
    if number is not None or not retry_after:
        return number
    moment = _date(retry_after)
    return None if moment is None else moment - now


def _date(value: str) -> float | None:
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _whole(value: str | None) -> int | None:
    number = _number(value or "")
    return None if number is None else int(number)
