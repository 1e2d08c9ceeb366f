"""Pull requests: list, read, create, and merge exactly what was reviewed."""

from collections.abc import Generator

import pytest

from tasks.operation import NOT_DONE
from tests.servers.github import FakeGithub
from tests.servers.github_faults import Fault, bad_gateway, reset
from tests.tasks.github_calls import GithubCalls, github_calls

DEMO = "alice/demo"
NO_SHA = "0" * 40


@pytest.fixture
def calls(fake_github: FakeGithub) -> Generator[GithubCalls, None, None]:
    with github_calls(fake_github.url) as opened:
        yield opened
    assert fake_github.outside(DEMO) == []


@pytest.fixture
def head_sha(fake_github: FakeGithub) -> str:
    """The head of branch `fix`, from which pull request 2 comes."""
    sha = fake_github.push(DEMO, {"fix.txt": "fixed\n"}, branch="fix")
    fake_github.pull(DEMO, "Fix it", head="fix", author="bob")
    return sha


def test_a_pull_request_is_read_with_one_request(calls: GithubCalls, fake_github: FakeGithub, head_sha: str) -> None:
    pull = calls.do("get_pull", repo=DEMO, number=2)

    assert (pull.title, pull.state, pull.author, pull.head, pull.base) == ("Fix it", "open", "bob", "alice:fix", "main")
    assert (pull.head_sha, pull.mergeable, pull.changed_files, pull.untrusted) == (head_sha, True, 1, True)
    assert fake_github.sent() == ["GET /repos/alice/demo/pulls/2"]


