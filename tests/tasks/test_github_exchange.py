"""What is sent to GitHub and what is not, whatever it answers."""

import gzip
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

from store.sections import Secret
from tasks.github.failures import InDoubt
from tasks.operation import Postponed
from tests.servers.scripted_http import Heard, Say, ScriptedHttp, scripted
from tests.servers.sshd import free_port
from tests.servers.waiting import until
from tests.tasks.github_calls import GithubCalls, github_calls
from toolswarm.errors import OperationFailed

SHA = "a" * 40
COMMIT = {"sha": SHA, "commit": {"message": "m"}}
REF = {"ref": "refs/heads/x", "object": {"sha": SHA, "type": "commit"}}
JSON = {"Content-Type": "application/json"}


class Script:
    """Answers in turn; the last one again and again."""

    def __init__(self, *answers: Say) -> None:
        self.answers = list(answers)

    def __call__(self, heard: Heard) -> Say:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def server() -> Generator[ScriptedHttp, None, None]:
    with scripted(Script(Say(200, {}))) as running:
        yield running


@pytest.fixture
def calls(server: ScriptedHttp) -> Generator[GithubCalls, None, None]:
    with github_calls(server.url) as opened:
        yield opened


def _create_branch(calls: GithubCalls, **arguments: Any) -> OperationFailed:
    return calls.failure("create_branch", repo="a/b", branch="x", from_ref=SHA, **arguments)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_read_is_tried_three_times_in_all(calls: GithubCalls, server: ScriptedHttp, status: int) -> None:
    server.answer = Script(Say(status, b"<html>"))

    error = calls.failure("get_commit", repo="a/b", ref="main")

    assert (error.failure_code, error.failure_retryable, error.before_effect) == ("upstream_failed", True, True)
    assert len(server.heard) == 3


def test_a_failing_github_that_names_a_time_is_not_asked_before_it(calls: GithubCalls, server: ScriptedHttp) -> None:
    server.answer = Script(Say(503, {"message": "busy"}, headers={"Retry-After": "60"}))

    error = calls.failure("get_repo", repo="a/b")

    assert (error.failure_code, error.failure_retryable, error.details["retry_after_s"]) == (
        "upstream_failed",
        True,
        60,
    )
    assert len(server.asked) == 1


@pytest.mark.parametrize("bad", [Say(502), Say(reset=True), Say(200, b"{", promised_bytes=90), Say(202, {})])
def test_a_read_that_works_the_second_time_is_answered(calls: GithubCalls, server: ScriptedHttp, bad: Say) -> None:
    server.answer = Script(bad, Say(200, [COMMIT]), Say(201, REF))

    made = calls.do("create_branch", repo="a/b", branch="x")

    assert (made.sha, made.api_requests) == (SHA, 3)


@pytest.mark.parametrize(
    "bad", [Say(502), Say(500, {"message": "?"}), Say(reset=True), Say(201, b"{", promised_bytes=90)]
)
def test_a_write_is_never_sent_twice_but_looked_for(calls: GithubCalls, server: ScriptedHttp, bad: Say) -> None:
    server.answer = Script(bad, Say(404, {"message": "Not Found"}))

    error = _create_branch(calls)

    assert isinstance(error, InDoubt)
    assert (error.in_doubt, error.failure_retryable, error.before_effect) == (True, True, False)
    assert server.asked == ["POST /repos/a/b/git/refs", "GET /repos/a/b/git/ref/heads/x"]


@pytest.mark.parametrize("bad", [Say(502), Say(reset=True), Say(201, b"<html>"), Say(201, {"ref": 7})])
def test_a_write_whose_answer_was_lost_is_answered_by_looking(
    calls: GithubCalls, server: ScriptedHttp, bad: Say
) -> None:
    server.answer = Script(bad, Say(200, REF))

    made = calls.do("create_branch", repo="a/b", branch="x", from_ref=SHA)

    assert (made.sha, made.api_requests) == (SHA, 2)
    assert [heard.verb for heard in server.heard] == ["POST", "GET"]


def test_a_write_that_cannot_be_looked_for_stays_in_doubt(calls: GithubCalls, server: ScriptedHttp) -> None:
    server.answer = Script(Say(502))

    error = _create_branch(calls)

    assert error.in_doubt
    assert [heard.verb for heard in server.heard] == ["POST", "GET", "GET", "GET"]


