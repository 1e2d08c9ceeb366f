"""Pushing several files as one commit: all or nothing, and never over what somebody else has pushed."""

from collections.abc import Generator

import pytest
import requests

from tasks.operation import NOT_DONE
from tests.servers.github import ALICE_TOKEN, FakeGithub, populate
from tests.servers.github_faults import bad_gateway
from tests.servers.scripted_http import Heard, Say, scripted
from tests.tasks.github_calls import GithubCalls, filled, github_calls
from toolswarm.errors import OperationFailed

REPO = "alice/demo"


@pytest.fixture
def calls(fake_github: FakeGithub) -> Generator[GithubCalls, None, None]:
    with github_calls(fake_github.url) as opened:
        yield opened


def _head(github: FakeGithub, repo: str = REPO, branch: str = "main") -> str:
    return github.find(repo).git.refs[f"refs/heads/{branch}"]


def _writes(github: FakeGithub) -> list[str]:
    return [each for each in github.sent() if not each.startswith("GET ")]


def test_several_files_are_one_commit(calls: GithubCalls, fake_github: FakeGithub) -> None:
    before = _head(fake_github)
    run = calls.run()
    files = [
        {"path": "docs/new.md", "content": "# New\n"},
        {"path": "README.md", "content": "changed\n"},
        {"path": "src/app.py"},
        {"path": "x.bin", "content": "AP8=", "encoding": "base64"},
    ]

    pushed = calls.do("push_files", run, repo=REPO, branch="main", files=files, message="All at once")

    found = calls.do("get_commit", repo=REPO, ref=pushed.commit)
    assert (found.parents, pushed.files, run.effects_begun) == ([before], 4, 1)
    assert found.message == f"All at once\n\nToolswarm-Call: {run.call.id}"
    assert fake_github.content(REPO, "docs/new.md") == b"# New\n"
    assert fake_github.content(REPO, "x.bin") == b"\x00\xff"
    assert fake_github.content(REPO, "src/app.py") is None
    assert fake_github.content(REPO, "docs/guide.md") == b"Read me.\n"
    assert pushed.api_requests == 7


def test_a_branch_that_has_moved_is_left_alone(calls: GithubCalls, fake_github: FakeGithub) -> None:
    expected = _head(fake_github)
    theirs = fake_github.push(REPO, {"README.md": "theirs\n"})

    error = calls.failure(
        "push_files",
        repo=REPO,
        branch="main",
        files=[{"path": "a", "content": "b"}],
        message="m",
        expected_head=expected,
    )

    assert (error.failure_code, error.before_effect) == ("conflict", True)
    assert (error.details["argument"], error.details["head"]) == ("expected_head", theirs)
    assert error.message.count("expected_head") == 1
    assert _head(fake_github) == theirs
    assert _writes(fake_github) == []


def test_a_branch_is_never_moved_over_commits_that_it_does_not_have(
    calls: GithubCalls, fake_github: FakeGithub
) -> None:
    main = _head(fake_github)
    unreviewed = fake_github.push(REPO, {"evil.txt": "x"}, branch="unreviewed")

    error = calls.failure(
        "push_files",
        repo=REPO,
        branch="main",
        files=[{"path": "a", "content": "b"}],
        message="m",
        expected_head=unreviewed,
    )

    assert (error.failure_code, error.details["argument"]) == ("conflict", "expected_head")
    assert _head(fake_github) == main
    assert _writes(fake_github) == []


@pytest.mark.parametrize(("given", "argument"), [(True, "expected_head"), (False, "branch")])
def test_a_push_in_between_is_not_overwritten(given: bool, argument: str) -> None:
    with FakeGithub() as github:
        populate(github)
        before = _head(github)

        def forward(heard: Heard) -> Say:
            if heard.verb == "PATCH":
                github.push(REPO, {"README.md": "theirs\n"})
            sent = requests.request(
                heard.verb,
                github.url + heard.target,
                data=heard.body,
                headers={"Authorization": f"Bearer {ALICE_TOKEN}"},
                timeout=5,
            )
            return Say(sent.status_code, sent.json())

        with scripted(forward) as server, github_calls(server.url) as calls:
            error = calls.failure(
                "push_files",
                repo=REPO,
                branch="main",
                files=[{"path": "a", "content": "b"}],
                message="m",
                **({"expected_head": before} if given else {}),
            )

        assert (error.failure_code, error.details["argument"], error.before_effect) == ("conflict", argument, True)
        assert error.failure_retryable is not given
        assert github.content(REPO, "README.md") == b"theirs\n"
        assert github.content(REPO, "a") is None


