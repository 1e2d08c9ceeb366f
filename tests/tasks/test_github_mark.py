"""The mark of a creation in the hands of strangers: a copy of it is nobody's proof."""

from collections.abc import Generator
from typing import Any

import pytest

from store.sections import Secret
from tasks.github.marker import mark
from tasks.operation import NOT_DONE
from tests.servers.github import BOB_TOKEN, FakeGithub
from tests.servers.github_faults import bad_gateway
from tests.servers.scripted_http import Heard, Say, scripted
from tests.tasks.github_calls import GithubCalls, github_calls
from toolswarm.errors import OperationFailed

REPO = "alice/demo"
CREATIONS: list[tuple[str, dict[str, Any]]] = [
    ("create_issue", {"repo": REPO, "title": "Mine"}),
    ("create_comment", {"repo": REPO, "number": 1, "body": "Mine"}),
    ("create_pull", {"repo": REPO, "title": "Mine", "head": "work", "base": "main"}),
]
NAMES = [name for name, _ in CREATIONS]


@pytest.fixture
def calls(fake_github: FakeGithub) -> Generator[GithubCalls, None, None]:
    fake_github.push(REPO, {"work.txt": "x"}, branch="work")
    with github_calls(fake_github.url) as opened:
        yield opened


def _copy(github: FakeGithub, operation: str, text: str, *, author: str, title: str = "Mine") -> int:
    """A text of somebody's with the mark in it; its number."""
    if operation == "create_comment":
        return github.comment(REPO, 1, text, author=author).id
    if operation == "create_issue":
        return github.issue(REPO, title, body=text, author=author).number
    number = github.pull(REPO, title, head="work", author=author).number
    github.find(REPO).issues[number].body = text
    return number


def _number(found: Any) -> int:
    return int(found.comment.id if hasattr(found, "comment") else found.number)


@pytest.mark.parametrize(("operation", "arguments"), CREATIONS, ids=NAMES)
def test_a_strangers_copy_is_not_the_calls(
    calls: GithubCalls, fake_github: FakeGithub, operation: str, arguments: dict[str, Any]
) -> None:
    run = calls.run()
    _copy(fake_github, operation, f"Mine\n\n{mark(run)}", author="bob")

    assert calls.probe(operation, run, **arguments) is NOT_DONE


@pytest.mark.parametrize(("operation", "arguments"), CREATIONS, ids=NAMES)
def test_a_copy_before_or_after_hides_not_the_calls_own(
    calls: GithubCalls, fake_github: FakeGithub, operation: str, arguments: dict[str, Any]
) -> None:
    run = calls.run()
    _copy(fake_github, operation, mark(run), author="bob")
    if operation == "create_pull":
        fake_github.find(REPO).issues[2].state = "closed"
    made = calls.do(operation, run, **arguments)
    _copy(fake_github, operation, mark(run), author="alice")
    _copy(fake_github, operation, mark(run), author="bob")

    assert _number(calls.probe(operation, run, **arguments)) == _number(made)


@pytest.mark.parametrize(("operation", "arguments"), [CREATIONS[0], CREATIONS[2]], ids=[NAMES[0], NAMES[2]])
def test_what_the_credential_wrote_under_another_title_cannot_be_told(
    calls: GithubCalls, fake_github: FakeGithub, operation: str, arguments: dict[str, Any]
) -> None:
    run = calls.run()
    _copy(fake_github, operation, mark(run), author="alice", title="Renamed since")

    with pytest.raises(OperationFailed) as caught:
        calls.probe(operation, run, **arguments)

    assert caught.value.failure_code == "cannot_tell"


def test_who_asks_is_asked_for_only_when_a_mark_is_found(calls: GithubCalls, fake_github: FakeGithub) -> None:
    run = calls.run()
    calls.probe("create_issue", run, repo=REPO, title="Mine")
    before = fake_github.sent().count("GET /user")
    calls.do("create_issue", run, repo=REPO, title="Mine")
    calls.probe("create_issue", run, repo=REPO, title="Mine")
    calls.probe("create_issue", run, repo=REPO, title="Mine")

    assert (before, fake_github.sent().count("GET /user")) == (0, 1)


# -- repositories ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [5, 60, 110])
def test_a_repository_that_was_made_just_before_the_call_is_not_adopted(
    calls: GithubCalls, fake_github: FakeGithub, seconds: int
) -> None:
    run = calls.run()
    fake_github.repository("alice/near", {"a": "b"}, private=True, description="").created_at -= seconds

    with pytest.raises(OperationFailed) as caught:
        calls.probe("create_repo", run, name="near")

    assert (caught.value.failure_code, caught.value.failure_retryable) == ("cannot_tell", False)


def test_a_repository_from_no_template_is_not_taken_for_one_from_a_template(
    calls: GithubCalls, fake_github: FakeGithub
) -> None:
    run = calls.run()
    calls.do("create_repo", name="new")

    with pytest.raises(OperationFailed) as caught:
        calls.probe("create_repo_from_template", run, template="acme/tmpl", name="new")

    assert caught.value.failure_code == "cannot_tell"


@pytest.mark.parametrize("with_readme", [True, False])
def test_an_organizations_repository_by_somebody_else_is_not_adopted(
    fake_github: FakeGithub, calls: GithubCalls, with_readme: bool
) -> None:
    fake_github.organization("acme", members=["alice", "bob"])
    arguments = {"name": "new", "owner": "acme", "with_readme": with_readme}
    run = calls.run()
    with github_calls(fake_github.url, token=Secret(BOB_TOKEN)) as bobs:
        bobs.do("create_repo", **arguments)

    with pytest.raises(OperationFailed) as caught:
        calls.probe("create_repo", run, **arguments)

    assert (caught.value.failure_code, caught.value.failure_retryable) == ("cannot_tell", False)


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("create_repo", {"name": "new", "owner": "acme"}),
        ("create_repo_from_template", {"template": "acme/tmpl", "name": "new", "owner": "acme"}),
    ],
)
def test_an_organizations_repository_whose_answer_was_lost_is_found_by_its_first_commit(
    calls: GithubCalls, fake_github: FakeGithub, operation: str, arguments: dict[str, Any]
) -> None:
    fake_github.fail(bad_gateway(after=True).on("POST"))

    made = calls.do(operation, **arguments)

    assert made.repository.repo == "acme/new"
    assert [each.split()[0] for each in fake_github.sent()].count("POST") == 1


def test_a_repository_without_files_yet_is_worth_another_look() -> None:
    created = "2099-01-01T00:00:00Z"

    def answer(heard: Heard) -> Say:
        if heard.target == "/user":
            return Say(200, {"login": "alice"})
        if "/commits" in heard.target:
            return Say(409, {"message": "Git Repository is empty."})
        return Say(200, {"full_name": "acme/new", "created_at": created, "private": True, "description": ""})

    with scripted(answer) as server, github_calls(server.url) as calls, pytest.raises(OperationFailed) as caught:
        calls.probe("create_repo", calls.run(), name="new", owner="acme")

    assert (caught.value.failure_code, caught.value.failure_retryable) == ("cannot_tell", True)
