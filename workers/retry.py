"""Whether a failed attempt is followed by another, and when: values in, values out.

A call is retried when its error may pass (`retryable`) and nothing can have happened twice: its effect had not begun,
or it may run again. The pause is full jitter over an exponential ceiling (AWS Architecture Blog, "Exponential backoff
and jitter"), and never ends before the time that the other side named (`retry_at`, or `retry_after_s`).
"""

from typing import Any

from toolswarm.messages import Effect, ErrorInfo

_AT_ONCE = frozenset({"breaker_open"})
"""Told at once: that it would fail again is what is known."""
_FIRST_CEILING_S = 0.5
_HIGHEST_CEILING_S = 30.0


def pause_s(
    error: ErrorInfo, *, effect: Effect, effect_begun: bool, attempt: int, now: float, random: float
) -> float | None:
    """Seconds until the next attempt, or None when there is to be none; `random` is in [0, 1), `now` Unix seconds."""
    if not error.retryable or error.code in _AT_ONCE or (effect_begun and not effect.may_run_again):
        return None
    ceiling_s = min(_HIGHEST_CEILING_S, _FIRST_CEILING_S * 2.0 ** (attempt - 1))
    return _named_s(error.details, now) + random * ceiling_s


_NEVER_FALL_BACK = frozenset(
    {"host_key", "authentication", "permission", "path_refused", "env_refused", "session_lost", "not_found"}
)
"""Answers, and matters of trust: another tool must not be asked instead."""


def may_fall_back(error: ErrorInfo, *, effect: Effect, effect_begun: bool) -> bool:
    """Whether the next tool of the chain may be asked: this one was not to be had, and nothing has begun."""
    return error.retryable and not effect_begun and effect.may_run_again and error.code not in _NEVER_FALL_BACK


def _named_s(details: dict[str, Any], now: float) -> float:
    """What the other side asked for; it is trusted as far as it is a number."""
    retry_at, retry_after_s = details.get("retry_at"), details.get("retry_after_s")
    if isinstance(retry_at, int | float):
        return max(0.0, float(retry_at) - now)
    if isinstance(retry_after_s, int | float):
        return max(0.0, float(retry_after_s))
    return 0.0
