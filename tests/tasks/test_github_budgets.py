"""All workers together keep to GitHub's limits: who would exceed one waits in the ledger, and nothing is sent."""

import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

from store.tool_settings import GithubLimits
from tasks.operation import Postponed
from tests.servers.github import ALICE_TOKEN, FakeGithub
from tests.servers.github_faults import Fault, abuse, bad_gateway, forbidden, primary, secondary, too_many
from tests.servers.scripted_http import Say, scripted
from tests.servers.valkey import Valkey
from tests.servers.waiting import until
from tests.tasks.github_calls import GithubCalls, github_calls
from toolswarm.errors import OperationFailed
from toolswarm.messages import Priority


@pytest.fixture
def calls(fake_github: FakeGithub, valkey: Valkey) -> Generator[GithubCalls, None, None]:
    with github_calls(fake_github.url, broker_url=valkey.url, cache_url=valkey.url) as opened:
        yield opened


def _read(calls: GithubCalls, priority: Priority = Priority.INTERACTIVE) -> Any:
    return calls.do("list_commits", calls.run(priority=priority), repo="alice/demo")


def _postponed(calls: GithubCalls, priority: Priority = Priority.INTERACTIVE) -> Postponed:
    with pytest.raises(Postponed) as caught:
        _read(calls, priority)
    return caught.value


def test_a_used_up_quota_is_known_to_all_workers_without_asking(
    calls: GithubCalls, fake_github: FakeGithub, valkey: Valkey
) -> None:
    fake_github.limit(ALICE_TOKEN, remaining=1, reset_in_s=300)
    _read(calls)

    with github_calls(fake_github.url, broker_url=valkey.url, cache_url=valkey.url) as another:
        postponed = _postponed(another)

    assert postponed.delay_s >= 299
    assert postponed.details["reason"] == "used_up"
    assert len(fake_github.requests) == 1


def test_the_last_fifth_is_not_for_background_and_the_last_tenth_only_for_interactive_calls(
    calls: GithubCalls, fake_github: FakeGithub
) -> None:
    fake_github.limit(ALICE_TOKEN, remaining=1001)
    _read(calls)
    background = _postponed(calls, Priority.BACKGROUND)
    _read(calls, Priority.NORMAL)

    fake_github.limit(ALICE_TOKEN, remaining=501)
    fake_github.push("alice/demo", {"x": "y"})
    _read(calls)
    normal = _postponed(calls, Priority.NORMAL)
    _read(calls)

    assert (background.details["reason"], normal.details["reason"]) == ("reserved", "reserved")


