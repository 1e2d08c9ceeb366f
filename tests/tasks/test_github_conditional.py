"""Answers that are asked for again: what they cost, whom they are shown to, and that they are never stale."""

from collections.abc import Generator
from typing import Any

import pytest

from store.sections import Secret
from tests.servers.github import ALICE_TOKEN, BOB_TOKEN, FakeGithub
from tests.servers.scripted_http import Heard, Say, scripted
from tests.servers.valkey import Valkey
from tests.tasks.github_calls import GithubCalls, github_calls


@pytest.fixture
def calls(fake_github: FakeGithub, valkey: Valkey) -> Generator[GithubCalls, None, None]:
    with github_calls(fake_github.url, broker_url=valkey.url, cache_url=valkey.url) as opened:
        yield opened


def _read(calls: GithubCalls, path: str = "README.md") -> Any:
    return calls.do("get_contents", repo="alice/demo", path=path)


def test_what_is_read_again_costs_nothing(calls: GithubCalls, fake_github: FakeGithub) -> None:
    first = _read(calls)
    used = fake_github.used(ALICE_TOKEN)

    again = [_read(calls) for _ in range(5)]

    assert again == [first] * 5
    assert fake_github.used(ALICE_TOKEN) == used
    assert [each.status for each in fake_github.requests] == [200, *[304] * 5]


def test_our_own_write_is_seen_by_our_next_read(calls: GithubCalls) -> None:
    before = _read(calls)
    calls.do("put_file", repo="alice/demo", path="README.md", content="new\n", message="m", expected_sha=before.sha)

    assert _read(calls).content == "new\n"


def test_the_write_of_another_is_seen_too(calls: GithubCalls, fake_github: FakeGithub) -> None:
    _read(calls)
    fake_github.push("alice/demo", {"README.md": "theirs\n"})

    assert _read(calls).content == "theirs\n"


def test_workers_share_what_they_remember(fake_github: FakeGithub, valkey: Valkey, calls: GithubCalls) -> None:
    _read(calls)

    with github_calls(fake_github.url, broker_url=valkey.url, cache_url=valkey.url) as another:
        _read(another)

    assert fake_github.requests[-1].status == 304


def test_an_answer_is_remembered_for_its_credential_alone(
    fake_github: FakeGithub, valkey: Valkey, calls: GithubCalls
) -> None:
    calls.do("get_contents", repo="acme/weather", path="README.md")

    with github_calls(fake_github.url, broker_url=valkey.url, cache_url=valkey.url, token=Secret(BOB_TOKEN)) as bobs:
        error = bobs.failure("get_contents", repo="acme/weather", path="README.md")

    assert error.failure_code == "not_found"


def test_a_right_that_was_taken_away_is_not_got_around(calls: GithubCalls, fake_github: FakeGithub) -> None:
    _read(calls)
    fake_github.revoke(ALICE_TOKEN)

    error = calls.failure("get_contents", repo="alice/demo", path="README.md")

    assert error.failure_code == "authentication"


def test_pages_that_were_remembered_have_their_next_one(calls: GithubCalls) -> None:
    pages = [calls.do("list_branches", repo="acme/tmpl", limit=1) for _ in range(2)]

    assert pages[0].next_cursor is not None
    assert pages[0] == pages[1]


def test_without_the_caches_redis_everything_works(fake_github: FakeGithub) -> None:
    with github_calls(fake_github.url) as calls:
        first, again = _read(calls), _read(calls)

    assert first == again
    assert [each.status for each in fake_github.requests] == [200, 200]


def test_it_can_be_switched_off(fake_github: FakeGithub, valkey: Valkey) -> None:
    with github_calls(fake_github.url, cache_url=valkey.url, broker_url=valkey.url, conditional=False) as calls:
        _read(calls)
        _read(calls)

    assert [each.status for each in fake_github.requests] == [200, 200]


def test_what_lies_in_redis_is_bounded_and_ends(fake_github: FakeGithub, valkey: Valkey) -> None:
    with (
        github_calls(fake_github.url, cache_url=valkey.url, broker_url=valkey.url, remember_bytes=600) as calls,
        valkey.client() as connected,
    ):
        client: Any = connected
        calls.do("list_commits", repo="alice/demo")
        assert client.keys("ts:answer:*") == []
        fake_github.push("alice/demo", {"README.md": "x"})

    with (
        github_calls(fake_github.url, cache_url=valkey.url, broker_url=valkey.url, remember_s=50) as calls,
        valkey.client() as connected,
    ):
        client = connected
        _read(calls)
        (key,) = client.keys("ts:answer:*")
        assert 0 < client.ttl(key) <= 50
        assert b"alice" not in key


def test_what_is_not_ours_in_redis_is_not_believed(valkey: Valkey) -> None:
    def answer(heard: Heard) -> Say:
        assert "if-none-match" not in heard.headers
        return Say(200, [], {"ETag": '"1"'})

    with (
        scripted(answer) as server,
        github_calls(server.url, broker_url=valkey.url, cache_url=valkey.url) as calls,
        valkey.client() as connected,
    ):
        client: Any = connected
        calls.do("list_commits", repo="a/b")
        (key,) = client.keys("ts:answer:*")
        for garbage in (b"", b"\xff", b"\x83", b"{}"):
            client.set(key, garbage, ex=60)
            calls.do("list_commits", repo="a/b")

        assert len(server.heard) == 5
