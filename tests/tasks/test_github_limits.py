import random
from email.utils import formatdate

import pytest

from tasks.github.limits import delay_s, lesson, limited

NOW = 1_800_000_000.0
PRIMARY = "API rate limit exceeded for user ID 1."
SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
ABUSE = "You have triggered an abuse detection mechanism."
USED_UP = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW + 100))}


@pytest.mark.parametrize(
    ("status", "message", "headers", "primary"),
    [
        (403, PRIMARY, USED_UP, True),
        (429, PRIMARY, USED_UP, True),
        (403, "", USED_UP, True),
        (403, SECONDARY, {}, False),
        (403, SECONDARY, USED_UP, False),
        (403, ABUSE, {}, False),
        (403, "Slow down", {"retry-after": "5"}, False),
        (429, "", {}, False),
    ],
)
def test_rate_limits_are_told_apart(status: int, message: str, headers: dict[str, str], primary: bool) -> None:
    found = limited(status, headers, message, now=NOW)

    assert found is not None
    assert found.primary is primary


@pytest.mark.parametrize(
    ("status", "message", "headers"),
    [
        (403, "Resource not accessible by personal access token", {}),
        (403, "Resource not accessible by personal access token", USED_UP),  # it was the last request of the hour
        (404, PRIMARY, USED_UP),
        (200, "", USED_UP),
        (502, SECONDARY, {"retry-after": "5"}),
    ],
)
def test_what_is_no_rate_limit_is_not_taken_for_one(status: int, message: str, headers: dict[str, str]) -> None:
    assert limited(status, headers, message, now=NOW) is None


@pytest.mark.parametrize(
    ("retry_after", "wait_s"),
    [
        *(("7", 8.0), ("0", 1.0), ("86400", 3600.0), ("-1", 60.0), ("soon", 60.0), ("", 60.0), ("nan", 60.0)),
        *(("inf", 60.0), (formatdate(NOW + 90, usegmt=True), 91.0), (formatdate(NOW - 90, usegmt=True), 60.0)),
        ("Wed, 99 Foo 2026", 60.0),
    ],
)
def test_retry_after_is_believed_within_reason(retry_after: str, wait_s: float) -> None:
    found = limited(429, {"retry-after": retry_after}, "", now=NOW)

    assert found is not None
    assert found.wait_s == pytest.approx(wait_s, abs=1)


@pytest.mark.parametrize(("reset_in_s", "wait_s"), [(120, 121.0), (-50, 60.0), (31_536_000, 3600.0), (0, 1.0)])
def test_a_primary_limit_waits_for_the_reset_on_githubs_clock(reset_in_s: int, wait_s: float) -> None:
    ahead = NOW + 500  # GitHub's clock is ahead of ours
    headers = {
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": str(int(ahead + reset_in_s)),
        "date": formatdate(ahead, usegmt=True),
    }

    found = limited(403, headers, PRIMARY, now=NOW)

    assert found is not None
    assert found.wait_s == pytest.approx(wait_s, abs=1)


def test_a_call_comes_again_at_a_random_time_that_is_never_too_early() -> None:
    chance = random.Random(1)

    for strikes in range(12):
        delays = [delay_s(10.0, strikes=strikes, chance=chance) for _ in range(200)]
        spread_s = min(60.0, 2.0**strikes)
        assert min(delays) >= 10.0
        assert max(delays) <= 10.0 + spread_s
        assert max(delays) - min(delays) > spread_s * 0.8


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-limit": "5000"},
        {"x-ratelimit-limit": "x", "x-ratelimit-remaining": "1", "x-ratelimit-reset": "1"},
        {"x-ratelimit-limit": "0", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"},
    ],
)
def test_nothing_is_learned_from_what_says_nothing(headers: dict[str, str]) -> None:
    assert lesson(headers, bucket="core", now=NOW) is None


def test_the_answer_says_which_bucket_it_was() -> None:
    headers = {
        "x-ratelimit-limit": "30",
        "x-ratelimit-remaining": "29",
        "x-ratelimit-reset": str(int(NOW + 60)),
        "x-ratelimit-resource": "search",
    }

    learned = lesson(headers, bucket="core", now=NOW)

    assert learned is not None
    assert (learned.bucket, learned.limit, learned.used, learned.reset_in_s) == ("search", 30, 1, 60.0)