def test_searches_have_a_budget_of_their_own(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.limit(ALICE_TOKEN, "search", remaining=1, reset_in_s=50)
    calls.do("search_issues", query="is:issue")

    with pytest.raises(Postponed) as caught:
        calls.do("search_issues", query="is:issue is:open")

    assert caught.value.delay_s >= 49
    _read(calls)


@pytest.mark.parametrize(
    ("fault", "others_wait", "at_least_s"),
    [
        (primary(reset_in_s=90), False, 90),
        (primary(reset_in_s=90, status=429), False, 90),
        (secondary(retry_after="20"), True, 20),
        (secondary(retry_after=None), True, 60),
        (abuse(), True, 60),
        (too_many(), True, 60),
        (too_many(retry_after="15"), True, 15),
        (too_many(retry_after="86400"), True, 3600),
        (too_many(retry_after="-1"), True, 60),
        (too_many(retry_after="later"), True, 60),
    ],
)
def test_after_a_limit_nobody_asks_before_it_is_over(
    calls: GithubCalls, fake_github: FakeGithub, fault: Fault, others_wait: bool, at_least_s: float
) -> None:
    fake_github.fail(fault)
    first = _postponed(calls)
    second = _postponed(calls)

    try:
        calls.do("search_issues", query="is:issue")
        waited = False
    except Postponed:
        waited = True

    assert min(first.delay_s, second.delay_s) >= at_least_s - 1
    assert waited is others_wait
    assert len(fake_github.requests) == (1 if others_wait else 2)


@pytest.mark.parametrize("fault", [forbidden(), bad_gateway().always()])
def test_what_is_no_limit_blocks_nobody(calls: GithubCalls, fake_github: FakeGithub, fault: Fault) -> None:
    fake_github.fail(fault)
    with pytest.raises(OperationFailed) as caught:
        _read(calls)
    fake_github.heal()

    _read(calls)

    assert caught.value.failure_code in ("permission", "upstream_failed")


def test_a_write_that_would_exceed_a_budget_begins_no_effect(fake_github: FakeGithub, valkey: Valkey) -> None:
    limits = GithubLimits(writes_per_minute=2)
    with github_calls(fake_github.url, broker_url=valkey.url, cache_url=valkey.url, limits=limits) as calls:
        for number in range(2):
            calls.do("put_file", repo="alice/demo", path=f"{number}", content="x", message="m")
        run = calls.run()
        with pytest.raises(Postponed) as caught:
            calls.do("put_file", run, repo="alice/demo", path="2", content="x", message="m")

    assert caught.value.details["reason"] == "writes_per_minute"
    assert run.effects_begun == 0
    assert fake_github.content("alice/demo", "2") is None


def test_no_more_requests_are_on_their_way_than_may(valkey: Valkey) -> None:
    over = threading.Event()
    ended: list[str] = []

    with (
        scripted(lambda _: Say(200, [], until=over)) as server,
        github_calls(server.url, broker_url=valkey.url, cache_url=valkey.url, limits=GithubLimits(at_once=3)) as calls,
    ):

        def read() -> None:
            try:
                calls.do("list_commits", repo="a/b")
                ended.append("done")
            except Postponed as postponed:
                ended.append(postponed.details["reason"])

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: len(ended) == 5, "five were postponed")
        over.set()
        for thread in threads:
            thread.join()

    assert sorted(ended) == ["done"] * 3 + ["too_many_at_once"] * 5
    assert len(server.heard) == 3


def test_a_request_that_gets_no_answer_gives_its_place_back(valkey: Valkey) -> None:
    with (
        scripted(lambda _: Say(reset=True)) as server,
        github_calls(server.url, broker_url=valkey.url, cache_url=valkey.url, limits=GithubLimits(at_once=1)) as calls,
    ):
        for _ in range(2):
            assert calls.failure("list_commits", repo="a/b").failure_code == "upstream_unreachable"

    assert len(server.heard) == 6


def test_a_call_in_doubt_is_not_postponed_as_if_nothing_had_happened(
    calls: GithubCalls, fake_github: FakeGithub
) -> None:
    fake_github.fail(bad_gateway(after=True).on("PUT"), secondary(retry_after="30").on("GET"))

    error = calls.failure("put_file", repo="alice/demo", path="new", content="x", message="m")

    assert (error.in_doubt, error.failure_retryable) == (True, True)


def test_without_the_brokers_redis_github_still_counts(fake_github: FakeGithub) -> None:
    fake_github.limit(ALICE_TOKEN, remaining=1, reset_in_s=40)
    with github_calls(fake_github.url) as calls:
        _read(calls)
        postponed = _postponed(calls)

    assert postponed.delay_s >= 39
    assert len(fake_github.requests) == 2


def test_the_status_says_until_when_the_workers_hold_back(calls: GithubCalls, fake_github: FakeGithub) -> None:
    _read(calls)
    fake_github.fail(primary(reset_in_s=70))
    fake_github.push("alice/demo", {"x": "y"})
    _postponed(calls)

    status = calls.do("rate_limit_status")

    core = next(bucket for bucket in status.buckets if bucket.name == "core")
    assert core.blocked_until is not None
    assert core.blocked_until - time.time() == pytest.approx(71, abs=3)