@pytest.mark.usefixtures("head_sha")
def test_pull_requests_are_listed_by_state_and_branch(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.push(DEMO, {"more.txt": "more\n"}, branch="more")
    fake_github.pull(DEMO, "More", head="more")

    first = calls.do("list_pulls", repo=DEMO, limit=1)
    second = calls.do("list_pulls", repo=DEMO, limit=1, cursor=first.next_cursor)

    assert [each.number for each in (*first.pulls, *second.pulls)] == [3, 2]
    assert [each.number for each in calls.do("list_pulls", repo=DEMO, head="fix", base="main").pulls] == [2]
    assert calls.do("list_pulls", repo=DEMO, head="bob:fix").pulls == []
    assert calls.do("list_pulls", repo=DEMO, state="closed").pulls == []


@pytest.mark.parametrize("head", ["../../acme/tmpl", "a b", "-x", "fix&base=x?", "a/../b:fix", "HEAD", "x~1", ":"])
def test_a_branch_that_could_mean_something_else_is_never_sent(
    calls: GithubCalls, fake_github: FakeGithub, head: str
) -> None:
    listing = calls.failure("list_pulls", repo=DEMO, head=head)
    creation = calls.failure("create_pull", repo=DEMO, title="x", head=head, base="main")

    assert (listing.failure_code, creation.failure_code) == ("path_refused", "path_refused")
    assert fake_github.requests == []


def test_a_pull_request_is_created_with_the_mark_of_its_call(calls: GithubCalls, fake_github: FakeGithub) -> None:
    sha = fake_github.push(DEMO, {"new.txt": "new\n"}, branch="new")
    run = calls.run()

    made = calls.do("create_pull", run, repo=DEMO, title="New", head="new", base="main", body="Why", draft=True)

    assert (made.number, made.draft, made.head_sha, made.state) == (2, True, sha, "open")
    assert made.body == f"Why\n\n<!-- toolswarm:{run.call.id} -->"
    assert run.effects_begun == 1


@pytest.mark.usefixtures("head_sha")
def test_a_second_pull_request_between_two_branches_is_refused(calls: GithubCalls) -> None:
    error = calls.failure("create_pull", repo=DEMO, title="Again", head="fix", base="main")

    assert (error.failure_code, error.in_doubt) == ("already_exists", False)


@pytest.mark.usefixtures("head_sha")
def test_the_probe_does_not_take_somebody_elses_pull_request_for_its_own(calls: GithubCalls) -> None:
    found = calls.probe("create_pull", calls.run(), repo=DEMO, title="Fix it", head="fix", base="main")

    assert found is NOT_DONE


def test_of_40_pull_requests_under_lost_answers_each_is_there_exactly_once(
    calls: GithubCalls, fake_github: FakeGithub
) -> None:
    fake_github.seed(7)
    for lost in (bad_gateway(after=True), reset(after=True), bad_gateway(), reset()):
        fake_github.fail(lost.on("POST").always(0.15))

    for number in range(40):
        fake_github.push(DEMO, {f"{number}.txt": "x\n"}, branch=f"b{number}")
        made = calls.to_the_end("create_pull", repo=DEMO, title=f"Pull {number}", head=f"b{number}", base="main")
        assert made.title == f"Pull {number}"

    assert sorted(pull.head for pull in fake_github.find(DEMO).pulls.values()) == sorted(f"b{n}" for n in range(40))


def test_a_merge_of_the_reviewed_head_succeeds(calls: GithubCalls, fake_github: FakeGithub, head_sha: str) -> None:
    run = calls.run()

    merged = calls.do("merge_pull", run, repo=DEMO, number=2, head_sha=head_sha, commit_title="Fix it (#2)")

    assert (merged.head_sha, merged.was_merged_before, run.effects_begun) == (head_sha, False, 1)
    assert fake_github.find(DEMO).git.refs["refs/heads/main"] == merged.sha
    assert fake_github.content(DEMO, "fix.txt") == b"fixed\n"
    assert calls.do("get_pull", repo=DEMO, number=2).state == "merged"


def test_a_head_that_moved_on_is_a_conflict(calls: GithubCalls, fake_github: FakeGithub, head_sha: str) -> None:
    newer = fake_github.push(DEMO, {"fix.txt": "worse\n"}, branch="fix")

    error = calls.failure("merge_pull", repo=DEMO, number=2, head_sha=head_sha)

    assert (error.failure_code, error.details["status"], error.before_effect) == ("conflict", 409, True)
    assert fake_github.content(DEMO, "fix.txt") is None
    assert calls.do("get_pull", repo=DEMO, number=2).head_sha == newer


def test_a_pull_request_with_conflicts_is_not_mergeable(calls: GithubCalls, fake_github: FakeGithub) -> None:
    sha = fake_github.push(DEMO, {"README.md": "# One\n"}, branch="one")
    fake_github.push(DEMO, {"README.md": "# Another\n"})
    number = fake_github.pull(DEMO, "Conflicts", head="one").number

    error = calls.failure("merge_pull", repo=DEMO, number=number, head_sha=sha)

    assert (error.failure_code, error.details["status"], error.failure_retryable) == ("not_mergeable", 405, False)
    assert calls.do("get_pull", repo=DEMO, number=number).mergeable_state == "dirty"


def test_one_that_is_merged_already_at_this_head_counts_as_merged(calls: GithubCalls, head_sha: str) -> None:
    first = calls.do("merge_pull", repo=DEMO, number=2, head_sha=head_sha)

    again = calls.do("merge_pull", repo=DEMO, number=2, head_sha=head_sha)

    assert (again.was_merged_before, again.sha) == (True, first.sha)
    other = calls.failure("merge_pull", repo=DEMO, number=2, head_sha=NO_SHA)
    assert other.failure_code in ("not_mergeable", "conflict")


@pytest.mark.parametrize("lost", [bad_gateway(after=True), reset(after=True)])
def test_a_merge_whose_answer_was_lost_is_looked_for(
    calls: GithubCalls, fake_github: FakeGithub, head_sha: str, lost: Fault
) -> None:
    fake_github.fail(lost.on("PUT"))

    merged = calls.do("merge_pull", repo=DEMO, number=2, head_sha=head_sha)

    assert (merged.was_merged_before, merged.head_sha) == (True, head_sha)
    assert [request.method for request in fake_github.requests] == ["PUT", "GET"]


def test_the_probe_of_a_merge_knows_its_head(calls: GithubCalls, head_sha: str) -> None:
    before = calls.probe("merge_pull", calls.run(), repo=DEMO, number=2, head_sha=head_sha)
    calls.do("merge_pull", repo=DEMO, number=2, head_sha=head_sha)

    assert before is NOT_DONE
    assert calls.probe("merge_pull", calls.run(), repo=DEMO, number=2, head_sha=head_sha).was_merged_before
    assert calls.probe("merge_pull", calls.run(), repo=DEMO, number=2, head_sha=NO_SHA) is NOT_DONE


@pytest.mark.parametrize("sha", ["main", "6dcb09b", "../x", "g" * 40])
def test_a_merge_wants_a_whole_hash(calls: GithubCalls, fake_github: FakeGithub, sha: str) -> None:
    assert calls.failure("merge_pull", repo=DEMO, number=2, head_sha=sha).failure_code == "path_refused"
    assert fake_github.requests == []
