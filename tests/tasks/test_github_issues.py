"""Issues and comments: what is sent, what comes back, and that a lost answer never makes a second one."""

from collections.abc import Generator

import pytest

from tasks.github.marker import mark
from tasks.operation import NOT_DONE
from tests.servers.github import ALICE_TOKEN, FakeGithub
from tests.servers.github_faults import bad_gateway, hang, reset
from tests.tasks.github_calls import GithubCalls, github_calls

DEMO = "alice/demo"


@pytest.fixture
def calls(fake_github: FakeGithub) -> Generator[GithubCalls, None, None]:
    with github_calls(fake_github.url) as opened:
        yield opened
    assert fake_github.outside(DEMO) == []


def test_an_issue_is_read_with_one_request_and_marked_untrusted(calls: GithubCalls, fake_github: FakeGithub) -> None:
    issue = calls.do("get_issue", repo=DEMO, number=1)

    assert (issue.title, issue.body, issue.author, issue.labels) == (
        "Login fails",
        "It crashes on login.",
        "bob",
        ["bug"],
    )
    assert (issue.repo, issue.state, issue.is_pull_request, issue.untrusted) == (DEMO, "open", False, True)
    assert issue.full is None
    assert issue.api_requests == 1
    assert fake_github.sent() == ["GET /repos/alice/demo/issues/1"]


def test_full_brings_all_that_github_says(calls: GithubCalls) -> None:
    issue = calls.do("get_issue", repo=DEMO, number=1, full=True)

    assert issue.full["node_id"]
    assert issue.full["user"]["login"] == "bob"


def test_an_issue_that_is_not_there_is_not_found(calls: GithubCalls) -> None:
    assert calls.failure("get_issue", repo=DEMO, number=99).failure_code == "not_found"


def test_a_long_list_comes_in_pages_with_one_request_each(calls: GithubCalls, fake_github: FakeGithub) -> None:
    for number in range(2, 6):
        fake_github.issue(DEMO, f"Issue {number}")
    fake_github.forget()

    first = calls.do("list_issues", repo=DEMO, limit=2)
    second = calls.do("list_issues", repo=DEMO, limit=2, cursor=first.next_cursor)
    third = calls.do("list_issues", repo=DEMO, limit=2, cursor=second.next_cursor)

    assert [issue.number for page in (first, second, third) for issue in page.issues] == [5, 4, 3, 2, 1]
    assert third.next_cursor is None
    assert len(fake_github.requests) == 3


