"""Searches: the query that is sent, what comes back, pages, and that a pinned scope holds at GitHub's end too."""

from collections.abc import Generator
from typing import Any

import msgspec
import pytest

from tests.servers.github import FakeGithub
from tests.tasks.github_calls import GithubCalls, github_calls
from toolswarm.errors import InvalidArguments
from toolswarm.messages import Context


@pytest.fixture
def calls(fake_github: FakeGithub) -> Generator[GithubCalls, None, None]:
    with github_calls(fake_github.url) as opened:
        yield opened


def _search_in_context(calls: GithubCalls, context: str, /, **arguments: Any) -> Any:
    run = calls.run()
    run.call = msgspec.structs.replace(run.call, context=Context(repo=context))
    return calls.do("search_issues", run, **arguments)


def _queries(github: FakeGithub) -> list[str]:
    return [dict(request.query)["q"] for request in github.requests]


def test_a_sentence_finds_issues_and_says_what_was_made_of_it(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.issue("alice/demo", "Login page is slow", author="bob")

    found = calls.do("search_issues", query="open bugs about login by bob")

    assert [(issue.repo, issue.number, issue.excerpt) for issue in found.issues] == [
        ("alice/demo", 1, "It crashes on login.")
    ]
    assert found.query == "login is:issue is:open label:bug author:bob"
    assert [one.rule for one in found.applied] == ["author", "state", "bugs"]
    assert (found.dropped, found.total, found.next_cursor, found.untrusted) == (["about"], 1, None, True)
    assert found.api_requests == 1


def test_githubs_own_language_and_raw_are_sent_as_they_are(calls: GithubCalls, fake_github: FakeGithub) -> None:
    calls.do("search_issues", query="login is:open  label:bug")
    calls.do("search_issues", query="open bugs", raw=True)

    assert _queries(fake_github) == ["login is:open  label:bug", "open bugs"]


def test_a_search_comes_in_pages(calls: GithubCalls, fake_github: FakeGithub) -> None:
    for number in range(4):
        fake_github.issue("alice/demo", f"Leak {number}")

    pages = [calls.do("search_issues", query="leak issues", sort="created", order="asc", limit=2)]
    pages.append(
        calls.do(
            "search_issues", query="leak issues", sort="created", order="asc", limit=2, cursor=pages[0].next_cursor
        )
    )

    assert [issue.number for page in pages for issue in page.issues] == [2, 3, 4, 5]
    assert pages[1].next_cursor is None
    assert len(fake_github.requests) == 2


def test_a_cursor_of_another_search_is_refused(calls: GithubCalls, fake_github: FakeGithub) -> None:
    for number in range(2):
        fake_github.issue("alice/demo", f"Leak {number}")
    cursor = calls.do("search_issues", query="leak", limit=1).next_cursor

    assert calls.failure("search_issues", query="login", limit=1, cursor=cursor).failure_code == "cursor_refused"


@pytest.mark.parametrize(
    "query",
    [
        "keys repo:acme/weather",
        "keys OR repo:acme/weather",
        "keys user:acme",
        '"a"repo:acme/weather keys',
        "issues in repo acme/weather about keys",
        "(keys) org:acme",
        'login"a"OR"keys"',
        '"x"OR"keys"',
        'label:"x"OR"keys"',
        '-"x"|"keys"',
    ],
)
def test_a_search_pinned_to_a_repository_finds_nothing_elsewhere(
    calls: GithubCalls, fake_github: FakeGithub, query: str
) -> None:
    fake_github.issue("acme/weather", "keys")
    fake_github.issue("alice/demo", "keys")

    found = calls.do("search_issues", query=query, repo="alice/demo")

    assert {issue.repo for issue in found.issues} <= {"alice/demo"}
    assert found.query.startswith("repo:alice/demo")
    assert found.dropped


@pytest.mark.parametrize("argument", [{"repo": "a/b repo:x/y"}, {"owner": "acme user:bob"}, {"owner": 'x"'}])
def test_scope_arguments_cannot_carry_qualifiers(
    calls: GithubCalls, fake_github: FakeGithub, argument: dict[str, str]
) -> None:
    assert calls.failure("search_issues", query="x", **argument).failure_code == "path_refused"
    assert fake_github.requests == []


def test_repo_and_owner_exclude_each_other(calls: GithubCalls) -> None:
    error = calls.failure("search_code", query="x", repo="alice/demo", owner="acme")

    assert (error.failure_code, error.details["argument"]) == ("invalid_arguments", "owner")


def test_an_owner_pins_the_search(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.issue("acme/weather", "Shared word")
    fake_github.issue("alice/demo", "Shared word")

    found = calls.do("search_issues", query="shared user:alice", owner="acme")

    assert ([issue.repo for issue in found.issues], found.dropped) == (["acme/weather"], ["user:alice"])


def test_the_contexts_repository_is_searched_unless_the_query_names_another(
    calls: GithubCalls, fake_github: FakeGithub
) -> None:
    for query, arguments in (
        ("login", {}),
        ("login repo:acme/weather", {}),
        ("login OR logout", {}),
        ("login", {"repo": ""}),
        ("login", {"owner": "acme"}),
        ("login", {"raw": True}),
    ):
        _search_in_context(calls, "alice/demo", query=query, **arguments)

    assert _queries(fake_github) == [
        "repo:alice/demo login",
        "login repo:acme/weather",
        "login OR logout",
        "login",
        "user:acme login",
        "login",
    ]


def test_code_is_found_with_the_places_around_it(calls: GithubCalls, fake_github: FakeGithub) -> None:
    found = calls.do("search_code", query="hello in python files", repo="alice/demo")

    assert [(each.repo, each.path) for each in found.files] == [("alice/demo", "src/app.py")]
    assert found.query == "repo:alice/demo hello language:python"
    assert any("hello" in fragment for fragment in found.files[0].fragments)
    assert [request.bucket for request in fake_github.requests] == ["code_search"]


def test_code_needs_a_word(calls: GithubCalls, fake_github: FakeGithub) -> None:
    assert calls.failure("search_code", query="language:python", repo="alice/demo").failure_code == "query_refused"
    assert fake_github.requests == []


def test_repositories_are_found(calls: GithubCalls) -> None:
    found = calls.do("search_repositories", query="python repos about demo with more than 5 stars")

    assert [(each.repo, each.stars, each.language) for each in found.repositories] == [("alice/demo", 7, "Python")]
    assert found.query == "demo language:python stars:>5"


def test_users_and_organizations_are_found(calls: GithubCalls) -> None:
    found = calls.do("search_users", query="acme orgs")

    assert [(each.login, each.kind) for each in found.users] == [("acme", "Organization")]


def test_full_brings_all_that_github_says_of_each(calls: GithubCalls) -> None:
    found = calls.do("search_issues", query="login", full=True)

    assert found.issues[0].full["node_id"]
    assert calls.do("search_issues", query="login").issues[0].full is None


def test_a_limit_beyond_a_page_is_refused(calls: GithubCalls) -> None:
    with pytest.raises(InvalidArguments):
        calls.do("search_issues", query="x", limit=101)
