"""When a failed attempt is followed by another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolswarm.messages import Effect, ErrorInfo
from workers.retry import pause_s

NOW = 1000.0


def error(*, retryable: bool = True, **details: object) -> ErrorInfo:
    return ErrorInfo(code="upstream_failed", message="…", retryable=retryable, details=details)


def pause(found: ErrorInfo, effect: Effect = Effect.READ, *, begun: bool = False, attempt: int = 1) -> float | None:
    return pause_s(found, effect=effect, effect_begun=begun, attempt=attempt, now=NOW, random=0.5)


def test_an_error_that_does_not_pass_is_not_retried() -> None:
    assert pause(error(retryable=False)) is None


@pytest.mark.parametrize("effect", [Effect.ONCE, Effect.VERIFIABLE])
def test_what_must_not_run_twice_is_retried_only_before_its_effect_began(effect: Effect) -> None:
    assert pause(error(), effect, begun=False) is not None
    assert pause(error(), effect, begun=True) is None


@given(st.integers(1, 60), st.floats(0, 0.999))
def test_the_pause_lies_under_a_ceiling_that_doubles_up_to_half_a_minute(attempt: int, random: float) -> None:
    found = pause_s(error(), effect=Effect.READ, effect_begun=False, attempt=attempt, now=NOW, random=random)

    assert found is not None
    assert 0 <= found <= min(30.0, 0.5 * 2.0 ** (attempt - 1))


def test_the_pause_never_ends_before_the_time_that_the_other_side_named() -> None:
    assert (pause(error(retry_at=NOW + 7)) or 0) > 7
    assert (pause(error(retry_after_s=7)) or 0) > 7
    assert (pause(error(retry_at="tomorrow")) or 0) < 1
    assert (pause(error(retry_at=NOW - 100)) or 0) < 1
