"""Batches: ordered, checked as a whole before anything is done, partial when they must be, and never done twice."""

from collections.abc import Generator
from typing import Any
from uuid import RFC_4122, UUID

import msgspec
import pytest

from tasks.github import TOOL
from tasks.github.part_run import part_id
from tasks.operation import NOT_DONE, Postponed
from tests.servers.github import FakeGithub
from tests.servers.github_faults import bad_gateway, primary, reset
from tests.tasks.github_calls import GithubCalls, github_calls
from tests.tasks.looped_run import LoopedRun
from toolswarm.errors import OperationFailed
from toolswarm.ids import new_call_id
from toolswarm.messages import Context, Effect

DEMO = "alice/demo"


@pytest.fixture
def calls(fake_github: FakeGithub) -> Generator[GithubCalls, None, None]:
    with github_calls(fake_github.url) as opened:
        yield opened


def _operation(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"operation": name, "arguments": arguments}


def _read(number: int) -> dict[str, Any]:
    return _operation("get_issue", repo=DEMO, number=number)


def _create(title: str) -> dict[str, Any]:
    return _operation("create_issue", repo=DEMO, title=title)


def _statuses(result: Any) -> list[str]:
    return [item.status for item in result.items]


def test_reads_come_in_order_and_one_that_fails_spoils_nothing(calls: GithubCalls) -> None:
    run = calls.run()

    result = calls.do("batch", run, operations=[_operation("get_repo", repo=DEMO), _read(99), _read(1)])

    assert _statuses(result) == ["succeeded", "failed", "succeeded"]
    assert [item.operation for item in result.items] == ["get_repo", "get_issue", "get_issue"]
    assert (result.items[0].value["repo"], result.items[2].value["title"]) == (DEMO, "Login fails")
    assert (result.items[1].error.code, result.items[1].value) == ("not_found", None)
    assert (result.succeeded, result.failed, result.not_run, result.untrusted) == (2, 1, 0, True)
    assert [told["done"] for told in run.told] == [1, 2, 3]
    assert run.effects_begun == 0


def test_no_file_is_changed_twice_in_a_batch(calls: GithubCalls, fake_github: FakeGithub) -> None:
    put = _operation("put_file", repo=DEMO, path="a", content="b", message="m")
    push = _operation("push_files", repo=DEMO, files=[{"path": "c"}, {"path": "a", "content": "d"}], message="m")

    error = calls.failure("batch_changes", operations=[put, push])

    assert (error.failure_code, error.details["index"]) == ("invalid_arguments", 1)
    assert fake_github.requests == []


def test_the_first_failure_ends_it_when_that_is_wanted(calls: GithubCalls, fake_github: FakeGithub) -> None:
    result = calls.do("batch", operations=[_read(1), _read(99), _read(1)], stop_on_error=True)

    assert _statuses(result) == ["succeeded", "failed", "not_run"]
    assert result.items[2].error.code == "earlier_failed"
    assert len(fake_github.requests) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        _create("not a read"),
        _operation("batch", operations=[]),
        _operation("desktop.read_file", path="x"),
        _operation("get_issue", repo=DEMO),
        _operation("get_issue", repo=DEMO, number="one"),
        _operation("get_issue", repo=DEMO, number=1, extra=True),
    ],
)
def test_all_of_it_is_checked_before_anything_is_done(
    calls: GithubCalls, fake_github: FakeGithub, wrong: dict[str, Any]
) -> None:
    error = calls.failure("batch", operations=[_read(1), wrong])

    assert (error.failure_code, error.before_effect, error.details["index"]) == ("invalid_arguments", True, 1)
    assert fake_github.requests == []


def test_a_batch_takes_missing_arguments_from_the_context(calls: GithubCalls) -> None:
    run = calls.run()
    run.call = msgspec.structs.replace(run.call, context=Context(repo=DEMO))

    result = calls.do("batch", run, operations=[_operation("github.get_issue", number=1)])

    assert _statuses(result) == ["succeeded"]