def test_a_cursor_of_another_list_is_refused(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.issue(DEMO, "Another")
    cursor = calls.do("list_issues", repo=DEMO, limit=1).next_cursor
    fake_github.forget()

    error = calls.failure("list_issues", repo=DEMO, state="closed", limit=1, cursor=cursor)

    assert error.failure_code == "cursor_refused"
    assert fake_github.requests == []


def test_issues_are_listed_by_label_author_and_assignee(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.issue(DEMO, "Assigned", assignees=["bob"], labels=["docs", "bug"])

    assert [each.number for each in calls.do("list_issues", repo=DEMO, labels=["bug", "docs"]).issues] == [2]
    assert [each.number for each in calls.do("list_issues", repo=DEMO, author="@bob").issues] == [1]
    assert [each.number for each in calls.do("list_issues", repo=DEMO, assignee="bob").issues] == [2]


def test_pull_requests_are_listed_among_issues_only_when_wanted(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.push(DEMO, {"new.txt": "new\n"}, branch="new")
    fake_github.pull(DEMO, "A pull request", head="new")

    assert [each.number for each in calls.do("list_issues", repo=DEMO).issues] == [1]
    listed = calls.do("list_issues", repo=DEMO, pull_requests=True).issues
    assert [(each.number, each.is_pull_request) for each in listed] == [(2, True), (1, False)]


@pytest.mark.parametrize(
    "arguments",
    [
        {"labels": ["bug,docs"]},
        {"labels": [" "]},
        {"author": "a/../b"},
        {"author": "bob&state=all"},
        {"assignee": "x y"},
    ],
)
def test_an_argument_that_would_mean_something_else_is_never_sent(
    calls: GithubCalls, fake_github: FakeGithub, arguments: dict[str, object]
) -> None:
    error = calls.failure("list_issues", repo=DEMO, **arguments)

    assert error.failure_code in ("invalid_arguments", "path_refused")
    assert fake_github.requests == []


def test_a_created_issue_bears_the_mark_of_its_call(calls: GithubCalls, fake_github: FakeGithub) -> None:
    run = calls.run()

    made = calls.do("create_issue", run, repo=DEMO, title="Crash", body="Steps", labels=["bug"], assignees=["bob"])

    assert (made.number, made.title, made.labels, made.assignees) == (2, "Crash", ["bug"], ["bob"])
    assert fake_github.find(DEMO).issues[2].body == f"Steps\n\n<!-- toolswarm:{run.call.id} -->"
    assert made.body.endswith(mark(run))
    assert (run.effects_begun, made.api_requests) == (1, 1)


def test_a_text_too_long_for_its_mark_is_refused_before_anything_is_sent(
    calls: GithubCalls, fake_github: FakeGithub
) -> None:
    error = calls.failure("create_issue", repo=DEMO, title="Long", body="x" * 65_500)

    assert (error.failure_code, error.before_effect) == ("too_large", True)
    assert fake_github.requests == []


def test_an_issue_without_a_title_is_refused(calls: GithubCalls) -> None:
    assert calls.failure("create_issue", repo=DEMO, title="  ").failure_code == "invalid_arguments"


def test_a_lost_answer_is_looked_for_and_not_created_again(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.fail(bad_gateway(after=True).on("POST"))
    run = calls.run()

    made = calls.do("create_issue", run, repo=DEMO, title="Once")

    assert made.number == 2
    assert [request.method for request in fake_github.requests] == ["POST", "GET", "GET"]
    assert fake_github.sent()[-1] == "GET /user"
    assert len(fake_github.find(DEMO).issues) == 2


def test_a_creation_that_github_never_saw_is_in_doubt_and_the_probe_says_so(
    calls: GithubCalls, fake_github: FakeGithub
) -> None:
    fake_github.fail(bad_gateway().on("POST"))
    run = calls.run()

    error = calls.failure("create_issue", run, repo=DEMO, title="Lost")

    assert (error.in_doubt, error.failure_retryable, error.before_effect) == (True, True, False)
    assert [request.method for request in fake_github.requests].count("POST") == 1
    assert calls.probe("create_issue", run, repo=DEMO, title="Lost") is NOT_DONE


def test_the_probe_tells_the_calls_own_issue_from_one_that_looks_alike(
    calls: GithubCalls, fake_github: FakeGithub
) -> None:
    mine, other = calls.run(), calls.run()
    calls.do("create_issue", other, repo=DEMO, title="Same", body="Same")
    fake_github.fail(hang(after=True).on("POST"))
    with github_calls(fake_github.url, timeout_s=0.5) as hasty:
        made = hasty.do("create_issue", mine, repo=DEMO, title="Same", body="Same")

    found = calls.probe("create_issue", mine, repo=DEMO, title="Same", body="Same")

    assert (made.number, found.number) == (3, 3)
    assert calls.probe("create_issue", calls.run(), repo=DEMO, title="Same", body="Same") is NOT_DONE


def test_an_issue_is_found_however_many_came_after_it(calls: GithubCalls, fake_github: FakeGithub) -> None:
    run = calls.run()
    calls.do("create_issue", run, repo=DEMO, title="Early")
    for number in range(130):
        fake_github.issue(DEMO, f"Later {number}")

    assert calls.probe("create_issue", run, repo=DEMO, title="Early").number == 2


def test_what_is_left_out_of_a_change_stays(calls: GithubCalls, fake_github: FakeGithub) -> None:
    changed = calls.do("update_issue", repo=DEMO, number=1, state="closed", state_reason="not_planned")

    assert (changed.title, changed.labels, changed.state, changed.state_reason) == (
        "Login fails",
        ["bug"],
        "closed",
        "not_planned",
    )
    assert calls.do("update_issue", repo=DEMO, number=1, labels=[]).labels == []
    assert fake_github.find(DEMO).issues[1].body == "It crashes on login."


def test_a_change_of_nothing_is_refused(calls: GithubCalls, fake_github: FakeGithub) -> None:
    assert (
        calls.failure("update_issue", repo=DEMO, number=1, state_reason="completed").failure_code == "invalid_arguments"
    )
    assert fake_github.requests == []


def test_a_comment_is_created_listed_and_changed(calls: GithubCalls) -> None:
    made = calls.do("create_comment", repo=DEMO, number=1, body="Me too")
    changed = calls.do("update_comment", repo=DEMO, comment_id=made.comment.id, body="Not me")

    listed = calls.do("list_comments", repo=DEMO, number=1)

    assert [(each.id, each.author, each.body) for each in listed.comments] == [(made.comment.id, "alice", "Not me")]
    assert (changed.number, listed.untrusted, listed.next_cursor) == (1, True, None)


def test_comments_come_in_pages_the_oldest_first(calls: GithubCalls, fake_github: FakeGithub) -> None:
    for number in range(5):
        fake_github.comment(DEMO, 1, f"Comment {number}")

    first = calls.do("list_comments", repo=DEMO, number=1, limit=3)
    second = calls.do("list_comments", repo=DEMO, number=1, limit=3, cursor=first.next_cursor)

    assert [each.body[-1] for each in (*first.comments, *second.comments)] == ["0", "1", "2", "3", "4"]
    assert second.next_cursor is None


def test_a_quoted_copy_of_a_comment_is_not_taken_for_it(calls: GithubCalls, fake_github: FakeGithub) -> None:
    run = calls.run()
    made = calls.do("create_comment", run, repo=DEMO, number=1, body="First")
    fake_github.comment(DEMO, 1, f"> {made.comment.body}", author="bob")

    found = calls.probe("create_comment", run, repo=DEMO, number=1, body="First")

    assert found.comment.id == made.comment.id


def test_of_200_creations_under_lost_answers_each_is_there_exactly_once(
    calls: GithubCalls, fake_github: FakeGithub
) -> None:
    fake_github.seed(20261122)
    for lost in (bad_gateway(after=True), reset(after=True), bad_gateway(), reset()):
        fake_github.fail(lost.on("POST").always(0.12))

    for number in range(100):
        assert calls.to_the_end("create_issue", repo=DEMO, title=f"Issue {number}").title == f"Issue {number}"
        said = calls.to_the_end("create_comment", repo=DEMO, number=number + 2, body=f"Comment {number}").comment.body
        assert said.startswith(f"Comment {number}\n")

    demo = fake_github.find(DEMO)
    assert sorted(issue.title for issue in demo.issues.values()) == sorted(
        ["Login fails", *(f"Issue {number}" for number in range(100))]
    )
    assert sorted(comment.body.partition("\n")[0] for comment in demo.comments.values()) == sorted(
        f"Comment {number}" for number in range(100)
    )
    failed = [request for request in fake_github.requests if request.method == "POST" and request.status != 201]
    assert len(failed) > 50
    assert fake_github.used(ALICE_TOKEN) > 0
