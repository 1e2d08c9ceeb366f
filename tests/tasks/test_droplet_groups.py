"""One command on several hosts."""

import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tasks.droplet.hosts import Hosts
from tests.servers.droplets import call, droplets, failure, probe
from tests.servers.sshd import Remote, demo, free_port, wait_until
from tests.tasks.fake_run import FakeRun


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with demo(tmp_path_factory.mktemp("remote")) as served:
        yield served


@pytest.fixture
def hosts(remote: Remote, tmp_path: Path) -> Iterator[Hosts]:
    """Four names of one machine, and one of a machine that is down."""
    down = msgspec.structs.replace(remote.settings, port=free_port(), host_key="ssh-ed25519 AAAA", known_hosts_file="")
    settings = dict.fromkeys(("a", "b", "c", "d"), remote.settings) | {"down": down}
    groups = {"web": ("a", "b"), "all": ("a", "b", "c", "d", "down")}
    with droplets(settings, groups=groups, runs_folder=str(tmp_path / "kept")) as opened:
        yield opened


def test_a_group_and_single_hosts_run_it_each_once(hosts: Hosts, tmp_path: Path) -> None:
    run, witness = FakeRun(), tmp_path / "witness"

    result = call(hosts, "run_group", run, on=["web", "c", "a"], script=f"echo run >>{witness}; echo out")

    assert [(outcome.host, outcome.status) for outcome in result.hosts] == [(name, "succeeded") for name in "abc"]
    assert (result.succeeded, result.failed, result.skipped) == (3, 0, 0)
    assert [outcome.result.stdout for outcome in result.hosts] == ["out\n"] * 3
    assert witness.read_text() == "run\n" * 3, "names of one machine are hosts of their own"
    assert (run.effects_begun, run.places) == (1, ["a, b, c"])


def test_one_host_that_fails_does_not_fail_the_others(hosts: Hosts) -> None:
    run = FakeRun()

    result = call(hosts, "run_group", run, on=["all"], argv=["true"])

    by_name = {outcome.host: outcome for outcome in result.hosts}
    assert (result.succeeded, result.failed) == (4, 1)
    assert by_name["down"].error.code == "host_unreachable"
    assert sorted(event["host"] for event in run.told if "done" in event) == ["a", "b", "c", "d", "down"]


def test_an_exit_code_other_than_0_is_a_failure(hosts: Hosts) -> None:
    result = call(hosts, "run_group", on=["a"], script="exit 3")

    assert (result.hosts[0].status, result.hosts[0].result.exit_code) == ("failed", 3)


def test_when_the_budget_of_failures_is_spent_no_further_host_is_begun(hosts: Hosts, tmp_path: Path) -> None:
    witness = tmp_path / "witness"

    result = call(
        hosts,
        "run_group",
        on=["a", "b", "c", "d"],
        script=f"echo run >>{witness}; exit 1",
        concurrency=1,
        max_failures=1,
    )

    assert [outcome.status for outcome in result.hosts] == ["failed", "failed", "skipped", "skipped"]
    assert witness.read_text() == "run\n" * 2


def test_no_more_hosts_than_wanted_are_at_it_at_a_time(hosts: Hosts, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    script = f"touch {inside}/$$; ls {inside} | wc -l; sleep 0.1; rm {inside}/$$"

    result = call(hosts, "run_group", on=["a", "b", "c", "d"], script=script, concurrency=2)

    assert max(int(outcome.result.stdout) for outcome in result.hosts) <= 2


def test_a_name_that_is_not_there_begins_nothing_anywhere(hosts: Hosts, tmp_path: Path) -> None:
    run, witness = FakeRun(), tmp_path / "witness"

    error = failure(hosts, "run_group", run, on=["a", "nowhere"], argv=["touch", str(witness)])

    assert (error.failure_code, error.before_effect, run.effects_begun) == ("host_not_configured", True, 0)
    assert not witness.exists()


def test_a_repeated_delivery_runs_it_only_where_it_did_not_run(hosts: Hosts, tmp_path: Path) -> None:
    run, witness = FakeRun(), tmp_path / "witness"
    script = f"echo run >>{witness}; date +%s%N"
    first = call(hosts, "run_group", run, on=["a", "b"], script=script)

    again = probe(hosts, "run_group", run, on=["a", "b", "c"], script=script)

    assert [outcome.result.stdout for outcome in again.hosts[:2]] == [outcome.result.stdout for outcome in first.hosts]
    assert [outcome.result.repeated for outcome in again.hosts] == [True, True, False]
    assert witness.read_text() == "run\n" * 3


def test_a_stop_request_ends_it_on_all_hosts(hosts: Hosts, tmp_path: Path) -> None:
    run, begun = FakeRun(), tmp_path / "begun"
    begun.mkdir()

    def stop() -> None:
        wait_until(lambda: len(list(begun.iterdir())) == 2, "not begun")
        run.stop = True

    threading.Thread(target=stop).start()

    result = call(hosts, "run_group", run, on=["a", "b", "c"], script=f"touch {begun}/$$; sleep 60", concurrency=2)

    assert [outcome.status for outcome in result.hosts] == ["failed", "failed", "skipped"]
    assert [outcome.error.code for outcome in result.hosts[:2]] == ["stopped", "stopped"]
    assert all(outcome.error.details["killed"] for outcome in result.hosts[:2])
