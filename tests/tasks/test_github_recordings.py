"""A reality check: our operations on what the real GitHub has answered, and the fake beside it."""

import re
from collections.abc import Generator
from typing import Any

import pytest
import requests

from tasks.github.branches import CreatedBranch
from tests.servers.github import ALICE_TOKEN, FakeGithub
from tests.servers.github_asking import Api
from tests.servers.github_replay import Exchange, Replay, recorded, replaying
from tests.servers.github_routes import find_route
from tests.servers.github_spec import response_faults
from tests.tasks.github_calls import GithubCalls, github_calls
from toolswarm.errors import OperationFailed

OWNER = "octokit-fixture-org"
SHA_1, SHA_2 = "0" * 39 + "1", "0" * 39 + "2"


@pytest.fixture
def replay() -> Generator[Replay, None, None]:
    """Fails when something was asked that was never recorded."""
    with replaying() as server:
        yield server
    assert server.unknown == []


@pytest.fixture
def calls(replay: Replay) -> Generator[GithubCalls, None, None]:
    with github_calls(replay.url, default_owner=OWNER) as made:
        yield made


def test_a_real_repository_is_described_with_one_request(calls: GithubCalls, replay: Replay) -> None:
    found = calls.do("get_repo", repo="hello-world")

    assert (found.repo, found.default_branch, found.private) == (f"{OWNER}/hello-world", "master", False)
    assert found.url == f"https://github.com/{OWNER}/hello-world"
    assert found.api_requests == len(replay.asked) == 1


def test_a_real_folder_is_listed(calls: GithubCalls) -> None:
    found = calls.do("get_contents", repo="hello-world", path="")

    assert [(entry.name, entry.kind, entry.size_bytes) for entry in found.entries] == [("README.md", "file", 13)]


def test_a_real_file_comes_raw(calls: GithubCalls) -> None:
    with calls.clients.for_call(calls.run()) as github:
        path = f"/repos/{OWNER}/hello-world/contents/README.md"

        status, headers, body = github.raw(path, parameters={}, accept="application/vnd.github.v3.raw")

    assert (status, body) == (200, b"# hello-world")
    assert headers["content-type"].startswith("application/vnd.github.v3.raw")


def test_real_pages_lead_to_the_next_ones(calls: GithubCalls, replay: Replay) -> None:
    page = calls.do("list_issues", repo="paginate-issues", limit=3)

    assert [issue.number for issue in page.issues] == [13, 12, 11]
    assert page.next_cursor is not None
    assert len(replay.asked) == 1


def test_a_real_link_to_the_next_page_is_followed_on_the_same_host_only(calls: GithubCalls, replay: Replay) -> None:
    first = requests.get(f"{replay.url}/repos/{OWNER}/paginate-issues/issues?per_page=3", timeout=5)

    with calls.clients.for_call(calls.run()) as github:
        second = github.json("GET", first.links["next"]["url"])
        last = github.json("GET", first.links["last"]["url"])

    assert [issue["number"] for issue in second + last] == [10, 9, 8, 1]
    with pytest.raises(OperationFailed, match="not one of GitHub's"), calls.clients.for_call(calls.run()) as github:
        github.json("GET", "https://api.github.com/repositories/1000/issues?per_page=3&page=2")


def test_a_real_repository_is_found_under_its_former_name(calls: GithubCalls, replay: Replay) -> None:
    found = calls.do("get_repo", repo="rename-repository")

    assert found.repo == f"{OWNER}/rename-repository-newname"
    assert replay.asked == [f"GET /repos/{OWNER}/rename-repository", "GET /repositories/1000"]


def test_a_write_does_not_follow_a_real_redirect(calls: GithubCalls, replay: Replay) -> None:
    body = {"name": "rename-repository-newname", "description": "test description"}
    with pytest.raises(OperationFailed) as caught, calls.clients.for_call(calls.run()) as github:
        github.json("PATCH", f"/repos/{OWNER}/rename-repository", body=body)

    assert (caught.value.failure_code, caught.value.before_effect) == ("moved", True)
    assert len(replay.asked) == 1


def test_a_real_redirect_to_another_host_is_not_followed(calls: GithubCalls, replay: Replay) -> None:
    with pytest.raises(OperationFailed) as caught, calls.clients.for_call(calls.run()) as github:
        github.json("GET", f"/repos/{OWNER}/get-archive/tarball/main")

    assert caught.value.details["reason"] == "foreign_link"
    assert len(replay.asked) == 1


