"""Creations whose answers get lost: each is done once, and found again."""

from collections.abc import Generator
from typing import Any

import pytest

from tasks.operation import NOT_DONE
from tests.servers.github import FakeGithub
from tests.servers.github_faults import Fault, bad_gateway, reset
from tests.tasks.github_calls import GithubCalls, filled, github_calls
from toolswarm.errors import OperationFailed

REPO = "alice/demo"


@pytest.fixture
def calls(fake_github: FakeGithub) -> Generator[GithubCalls, None, None]:
    with github_calls(fake_github.url) as opened:
        yield opened


def _writes(github: FakeGithub) -> list[str]:
    return [each for each in github.sent() if not each.startswith("GET ")]


CREATIONS: list[tuple[str, dict[str, Any]]] = [
    ("create_branch", {"repo": REPO, "branch": "new-{n}", "from_ref": "main"}),
    ("put_file", {"repo": REPO, "path": "new-{n}.txt", "content": "{n}", "message": "m"}),
    ("push_files", {"repo": REPO, "branch": "main", "files": [{"path": "p-{n}", "content": "{n}"}], "message": "m"}),
    ("create_repo", {"name": "new-{n}"}),
    ("create_repo_from_template", {"template": "acme/tmpl", "name": "new-{n}"}),
]
LOST: list[Fault] = [
    bad_gateway(after=True),
    reset(after=True),
    Fault(kind="truncate"),
    Fault(kind="garbage", after=True),
    Fault(kind="endless", after=True),
    Fault(kind="bomb", after=True),
]


def _numbered(arguments: dict[str, Any], number: int) -> dict[str, Any]:
    numbered: dict[str, Any] = filled(arguments, "{n}", str(number))
    return numbered


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: fault.kind)
@pytest.mark.parametrize(("operation", "arguments"), CREATIONS, ids=[name for name, _ in CREATIONS])
def test_a_creation_whose_answer_was_lost_is_found_and_not_repeated(
    calls: GithubCalls, fake_github: FakeGithub, operation: str, arguments: dict[str, Any], fault: Fault
) -> None:
    last = {"push_files": "PATCH", "put_file": "PUT"}.get(operation, "POST")
    fake_github.fail(fault.on(last))

    made = calls.do(operation, **_numbered(arguments, 1))

    assert made.api_requests == len(fake_github.requests)
    assert [each.split()[0] for each in _writes(fake_github)].count(last) == 1


@pytest.mark.parametrize(("operation", "arguments"), CREATIONS, ids=[name for name, _ in CREATIONS])
def test_a_probe_finds_what_a_lost_attempt_has_done_and_nothing_before(
    calls: GithubCalls, fake_github: FakeGithub, operation: str, arguments: dict[str, Any]
) -> None:
    run = calls.run()
    numbered = _numbered(arguments, 1)
    before = calls.probe(operation, run, **numbered)
    calls.do(operation, run, **numbered)
    fake_github.forget()

    after = calls.probe(operation, run, **numbered)

    assert before is NOT_DONE
    assert after is not NOT_DONE
    assert _writes(fake_github) == []


def test_a_removal_whose_answer_was_lost_is_found(calls: GithubCalls, fake_github: FakeGithub) -> None:
    run = calls.run()
    sha = calls.do("get_contents", repo=REPO, path="README.md").sha
    arguments = {"repo": REPO, "path": "README.md", "message": "m", "expected_sha": sha}
    before = calls.probe("delete_file", run, **arguments)
    fake_github.fail(bad_gateway(after=True).on("DELETE"))

    gone = calls.do("delete_file", run, **arguments)
    after = calls.probe("delete_file", run, **arguments)

    assert before is NOT_DONE
    assert (gone.commit, after.path) == (None, "README.md")
    assert [each.split()[0] for each in _writes(fake_github)] == ["DELETE"]


def test_two_hundred_creations_under_faults_are_two_hundred_commits(
    calls: GithubCalls, fake_github: FakeGithub
) -> None:
    fake_github.seed(7)
    fake_github.fail(
        bad_gateway(after=True).on("POST|PUT|PATCH").always(0.15),
        reset(after=True).on("POST|PUT|PATCH").always(0.1),
        reset().on("POST|PUT|PATCH").always(0.1),
        bad_gateway().on("POST|PUT|PATCH").always(0.05),
    )

    for number in range(200):
        operation, arguments = CREATIONS[(1, 1, 1, 2)[number % 4]]
        calls.to_the_end(operation, **_numbered(arguments, number))

    fake_github.heal()
    commits: list[str] = []
    cursor: str | None = None
    while True:
        page = calls.do("list_commits", repo=REPO, limit=100, cursor=cursor)
        commits += [commit.sha for commit in page.commits]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert len(commits) == 201


def test_repositories_and_branches_under_faults_are_made_once_each(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.seed(11)
    fake_github.fail(
        bad_gateway(after=True).on("POST").always(0.3),
        reset(after=True).on("POST").always(0.2),
        reset().on("POST").always(0.1),
    )

    for number in range(20):
        for operation, arguments in (CREATIONS[0], CREATIONS[3]):
            calls.to_the_end(operation, **_numbered(arguments, number))

    refs = [name for name in fake_github.find(REPO).git.refs if "new-" in name]
    assert len(refs) == 20
    assert all(fake_github.find(f"alice/new-{number}") for number in range(20))


def test_a_probe_that_finds_another_state_cannot_tell(calls: GithubCalls, fake_github: FakeGithub) -> None:
    run = calls.run()
    fake_github.push(REPO, {"new-1.txt": "somebody else's"})
    calls.do("create_branch", repo=REPO, branch="new-1")
    fake_github.push(REPO, {"z": "z"}, branch="new-1")

    for operation, arguments in CREATIONS[:2]:
        with pytest.raises(OperationFailed) as caught:
            calls.probe(operation, run, **_numbered(arguments, 1))
        assert caught.value.failure_code == "cannot_tell"


def test_a_repository_of_the_name_that_is_not_the_calls_is_told_apart(
    calls: GithubCalls, fake_github: FakeGithub
) -> None:
    run = calls.run()
    fake_github.repository("alice/old", {"a": "b"}, private=True).created_at -= 1000
    fake_github.repository("alice/other", {"a": "b"}, private=False)

    old = calls.probe("create_repo", run, name="old")
    with pytest.raises(OperationFailed) as caught:
        calls.probe("create_repo", run, name="other")

    assert old is NOT_DONE
    assert caught.value.failure_code == "cannot_tell"
