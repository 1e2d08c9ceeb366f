"""Jobs in the background of a host, and how a host is."""

import platform
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tasks.droplet.hosts import Hosts
from tasks.operation import NOT_DONE
from tests.servers.droplets import call, droplets, failure, probe
from tests.servers.sshd import Remote, demo, kill_connections, openssh, wait_until
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed


@pytest.fixture(scope="module", params=["demo", pytest.param("openssh", marks=pytest.mark.needs_sshd)])
def remote(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with {"demo": demo, "openssh": openssh}[request.param](tmp_path_factory.mktemp("remote")) as served:
        yield served


@pytest.fixture
def hosts(remote: Remote, tmp_path: Path) -> Iterator[Hosts]:
    with droplets({"box": remote.settings}, runs_folder=str(tmp_path / "kept")) as opened:
        yield opened


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_job_is_started_looked_at_and_ends(hosts: Hosts, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f'echo "$A begun"; cat; echo warning >&2; while [ ! -e {gate} ]; do sleep 0.05; done; echo grüße; exit 4'

    started = call(hosts, "job_start", script=script, env={"A": "job"}, stdin="input\n")
    first = call(hosts, "job_poll", job=started.job, wait_s=5)
    running = call(hosts, "job_list")
    gate.touch()
    wait_until(lambda: call(hosts, "job_poll", job=started.job).status.state == "ended", "it does not end")
    last = call(hosts, "job_poll", job=started.job, stdout_offset=first.stdout.next_offset)

    assert (started.host, started.repeated, first.status.state) == ("box", False, "running")
    assert first.stdout.text + last.stdout.text == "job begun\ninput\ngrüße\n"
    assert (last.status.exit_code, last.status.ended_by, last.stderr.text) == (4, None, "warning\n")
    assert last.status.ended_at is not None
    assert [(job.job, job.state, job.program) for job in running.jobs] == [(started.job, "running", "sh")]


def test_a_job_is_begun_once_however_often_it_is_delivered(hosts: Hosts, tmp_path: Path) -> None:
    run, witness = FakeRun(), tmp_path / "witness"
    script = f"echo run >>{witness}"

    before = probe(hosts, "job_start", run, script=script)
    started = [call(hosts, "job_start", run, script=script) for _ in range(3)]
    after = probe(hosts, "job_start", run, script=script)

    assert before is NOT_DONE
    assert {job.job for job in started} == {after.job}
    assert [job.repeated for job in (*started, after)] == [False, True, True, True]
    wait_until(witness.exists, "not begun")
    wait_until(lambda: call(hosts, "job_poll", job=after.job).status.state == "ended", "it does not end")
    assert witness.read_text() == "run\n"


def test_output_is_read_part_by_part_and_no_character_is_broken(hosts: Hosts) -> None:
    text = "€" * 400
    job = call(hosts, "job_start", argv=["printf", "%s", text]).job
    wait_until(lambda: call(hosts, "job_poll", job=job).status.state == "ended", "it does not end")

    parts, offset = list[str](), 0
    while True:
        polled = call(hosts, "job_poll", job=job, stdout_offset=offset, max_bytes=256)
        parts.append(polled.stdout.text)
        offset = polled.stdout.next_offset
        if offset >= polled.stdout.size_bytes:
            break

    assert "".join(parts) == text
    assert len(parts) > 4
    assert polled.stdout.size_bytes == 1200


def test_a_job_is_killed_with_all_it_started(hosts: Hosts, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $! >>{pids}; echo $$ >>{pids}; trap '' TERM; while :; do sleep 0.05; done"
    job = call(hosts, "job_start", script=script).job
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, "not begun")

    killed = call(hosts, "job_kill", job=job)
    again = call(hosts, "job_kill", job=job)

    assert (killed.state, killed.ended_by, killed.signal) == ("ended", "killed", "SIGKILL")
    assert again == killed
    wait_until(lambda: not any(_lives(int(pid)) for pid in pids.read_text().split()), "something survived")


def test_the_host_itself_ends_a_job_that_has_run_for_too_long(hosts: Hosts, tmp_path: Path) -> None:
    job = call(hosts, "job_start", argv=["sleep", "60"], time_limit_s=0.1).job

    wait_until(lambda: call(hosts, "job_poll", job=job).status.state == "ended", "it goes on", 15)

    assert call(hosts, "job_poll", job=job).status.ended_by == "time_limit"


def test_a_job_whose_keeper_is_gone_is_lost_and_says_so(hosts: Hosts, tmp_path: Path) -> None:
    job = call(hosts, "job_start", argv=["sleep", "60"]).job
    (claim,) = (tmp_path / "kept" / "jobs").glob("*/*.claim")
    keeper, _, command = claim.read_text().splitlines()[1].split()

    for pid in (keeper, command):
        psutil.Process(int(pid)).kill()

    wait_until(lambda: call(hosts, "job_poll", job=job).status.state == "lost", "it is not lost")
    assert call(hosts, "job_kill", job=job).state == "lost"


@pytest.mark.needs_sshd
def test_a_job_goes_on_when_every_connection_is_gone(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with (
        openssh(tmp_path / "real") as real,
        droplets({"box": real.settings}, runs_folder=str(tmp_path / "kept")) as hosts,
    ):
        job = call(hosts, "job_start", script=f"while [ ! -e {gate} ]; do sleep 0.05; done; echo done").job
        assert kill_connections(real)
        gate.touch()

        wait_until(lambda: call(hosts, "job_poll", job=job).status.state == "ended", "it does not end")

        assert call(hosts, "job_poll", job=job).stdout.text == "done\n"


@pytest.mark.needs_sshd
def test_running_jobs_take_none_of_the_servers_sessions(tmp_path: Path) -> None:
    with (
        openssh(tmp_path / "narrow", "-o", "MaxSessions=2") as narrow,
        droplets({"box": narrow.settings}, runs_folder=str(tmp_path / "kept"), connections_per_host=1) as hosts,
    ):
        jobs = [call(hosts, "job_start", argv=["sleep", "60"]).job for _ in range(4)]

        assert call(hosts, "run", argv=["true"]).exit_code == 0

        for job in jobs:
            call(hosts, "job_kill", job=job)


def test_jobs_of_others_are_not_there(hosts: Hosts) -> None:
    job = call(hosts, "job_start", FakeRun(tenant="acme"), argv=["true"]).job

    errors = [failure(hosts, name, FakeRun(tenant="other"), job=job) for name in ("job_poll", "job_kill")]

    assert [error.failure_code for error in errors] == ["not_found", "not_found"]
    assert call(hosts, "job_list", FakeRun(tenant="other")).total == 0
    assert call(hosts, "job_list", FakeRun(tenant="acme")).total == 1


@pytest.mark.parametrize("job", ["box:../../x", "box:a/b", "box:", "nonsense", "box:$(id)", "box:no-such-job"])
def test_a_name_that_is_no_jobs_is_not_found(hosts: Hosts, job: str) -> None:
    assert failure(hosts, "job_poll", job=job).failure_code == "not_found"


def test_where_no_record_can_be_kept_no_job_is_begun(remote: Remote) -> None:
    with droplets({"box": remote.settings}, runs_folder="/proc/nowhere") as hosts:
        error = failure(hosts, "job_start", argv=["true"])

    assert isinstance(error, OperationFailed)
    assert (error.failure_code, error.before_effect) == ("permission", True)


def test_a_host_says_how_it_is(hosts: Hosts) -> None:
    run = FakeRun()

    status = call(hosts, "host_status", run)

    assert status.system.startswith(_system())
    assert status.uptime_s is not None
    assert status.uptime_s > 0
    assert status.processors == psutil.cpu_count()
    assert status.memory_bytes == psutil.virtual_memory().total
    assert status.load is not None
    assert "/" in [disk.mounted_on for disk in status.disks]
    assert (run.places, run.effects_begun) == (["box"], 0)


def _system() -> str:
    return f"{platform.system()} {platform.release()}"