def test_a_write_to_a_github_that_is_not_there_changed_nothing() -> None:
    with github_calls(f"http://127.0.0.1:{free_port()}") as calls:
        error = _create_branch(calls)

    assert (error.failure_code, error.before_effect, error.in_doubt) == ("upstream_unreachable", True, False)


def test_the_effect_begins_right_before_the_first_write_and_once(calls: GithubCalls, server: ScriptedHttp) -> None:
    run = calls.run()
    begun: list[tuple[str, int]] = []

    def answer(heard: Heard) -> Say:
        begun.append((heard.verb, run.effects_begun))
        return Say(200, [COMMIT]) if heard.verb == "GET" else Say(201, REF)

    server.answer = answer
    calls.do("create_branch", run, repo="a/b", branch="x")

    assert begun == [("GET", 0), ("POST", 1)]


def test_nothing_is_written_by_an_attempt_that_has_lost_its_lease(calls: GithubCalls, server: ScriptedHttp) -> None:
    run = calls.run()
    run.lost = RuntimeError("another attempt holds the call")

    with pytest.raises((RuntimeError, OperationFailed)):
        calls.do("create_branch", run, repo="a/b", branch="x", from_ref=SHA)

    assert server.heard == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_renamed_repository_is_read_at_its_new_place(calls: GithubCalls, server: ScriptedHttp, status: int) -> None:
    server.answer = Script(
        Say(status, headers={"Location": f"{server.url}/repositories/7/commits?per_page=1"}), Say(200, [])
    )

    found = calls.do("list_commits", repo="a/b")

    assert found.commits == []
    assert server.asked[1] == "GET /repositories/7/commits?per_page=1"


def test_the_token_does_not_cross_to_another_host(calls: GithubCalls, server: ScriptedHttp) -> None:
    with scripted(Script(Say(200, []))) as other:
        for location in (f"{other.url}/repos/a/b/commits", f"//127.0.0.1:{other.server_address[1]}/x", "ftp://x/y"):
            server.answer = Script(Say(301, headers={"Location": location}))
            error = calls.failure("list_commits", repo="a/b")
            assert (error.failure_code, error.details["reason"]) == ("upstream_failed", "foreign_link")

        assert other.heard == []


def test_a_next_page_on_another_host_is_not_followed(calls: GithubCalls, server: ScriptedHttp) -> None:
    with scripted(Script(Say(200, []))) as other:
        server.answer = Script(Say(200, [], {"Link": f'<{other.url}/next?page=2>; rel="next"'}))
        first = calls.do("list_branches", repo="a/b", limit=7)
        calls.do("list_branches", repo="a/b", limit=7, cursor=first.next_cursor)

        assert other.heard == []
    assert server.asked[1] == "GET /repos/a/b/branches?page=2&per_page=7"


def test_endless_redirects_and_endless_202_end(calls: GithubCalls, server: ScriptedHttp) -> None:
    server.answer = Script(Say(301, headers={"Location": "/repos/a/b/commits"}))
    moved = calls.failure("list_commits", repo="a/b")
    count = len(server.heard)

    server.answer = Script(Say(202, {}))
    not_ready = calls.failure("list_commits", repo="a/b")

    assert (moved.failure_code, count) == ("moved", 4)
    assert (not_ready.failure_code, not_ready.failure_retryable) == ("not_ready", True)
    assert len(server.heard) - count == 3


def test_a_write_to_a_renamed_repository_is_not_redirected(calls: GithubCalls, server: ScriptedHttp) -> None:
    server.answer = Script(Say(307, headers={"Location": "/repositories/7/git/refs"}))

    error = _create_branch(calls)

    assert (error.failure_code, error.before_effect) == ("moved", True)
    assert len(server.heard) == 1


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_without_bounds_is_not_read_to_its_end(server: ScriptedHttp, packed: bool) -> None:
    body = b" " * 3_000_000
    headers = {"Content-Encoding": "gzip"} if packed else {}
    server.answer = Script(Say(200, gzip.compress(body) if packed else body, headers))

    with github_calls(server.url, max_answer_bytes=1_000_000) as calls:
        error = calls.failure("list_commits", repo="a/b")

    assert (error.failure_code, error.details["limit_bytes"]) == ("answer_too_large", 1_000_000)