def test_a_rate_limit_in_the_middle_leaves_what_was_read(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.fail(primary(reset_in_s=90).on(path="issues/1/comments"))
    comments = _operation("list_comments", repo=DEMO, number=1)

    result = calls.do("batch", operations=[_read(1), comments, _read(1)])

    assert _statuses(result) == ["succeeded", "not_run", "not_run"]
    assert [item.error.code for item in result.items[1:]] == ["rate_limited", "rate_limited"]
    assert result.retry_after_s == pytest.approx(90, abs=15)


def test_a_rate_limit_at_the_start_postpones_the_whole_batch(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.fail(primary(reset_in_s=90))

    with pytest.raises(Postponed):
        calls.do("batch", operations=[_read(1), _read(1)])


def test_without_time_nothing_new_is_begun(calls: GithubCalls, fake_github: FakeGithub) -> None:
    result = calls.do("batch", calls.run(limit_s=1.0), operations=[_read(1), _read(1)])

    assert _statuses(result) == ["not_run", "not_run"]
    assert result.items[0].error.code == "time_limit"
    assert fake_github.requests == []


def test_an_answer_that_gets_too_long_ends_the_batch(calls: GithubCalls, fake_github: FakeGithub) -> None:
    for _ in range(20):
        fake_github.comment(DEMO, 1, "x" * 60_000)

    result = calls.do("batch", operations=[_operation("list_comments", repo=DEMO, number=1), _read(1)])

    assert _statuses(result) == ["succeeded", "not_run"]
    assert result.items[1].error.code == "answer_too_large"


def test_changes_are_done_in_order_each_with_a_mark_of_its_own(calls: GithubCalls, fake_github: FakeGithub) -> None:
    run = calls.run()
    comment = _operation("create_comment", repo=DEMO, number=2, body="Mine")
    close = _operation("update_issue", repo=DEMO, number=2, state="closed")

    result = calls.do("batch_changes", run, operations=[_create("First"), comment, close, _read(2)])

    assert _statuses(result) == ["succeeded"] * 4
    assert result.items[3].value["state"] == "closed"
    demo = fake_github.find(DEMO)
    assert demo.issues[2].body == f"<!-- toolswarm:{part_id(run.call.id, 0)} -->"
    assert [each.body for each in demo.comments.values()] == [f"Mine\n\n<!-- toolswarm:{part_id(run.call.id, 1)} -->"]
    assert run.effects_begun >= 1


def test_a_failed_change_leaves_the_rest_undone(calls: GithubCalls, fake_github: FakeGithub) -> None:
    missing = _operation("update_issue", repo=DEMO, number=99, state="closed")

    result = calls.do("batch_changes", operations=[_create("First"), missing, _create("Never")])

    assert _statuses(result) == ["succeeded", "failed", "not_run"]
    assert [issue.title for issue in fake_github.find(DEMO).issues.values()] == ["Login fails", "First"]


def _lost_in_the_middle(calls: GithubCalls, github: FakeGithub) -> tuple[LoopedRun, list[dict[str, Any]]]:
    """A batch whose second creation was neither answered nor done."""
    operations = [_create("First"), _create("Second")]
    run = calls.run()
    calls.do("batch_changes", run, operations=operations[:1])
    github.fail(bad_gateway().on("POST"))
    run.fence = 2
    assert calls.failure("batch_changes", run, operations=operations).in_doubt
    return run, operations


def test_a_batch_that_was_lost_in_the_middle_goes_on_where_it_was(calls: GithubCalls, fake_github: FakeGithub) -> None:
    run, operations = _lost_in_the_middle(calls, fake_github)
    run.fence = 3

    probed = calls.probe("batch_changes", run, operations=operations)
    result = calls.do("batch_changes", run, operations=operations)

    assert probed is NOT_DONE
    assert [(item.status, item.looked_up) for item in result.items] == [("succeeded", True), ("succeeded", False)]
    assert [issue.title for issue in fake_github.find(DEMO).issues.values()] == ["Login fails", "First", "Second"]


def test_a_batch_all_of_which_was_done_is_not_run_again(calls: GithubCalls, fake_github: FakeGithub) -> None:
    run, operations = calls.run(), [_create("First"), _create("Second")]
    calls.do("batch_changes", run, operations=operations)

    found = calls.probe("batch_changes", run, operations=operations)

    assert [(item.value["number"], item.looked_up) for item in found.items] == [(2, True), (3, True)]
    assert len(fake_github.find(DEMO).issues) == 3


def test_one_that_cannot_be_looked_for_leaves_the_outcome_open(calls: GithubCalls, fake_github: FakeGithub) -> None:
    run = calls.run()
    run.fence = 2
    fake_github.fail(bad_gateway().on("GET").always())

    error = calls.failure("batch_changes", run, operations=[_create("First")])

    assert (error.in_doubt, run.effects_begun) == (True, 1)
    assert [request.method for request in fake_github.requests].count("POST") == 0


def test_of_60_changes_in_batches_under_lost_answers_each_is_there_exactly_once(
    calls: GithubCalls, fake_github: FakeGithub
) -> None:
    fake_github.seed(3)
    for lost in (bad_gateway(after=True), reset(after=True), bad_gateway(), reset()):
        fake_github.fail(lost.on("POST").always(0.08))

    for batch in range(12):
        operations = [_create(f"Issue {batch}.{index}") for index in range(5)]
        result = _to_the_end(calls, operations)
        assert _statuses(result) == ["succeeded"] * 5

    titles = sorted(issue.title for issue in fake_github.find(DEMO).issues.values())
    assert titles == sorted(["Login fails", *(f"Issue {batch}.{index}" for batch in range(12) for index in range(5))])


def _to_the_end(calls: GithubCalls, operations: list[dict[str, Any]]) -> Any:
    """As a worker does: each attempt has a higher fence, and after a doubt the probe comes first."""
    run, in_doubt = calls.run(), False
    for attempt in range(1, 20):
        run.fence = attempt
        found = calls.probe("batch_changes", run, operations=operations) if in_doubt else NOT_DONE
        if found is not NOT_DONE:
            return found
        try:
            return calls.do("batch_changes", run, operations=operations)
        except OperationFailed as error:
            if not error.in_doubt:
                raise
            in_doubt = True
    raise AssertionError("the batch did not end")


def test_the_id_of_a_part_is_a_call_id_of_the_same_time() -> None:
    whole = new_call_id()

    ids = [part_id(whole, index) for index in range(25)]

    assert len({whole, *ids}) == 26
    assert ids == [part_id(whole, index) for index in range(25)]
    assert all(UUID(one).version == 7 and UUID(one).variant == RFC_4122 and one[:13] == whole[:13] for one in ids)


def test_a_repository_can_be_made_in_a_batch_and_is_found_again(calls: GithubCalls) -> None:
    run = calls.run()
    operations = [_operation("create_repo", name="fresh")]
    calls.do("batch_changes", run, operations=operations)

    found = calls.probe("batch_changes", run, operations=operations)

    assert found.items[0].looked_up


def test_every_operation_but_the_batches_can_be_in_a_batch() -> None:
    declared = TOOL.operations

    assert (declared["batch"].effect, declared["batch_changes"].effect) == (Effect.READ, Effect.VERIFIABLE)
    assert all(one.effect is not Effect.ONCE and not one.is_async for one in declared.values())
