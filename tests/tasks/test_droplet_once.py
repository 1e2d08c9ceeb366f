"""A command runs once, whatever happens to its connection: a relay breaks links, and servers are killed."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.droplet.hosts import Hosts
from tasks.droplet.remote_script import RUN
from tasks.operation import NOT_DONE
from tests.servers.droplets import call, droplets, failure, probe
from tests.servers.relay import relay
from tests.servers.sshd import Remote, kill_connections, openssh, wait_until
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed

pytestmark = pytest.mark.needs_sshd


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with openssh(tmp_path_factory.mktemp("remote")) as served:
        yield served


@pytest.fixture
def hosts(remote: Remote, tmp_path: Path) -> Iterator[Hosts]:
    with droplets({"box": remote.settings}, runs_folder=str(tmp_path / "kept")) as opened:
        yield opened


@pytest.fixture
def bare(remote: Remote) -> Iterator[Hosts]:
    """The host can keep no record: not even root can make a folder there."""
    with droplets({"box": remote.settings}, runs_folder="/proc/nowhere") as opened:
        yield opened


def _once_there(file: Path, do: Callable[[], object]) -> None:
    """Do it, in the background, when the file is there."""

    def wait() -> None:
        wait_until(file.exists, "not begun")
        do()

    threading.Thread(target=wait).start()


def _again(run: FakeRun) -> FakeRun:
    """The same call, delivered to another worker."""
    other = FakeRun()
    other.call = run.call
    return other


def test_a_repeated_delivery_gets_the_first_runs_end(hosts: Hosts, tmp_path: Path) -> None:
    run, witness = FakeRun(), tmp_path / "witness"
    script = f"echo run >>{witness}; date +%s%N; echo warning >&2; exit 3"
    first = call(hosts, "run", run, script=script)

    second = call(hosts, "run", _again(run), script=script)

    assert (second.stdout, second.stderr, second.exit_code) == (first.stdout, "warning\n", 3)
    assert (first.repeated, second.repeated) == (False, True)
    assert witness.read_text() == "run\n"


def test_another_call_is_another_run(hosts: Hosts, tmp_path: Path) -> None:
    witness = tmp_path / "witness"

    for _ in range(2):
        call(hosts, "run", script=f"echo run >>{witness}")

    assert witness.read_text() == "run\n" * 2


def test_a_connection_killed_in_the_middle_and_four_redeliveries_make_one_run(
    remote: Remote, hosts: Hosts, tmp_path: Path
) -> None:
    run, witness, gate = FakeRun(), tmp_path / "witness", tmp_path / "gate"
    script = f"echo run >>{witness}; echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; date +%s%N; exit 7"

    def deliver(attempt: FakeRun) -> Any:
        return call(hosts, "run", attempt, script=script)

    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(deliver, run)
        wait_until(witness.exists, "not begun")
        assert kill_connections(remote)
        others = [threads.submit(deliver, _again(run)) for _ in range(4)]
        wait_until(lambda: hosts.pool(hosts.find("box", run)).connections > 0, "nobody came again")
        gate.touch()
        results = [future.result() for future in (first, *others)]

    assert witness.read_text() == "run\n"
    assert len({(result.stdout, result.exit_code) for result in results}) == 1
    assert results[0].stdout.startswith("begun\n")
    assert all(result.repeated for result in results)


@pytest.mark.parametrize("down_bytes", [1, 400, 900])
def test_a_link_that_is_reset_while_the_answer_comes_loses_nothing(
    remote: Remote, tmp_path: Path, down_bytes: int
) -> None:
    witness = tmp_path / "witness"
    with (
        relay(remote.port) as link,
        droplets({"box": remote.through(link.port)}, runs_folder=str(tmp_path / "kept")) as hosts,
    ):
        call(hosts, "run", argv=["true"])
        link.cut_after(down_bytes=down_bytes)

        result = call(hosts, "run", script=f"echo run >>{witness}; seq 200")

    assert result.stdout.splitlines() == [str(number) for number in range(1, 201)]
    assert witness.read_text() == "run\n"


def test_input_that_is_cut_on_its_way_starts_nothing_and_is_sent_again(remote: Remote, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with (
        relay(remote.port) as link,
        droplets({"box": remote.through(link.port)}, runs_folder=str(tmp_path / "kept")) as hosts,
    ):
        call(hosts, "run", argv=["true"])
        link.cut_after(up_bytes=500_000)

        result = call(hosts, "run", script=f"wc -c | tee -a {witness}", stdin="x" * 2_000_000)

    assert result.stdout.strip() == "2000000"
    assert witness.read_text().split() == ["2000000"]
    assert not list((tmp_path / "kept" / "runs").glob("*.in.*"))


def test_a_black_hole_leaves_the_outcome_open_and_the_host_ends_the_command_itself(
    remote: Remote, tmp_path: Path
) -> None:
    run, pid = FakeRun(), tmp_path / "pid"
    with (
        relay(remote.port) as link,
        droplets({"box": remote.through(link.port)}, runs_folder=str(tmp_path / "kept")) as hosts,
    ):
        call(hosts, "run", argv=["true"])
        _once_there(pid, link.black_hole)

        error = failure(
            hosts, "run", run, script=f"echo $$ >{pid}.new; mv {pid}.new {pid}; exec sleep 60", timeout_s=0.5
        )

        assert (error.failure_code, error.in_doubt) == ("connection_lost", True)
        assert error.details["began"] is True
        wait_until(lambda: not psutil.pid_exists(int(pid.read_text())) or _is_zombie(pid), "it goes on for ever")
        link.resume()
    with droplets({"box": remote.settings}, runs_folder=str(tmp_path / "kept")) as hosts:
        again = failure(hosts, "run", _again(run), script="exit 1")
    assert (again.failure_code, again.details["repeated"]) == ("time_limit", True)


def _is_zombie(pid: Path) -> bool:
    try:
        return psutil.Process(int(pid.read_text())).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_the_probe_tells_not_done_until_the_command_was_begun_and_then_its_end(hosts: Hosts) -> None:
    run = FakeRun()

    before = probe(hosts, "run", run, script="echo out; exit 4")
    call(hosts, "run", run, script="echo out; exit 4")
    after = probe(hosts, "run", _again(run), script="echo out; exit 4")

    assert before is NOT_DONE
    assert (after.stdout, after.exit_code, after.repeated) == ("out\n", 4, True)


def test_the_probe_waits_for_a_command_that_still_runs(hosts: Hosts, tmp_path: Path) -> None:
    run, begun = FakeRun(), tmp_path / "begun"
    script = f"touch {begun}; sleep 0.5; echo done"
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(call, hosts, "run", run, script=script)
        wait_until(begun.exists, "not begun")

        found = probe(hosts, "run", _again(run), script=script)

    assert found.stdout == first.result().stdout == "done\n"


def test_whoever_waits_for_a_command_whose_keeper_was_killed_is_told_so(hosts: Hosts) -> None:
    error = failure(hosts, "run", script="kill -9 $PPID; sleep 5")

    assert (error.failure_code, error.in_doubt) == ("command_lost", True)


def test_a_command_whose_keeper_was_killed_is_ended_all_the_same(hosts: Hosts, tmp_path: Path) -> None:
    run, pid = FakeRun(), tmp_path / "pid"
    script = f"echo $$ >{pid}; kill -9 $PPID; exec sleep 60"

    error = failure(hosts, "run", run, script=script, timeout_s=0.1)

    assert (error.failure_code, error.details["killed"]) == ("time_limit", True)
    wait_until(lambda: _is_zombie(pid), "it goes on for ever")
    assert failure(hosts, "run", _again(run), script=script).failure_code == "time_limit"


def test_the_guard_outlives_a_killed_keeper(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    varying = ["MARK", str(tmp_path), "run.box", "first", "4", "1000", "", "", "0", "-"]
    script = f"echo $$ >{pid}; kill -9 $PPID; exec sleep 60"

    subprocess.run(
        ["sh", "-c", RUN, "toolswarm", *varying, "sh", "-c", script], stdout=subprocess.DEVNULL, start_new_session=True
    )

    wait_until(lambda: (tmp_path / "run.box.rc").exists(), "the guard has not ended it")
    wait_until(lambda: _is_zombie(pid), "it goes on for ever")
    assert (tmp_path / "run.box.rc").read_text() == "137 time_limit\n"


def test_a_host_that_keeps_no_record_still_runs_commands(bare: Hosts) -> None:
    result = call(bare, "run", script='read line; echo "$line $A"; exit 5', stdin="in\n", env={"A": "a"})

    assert (result.stdout, result.exit_code, result.run_once) == ("in a\n", 5, False)


def test_where_no_record_is_kept_a_lost_connection_leaves_the_outcome_open(
    remote: Remote, bare: Hosts, tmp_path: Path
) -> None:
    run, witness = FakeRun(), tmp_path / "witness"
    script = f"echo begun; echo run >>{witness}; sleep 2"
    _once_there(witness, lambda: kill_connections(remote))

    error = failure(bare, "run", run, script=script)
    looked = _probe_failure(bare, _again(run), script)

    assert (error.failure_code, error.in_doubt, error.before_effect) == ("connection_lost", True, False)
    assert (looked.failure_code, looked.in_doubt) == ("cannot_tell", True)
    assert witness.read_text() == "run\n"


def _probe_failure(hosts: Hosts, run: FakeRun, script: str) -> OperationFailed:
    with pytest.raises(OperationFailed) as caught:
        probe(hosts, "run", run, script=script)
    return caught.value


def test_where_no_record_is_kept_a_command_is_killed_all_the_same(bare: Hosts, tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    error = failure(bare, "run", script=f"sleep 60 & echo $! >{pids}; sleep 60", timeout_s=0.5)

    assert (error.failure_code, error.details["killed"]) == ("time_limit", True)
    child = int(pids.read_text())
    wait_until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie", "it survived")


def test_what_old_runs_have_left_is_removed_and_nothing_else(hosts: Hosts, tmp_path: Path) -> None:
    folder = tmp_path / "kept" / "runs"
    folder.mkdir(parents=True)
    old, young = folder / "old.claim", folder / "young.claim"
    for file, age_s in ((old, 90_000), (young, 80_000)):
        file.touch()
        os.utime(file, (time.time() - age_s, time.time() - age_s))

    call(hosts, "run", argv=["true"])

    wait_until(lambda: not old.exists(), "the old one is still there")
    assert young.exists()


def test_nobody_else_can_enter_the_folder_of_the_runs(hosts: Hosts, tmp_path: Path) -> None:
    call(hosts, "run", argv=["true"])

    assert (tmp_path / "kept" / "runs").stat().st_mode & 0o777 == 0o700


# -- the script by itself, in the shells that hosts have ---------------------------------------------------------------


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "busybox sh", "mksh"])
def test_the_script_means_the_same_to_every_shell(tmp_path: Path, shell: str) -> None:
    words = shell.split()
    if shutil.which(words[0]) is None:
        pytest.skip(f"needs {words[0]}")

    def say(run: str, argv: list[str], *, mode: str = "first", stdin: str = "", folder: Path = tmp_path) -> list[str]:
        varying = ["MARK", str(folder), run, mode, "50", "1000000", "", "1", str(len(stdin)), "-", *argv]
        said = subprocess.run(
            [*words, "-c", RUN, "toolswarm", *varying],
            input=f"A='a'\"$_n\"'b'\n{stdin}",
            capture_output=True,
            text=True,
            timeout=20,
            start_new_session=True,
        )
        return said.stdout.splitlines() + said.stderr.splitlines()

    script = ["sh", "-c", 'cat; echo "$A"; echo warning >&2; sleep 0.3; echo late; exit 3']
    heard = ["in", "a", "b", "late", "", "MARK end 3 -", "MARK", "warning", "", "MARK end"]

    assert say("one", script, mode="probe") == ["MARK none", "", "MARK end ", "MARK", "", "MARK end"]
    assert say("one", script, stdin="in\n") == ["MARK started", *heard]
    assert say("one", ["false"]) == ["MARK attached", *heard]
    assert say("two", ["sh", "-c", "kill -9 $$"])[-4:] == ["MARK end 137 -", "MARK", "", "MARK end"]
    assert say("three", script, stdin="in\n", folder=Path("/proc/none"))[1:] == heard
    assert say("three", script, mode="again", folder=Path("/proc/none"))[0] == "MARK unclaimable"
    assert say("four", ["yes"])[-4:] == ["MARK end 143 output_limit", "MARK", "", "MARK end"]
