"""Errors name the argument as the caller wrote it."""

from collections.abc import Generator
from typing import Any

import pytest

from store.sections import Secret
from tests.servers.github import FakeGithub
from tests.tasks.github_calls import GithubCalls, github_calls

REPO = "alice/demo"
FILES = [{"path": "ok", "content": "x"}, {"path": "a/../b", "content": "x"}]
TWICE = [{"path": "ok", "content": "x"}, {"path": "ok"}]
NO_BASE64 = [{"path": "ok", "content": "x"}, {"path": "b", "content": "?", "encoding": "base64"}]


@pytest.fixture
def calls(fake_github: FakeGithub) -> Generator[GithubCalls, None, None]:
    with github_calls(fake_github.url) as opened:
        yield opened


@pytest.mark.parametrize(
    ("operation", "arguments", "argument"),
    [
        ("list_commits", {"repo": REPO, "author": "a/b"}, "author"),
        ("list_issues", {"repo": REPO, "author": "a/b"}, "author"),
        ("list_issues", {"repo": REPO, "assignee": "a/b"}, "assignee"),
        ("create_issue", {"repo": REPO, "title": "t", "assignees": ["bob", "a/b"]}, "assignees"),
        ("update_issue", {"repo": REPO, "number": 1, "assignees": ["a/b"]}, "assignees"),
        ("create_branch", {"repo": REPO, "branch": "b", "from_ref": "a/../b"}, "from_ref"),
        ("create_branch", {"repo": REPO, "branch": "b", "from_ref": "0" * 40}, "from_ref"),
        ("create_repo_from_template", {"template": "a/b/c", "name": "n"}, "template"),
        ("create_repo_from_template", {"template": "http://elsewhere/a/b", "name": "n"}, "template"),
        ("list_repos", {"owner": "a/b"}, "owner"),
        ("list_pulls", {"repo": REPO, "head": "a/b:main"}, "head"),
        ("push_files", {"repo": REPO, "files": FILES, "message": "m"}, "files[1].path"),
        ("push_files", {"repo": REPO, "files": TWICE, "message": "m"}, "files[1].path"),
        ("push_files", {"repo": REPO, "files": NO_BASE64, "message": "m"}, "files[1].content"),
    ],
)
def test_an_error_names_the_callers_argument(
    calls: GithubCalls, operation: str, arguments: dict[str, Any], argument: str
) -> None:
    error = calls.failure(operation, **arguments)

    assert error.details["argument"] == argument
    assert error.message.startswith(f"{argument} ")


@pytest.mark.parametrize(
    ("operation", "arguments", "argument"),
    [
        ("get_repo", {"repo": "demo"}, "repo"),
        ("list_repos", {}, "owner"),
        ("create_repo", {"name": "n"}, "owner"),
        ("create_repo_from_template", {"template": "tmpl", "name": "n", "owner": "acme"}, "template"),
    ],
)
def test_a_missing_owner_is_missed_where_it_could_have_been_named(
    fake_github: FakeGithub, operation: str, arguments: dict[str, Any], argument: str
) -> None:
    with github_calls(fake_github.url, token=Secret("")) as calls:
        error = calls.failure(operation, **arguments)

    assert (error.failure_code, error.details["argument"]) == ("no_default_owner", argument)
    assert error.message.startswith(f"{argument} ")