@pytest.mark.parametrize(
    ("more", "requests_sent"),
    [({"branch": "main"}, 6), ({"branch": "main", "expected_head": "HEAD"}, 6), ({}, 7)],
)
def test_a_push_takes_as_many_requests_as_its_page_says(
    calls: GithubCalls, fake_github: FakeGithub, more: dict[str, str], requests_sent: int
) -> None:
    given = filled(more, "HEAD", _head(fake_github))

    pushed = calls.do("push_files", repo=REPO, files=[{"path": "a", "content": "b"}], message="m", **given)

    assert pushed.api_requests == len(fake_github.requests) == requests_sent
    assert (pushed.branch, pushed.untrusted) == ("main", True)


def test_an_expected_head_may_be_in_capitals(calls: GithubCalls, fake_github: FakeGithub) -> None:
    files = [{"path": "a", "content": "b", "executable": False}]

    pushed = calls.do(
        "push_files", repo=REPO, branch="main", files=files, message="m", expected_head=_head(fake_github).upper()
    )

    assert (_head(fake_github), pushed.api_requests) == (pushed.commit, 5)


def test_a_file_stays_executable_unless_it_is_said_otherwise(calls: GithubCalls, fake_github: FakeGithub) -> None:
    script = {"path": "run.sh", "content": "#!/bin/sh\n"}

    def pushed_mode(**more: object) -> str:
        calls.do("push_files", repo=REPO, branch="main", files=[script | more], message="m")
        entry = fake_github.find(REPO).git.find(_head(fake_github), "run.sh")
        assert entry is not None
        return entry.mode

    modes = [pushed_mode(), pushed_mode(executable=True), pushed_mode(), pushed_mode(executable=False)]

    assert modes == ["100644", "100755", "100755", "100644"]


def test_a_copied_message_is_not_taken_for_the_calls_own_commit(calls: GithubCalls, fake_github: FakeGithub) -> None:
    run = calls.run()
    arguments = {"repo": REPO, "branch": "main", "files": [{"path": "a", "content": "b"}], "message": "m"}
    copied = f"m\n\nToolswarm-Call: {run.call.id}"
    fake_github.push(REPO, {"a": "theirs"}, message=copied, by="bob")
    before = calls.probe("push_files", run, **arguments)
    pushed = calls.do("push_files", run, **arguments)
    fake_github.push(REPO, {"a": "picked"}, message=copied, by="alice")

    found = calls.probe("push_files", run, **arguments)

    assert before is NOT_DONE
    assert found.commit == pushed.commit


def test_a_branch_with_too_many_new_commits_to_tell_is_not_pushed_to_again(
    calls: GithubCalls, fake_github: FakeGithub
) -> None:
    run = calls.run()
    for number in range(1000):
        fake_github.push(REPO, {"count": str(number)})

    with pytest.raises(OperationFailed) as caught:
        calls.probe("push_files", run, repo=REPO, branch="main", files=[{"path": "a", "content": "b"}], message="m")

    assert caught.value.failure_code == "cannot_tell"


def test_the_effect_begins_only_when_the_branch_is_moved(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.fail(bad_gateway().on("POST", "/git/trees"))
    run = calls.run()

    error = calls.failure(
        "push_files", run, repo=REPO, branch="main", files=[{"path": "a", "content": "b"}], message="m"
    )

    assert (error.before_effect, error.in_doubt, error.failure_retryable) == (True, False, True)
    assert run.effects_begun == 0


def test_a_push_names_each_file_once_and_a_branch_that_is_there(calls: GithubCalls, fake_github: FakeGithub) -> None:
    twice = calls.failure("push_files", repo=REPO, files=[{"path": "a"}, {"path": "a", "content": "b"}], message="m")
    nowhere = calls.failure("push_files", repo=REPO, branch="none", files=[{"path": "a", "content": "b"}], message="m")

    assert (twice.failure_code, nowhere.failure_code) == ("path_refused", "not_found")
    assert _writes(fake_github) == []