def test_a_real_search_finds_issues(calls: GithubCalls) -> None:
    query = f"sesame repo:{OWNER}/search-issues"

    found = calls.do("search_issues", query=query, raw=True)

    assert (found.query, found.total, found.incomplete) == (query, 2, False)
    assert [(issue.number, issue.repo) for issue in found.issues] == [
        (2, f"{OWNER}/search-issues"),
        (1, f"{OWNER}/search-issues"),
    ]


def test_a_real_file_is_written(calls: GithubCalls, replay: Replay) -> None:
    arguments = {"repo": "create-file", "path": "test.txt", "content": "Test content", "message": "create test.txt"}

    written = calls.do("put_file", **arguments)

    assert written.sha == "3f3f005b29247e51a4f4d6b8ce07b67646cd6074"
    assert len(replay.asked) == 1


def test_a_real_issue_is_created(calls: GithubCalls, replay: Replay) -> None:
    made = calls.do("create_issue", repo="add-labels-to-issue", title="Issue without a label")

    assert (made.number, made.title, made.state) == (1, "Issue without a label", "open")
    assert len(replay.asked) == 1


def test_a_real_branch_is_created(calls: GithubCalls, replay: Replay) -> None:
    made = calls.do("create_branch", repo="git-refs", branch="test", from_ref=SHA_2)

    assert made == CreatedBranch(repo=f"{OWNER}/git-refs", branch="test", sha=SHA_2, api_requests=1)
    assert len(replay.asked) == 1


def test_a_real_refusal_says_what_was_wrong(calls: GithubCalls) -> None:
    with pytest.raises(OperationFailed) as caught, calls.clients.for_call(calls.run()) as github:
        github.json("POST", f"/repos/{OWNER}/errors/labels", body={"name": "foo", "color": "invalid"})

    error = caught.value
    assert (error.failure_code, error.details["upstream_message"]) == ("upstream_refused", "Validation Failed")
    assert error.details["problems"] == ["Label color invalid"]


def test_a_real_not_found_is_told(calls: GithubCalls) -> None:
    with pytest.raises(OperationFailed) as caught, calls.clients.for_call(calls.run()) as github:
        github.json("GET", f"/repos/{OWNER}/branch-protection/branches/main/protection")

    assert (caught.value.failure_code, caught.value.details["upstream_message"]) == (
        *("not_found", "Branch not protected"),
    )


# -- the fake beside the real one ------------------------------------------------------------------------------


def _described() -> list[Any]:
    return [
        pytest.param(found[0].operation, each, id=f"{each.scenario}-{each.method}-{each.status}")
        for each in recorded()
        for found in (find_route(each.method, each.path.partition("?")[0]),)
        if found is not None and "raw" not in each.accept and each.status not in (301, 307)
    ]


@pytest.mark.parametrize(("operation", "exchange"), _described())
def test_the_description_that_the_fake_is_held_to_fits_reality(operation: str, exchange: Exchange) -> None:
    found = response_faults(operation, exchange.status, exchange.body or None)

    # GitHub has added fields since the recordings were made; nothing else may differ.
    assert [each for each in found if not re.search(r'"\w+" is a required property', each)] == []


@pytest.mark.parametrize(
    ("scenario", "path"),
    [
        ("get-repository", "/repos/alice/demo"),
        ("get-content", "/repos/alice/demo/contents/"),
        ("search-issues", "/search/issues?q=login"),
        ("get-organization", "/orgs/acme"),
        ("paginate-issues", "/repos/alice/demo/issues"),
    ],
)
def test_the_fake_gives_the_fields_that_github_gave(fake_github: FakeGithub, scenario: str, path: str) -> None:
    real = next(each for each in recorded() if each.scenario == scenario)
    with Api(fake_github, ALICE_TOKEN) as asked:
        answer = asked("GET", path)

    missing = _fields(real.body) - _fields(answer.json())
    assert missing <= _PRIVATE_OR_GONE
    assert {name for name in real.headers if "ratelimit" in name} <= {name.lower() for name in answer.headers}


_PRIVATE_OR_GONE = {
    *("organization", "temp_clone_token", "allow_update_branch", "use_squash_pr_title_as_default"),
    *("squash_merge_commit_message", "squash_merge_commit_title", "merge_commit_message", "merge_commit_title"),
    *("web_commit_signoff_required", "performed_via_github_app", "reactions", "timeline_url", "is_verified"),
}
"""What GitHub says besides, to some (admins, owners) or about some; nothing of it is required by its description."""


def _fields(body: dict[str, Any] | list[dict[str, Any]]) -> set[str]:
    """Of the object, or of the first in a list."""
    shown = body[0] if isinstance(body, list) else body
    return set(shown["items"][0] if "items" in shown else shown)