def test_a_call_ends_with_its_time_however_long_github_may_be_silent(server: ScriptedHttp) -> None:
    over = threading.Event()
    server.answer = Script(Say(200, [], until=over))

    with github_calls(server.url, timeout_s=30.0) as calls:
        began = time.monotonic()
        error = calls.failure("list_commits", calls.run(limit_s=0.6), repo="a/b")
        took_s = time.monotonic() - began
        over.set()

    assert error.failure_code in ("upstream_unreachable", "time_limit")
    assert took_s < 3


def test_a_call_that_is_stopped_sends_nothing_more(calls: GithubCalls, server: ScriptedHttp) -> None:
    run = calls.run()
    server.answer = Script(Say(502))
    failed: list[OperationFailed] = []
    thread = threading.Thread(target=lambda: failed.append(calls.failure("list_commits", run, repo="a/b")))

    thread.start()
    until(lambda: server.heard, "the first request came")
    run.stop = True
    thread.join()

    assert failed[0].failure_code == "stopped"
    assert len(server.heard) < 3


@pytest.mark.parametrize(
    ("status", "body", "headers", "code"),
    [
        (409, {"message": "Git Repository is empty."}, {}, "conflict"),
        (410, {"message": "Gone"}, {}, "not_found"),
        (422, {"message": "Reference already exists"}, {}, "already_exists"),
        (
            422,
            {"message": "Validation Failed", "errors": [{"field": "name", "code": "missing"}]},
            {},
            "upstream_refused",
        ),
        (401, {"message": "Bad credentials"}, {}, "authentication"),
        (451, {"message": "Blocked"}, {}, "permission"),
    ],
)
def test_a_refused_write_changed_nothing(
    calls: GithubCalls, server: ScriptedHttp, status: int, body: Any, headers: dict[str, str], code: str
) -> None:
    server.answer = Script(Say(status, body, headers))

    error = _create_branch(calls)

    assert (error.failure_code, error.before_effect, error.in_doubt) == (code, True, False)
    assert len(server.heard) == 1


def test_a_rate_limited_write_comes_again_later(calls: GithubCalls, server: ScriptedHttp) -> None:
    server.answer = Script(Say(403, {"message": "You have exceeded a secondary rate limit."}, {"Retry-After": "9"}))

    with pytest.raises(Postponed) as caught:
        calls.do("create_branch", repo="a/b", branch="x", from_ref=SHA)

    assert caught.value.delay_s >= 9
    assert len(server.heard) == 1


def test_a_token_is_sent_as_a_header_and_nowhere_else(server: ScriptedHttp) -> None:
    token = "ghp_very_secret"
    server.answer = Script(Say(500, {"message": token}))

    with github_calls(server.url, token=Secret(token)) as calls:
        error = calls.failure("list_commits", repo="a/b")

    assert {heard.headers["authorization"] for heard in server.heard} == {f"Bearer {token}"}
    assert all(token not in heard.target for heard in server.heard)
    assert token not in error.message


def test_hidden_dots_in_a_url_are_refused_before_it_is_sent(calls: GithubCalls, server: ScriptedHttp) -> None:
    for path in ("/repos/a/b/../../c/d", "/repos/a/b/%2e%2e/%2E%2E/c/d", "/repos/./a", "/repos/a\\..\\b"):
        with calls.clients.for_call(calls.run()) as github, pytest.raises(OperationFailed) as caught:
            github.json("GET", path)
        assert caught.value.failure_code == "path_refused"

    assert server.heard == []


def test_another_base_url_has_its_path_before_every_request(server: ScriptedHttp) -> None:
    server.answer = Script(Say(200, []))

    with github_calls(f"{server.url}/api/v3/") as calls:
        calls.do("list_commits", repo="a/b")
        server.answer = Script(Say(301, headers={"Location": f"{server.url}/elsewhere"}))
        error = calls.failure("list_commits", repo="a/b")

    assert server.asked[0].startswith("GET /api/v3/repos/a/b/commits")
    assert error.details["reason"] == "foreign_link"
