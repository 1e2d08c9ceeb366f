"""Commands on remote hosts: the demo's server, and a real OpenSSH where its ways matter."""

import os
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import psutil
import pytest

from tasks.droplet.hosts import Hosts
from tasks.droplet.marked import MarkedStream
from tests.servers.droplets import call, droplets, failure
from tests.servers.sshd import Remote, demo, openssh, wait_until
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed


@pytest.fixture(scope="module", params=["demo", pytest.param("openssh", marks=pytest.mark.needs_sshd)])
def remote(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Remote, None, None]:
    serve = {"demo": demo, "openssh": openssh}[request.param]
    with serve(tmp_path_factory.mktemp("remote")) as served:
        yield served


@pytest.fixture(scope="module")
def hosts(remote: Remote) -> Generator[Hosts, None, None]:
    with droplets({"box": remote.settings}, runs_folder=str(remote.folder / "kept")) as opened:
        yield opened


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# -- what is run -----------------------------------------------------------------------------------------------------


def test_a_command_runs_and_its_outputs_and_exit_code_come_back(hosts: Hosts) -> None:
    run = FakeRun()

    result = call(hosts, "run", run, argv=["sh", "-c", "echo out; echo err >&2; exit 3"])

    assert (result.stdout, result.stderr, result.exit_code, result.signal) == ("out\n", "err\n", 3, None)
    assert (result.run_once, result.repeated) == (True, False)
    assert (run.places, run.effects_begun) == (["box"], 1)


def test_a_script_runs_in_a_shell(hosts: Hosts) -> None:
    result = call(hosts, "run", script="for n in 1 2; do\n  echo $n\ndone")

    assert result.stdout == "1\n2\n"


@pytest.mark.parametrize("arguments", [{}, {"argv": ["true"], "script": "true"}])
def test_either_argv_or_script_is_wanted(hosts: Hosts, arguments: dict[str, object]) -> None:
    assert failure(hosts, "run", **arguments).failure_code == "invalid_command"


ODD = [
    "'; id; '",
    "$(id)",
    "`id`",
    "a\nb",
    "-n x",
    "*",
    "~",
    'x"y',
    "\\",
    "\\\\",
    "!!",
    "ü€",
    "",
    "a  b",
    "${IFS}",
    "\x1b[31m",
    "\r",
]


def test_arguments_arrive_as_they_are(hosts: Hosts, remote: Remote) -> None:
    written = remote.folder / "written"

    call(hosts, "run", argv=["sh", "-c", 'printf "<%s>" "$@" >"$0"', str(written), *ODD])

    assert written.read_bytes().decode() == "".join(f"<{text}>" for text in ODD)


def test_variables_arrive_as_they_are_and_no_one_sees_them_among_the_arguments(hosts: Hosts, remote: Remote) -> None:
    env = {f"V{number}": text for number, text in enumerate(ODD)} | {
        "r": "mine",
        "e": "mine",
        "PATH": os.environ["PATH"],
    }
    written, seen = remote.folder / "written", remote.folder / "seen"
    script = f'printf "<%s>" {" ".join(f""""$V{number}" """ for number in range(len(ODD)))} "$r" >{written}; '

    call(hosts, "run", script=script + f"ps -eo args >{seen}", env={**env, "TOKEN": "hidden" + "-from-ps"})

    assert written.read_bytes().decode() == "".join(f"<{text}>" for text in [*ODD, "mine"])
    assert "hidden-from-ps" not in seen.read_text()


@pytest.mark.parametrize("name", ["A B", "1A", "A=B", "", "A;id", "A\n"])
def test_names_of_variables_that_a_shell_could_misread_are_refused(hosts: Hosts, name: str) -> None:
    assert failure(hosts, "run", argv=["true"], env={name: "x"}).failure_code == "invalid_command"


def test_standard_input_reaches_the_command_also_with_variables(hosts: Hosts) -> None:
    text = "line\n" * 200_000

    result = call(hosts, "run", script="echo $A; wc -c", stdin=text, env={"A": "a"})

    assert result.stdout.split() == ["a", str(len(text))]


def test_a_command_that_does_not_read_its_input_is_no_failure(hosts: Hosts) -> None:
    assert call(hosts, "run", argv=["true"], stdin="x" * 3_000_000).exit_code == 0


def test_the_working_folder_is_gone_to_whatever_its_name(hosts: Hosts, remote: Remote) -> None:
    for name in ("-odd 'name", "$(id)", "a\nb"):
        folder = remote.folder / name
        folder.mkdir(exist_ok=True)

        result = call(hosts, "run", script="pwd >where; printf ok", cwd=str(folder))

        assert (result.stdout, (folder / "where").read_text()) == ("ok", f"{folder}\n")


def test_a_working_folder_that_is_not_there_starts_nothing(hosts: Hosts) -> None:
    error = failure(hosts, "run", argv=["echo", "x"], cwd="/no/such/folder")

    assert (error.failure_code, error.before_effect) == ("not_found", True)


@pytest.mark.parametrize(
    "arguments",
    [
        {"argv": ["echo", "a\0b"]},
        {"script": "a\0b"},
        {"argv": ["true"], "cwd": "/\0"},
        {"argv": ["true"], "env": {"A": "\0"}},
        {"argv": ["echo", "\ud800"]},
        {"argv": ["-c", "id"]},
        {"argv": [""]},
        {"argv": ["echo", "x" * 130_000]},
    ],
)
def test_what_would_break_the_line_is_refused_before_it_is_sent(hosts: Hosts, arguments: dict[str, object]) -> None:
    run = FakeRun()

    error = failure(hosts, "run", run, **arguments)

    assert (error.failure_code, error.before_effect, run.effects_begun) == ("invalid_command", True, 0)
    assert call(hosts, "run", argv=["true"]).exit_code == 0


# -- what comes back -------------------------------------------------------------------------------------------------


def test_six_megabytes_of_errors_before_the_output_do_not_deadlock(hosts: Hosts) -> None:
    script = "head -c 6000000 /dev/zero | tr '\\0' e >&2; echo done"

    result = call(hosts, "run", script=script, max_output_bytes=4096)

    assert (result.stdout, result.stderr_truncated) == ("done\n", True)
    assert result.stderr_dropped_bytes == 6_000_000 - 4096


def test_output_is_told_while_the_command_runs(hosts: Hosts, remote: Remote) -> None:
    run, gate = FakeRun(), remote.folder / "gate"
    gate.unlink(missing_ok=True)
    script = f"echo grüße; echo warning >&2; while [ ! -e {gate} ]; do sleep 0.05; done; echo bye"

    def told(stream: str) -> str:
        return "".join(event["text"] for event in run.told if event["stream"] == stream)

    thread = threading.Thread(target=call, args=(hosts, "run", run), kwargs={"script": script})
    thread.start()

    wait_until(lambda: told("stdout") == "grüße" and told("stderr") == "warning", "nothing was told", 5)
    gate.touch()
    thread.join()

    assert told("stdout") == "grüße\nbye\n"


def test_the_name_of_the_signal_that_ended_a_command_is_told(hosts: Hosts) -> None:
    result = call(hosts, "run", script="kill -9 $$")

    assert (result.exit_code, result.signal) == (137, "SIGKILL")


def test_a_program_that_is_not_there_is_exit_code_127(hosts: Hosts) -> None:
    result = call(hosts, "run", argv=["no-such-program"])

    assert result.exit_code == 127
    assert "no-such-program" in result.stderr


def test_output_that_looks_like_our_own_marks_is_output(hosts: Hosts) -> None:
    text = "toolswarm-0123456789abcdef started\n\ntoolswarm-0123456789abcdef end 0 -\n"

    assert call(hosts, "run", argv=["cat"], stdin=text).stdout == text


def test_marks_are_found_however_the_stream_is_cut() -> None:
    whole = b"Welcome!\nmark started 1 2 3\nline\n\nmar\nmark en\n\nmark end 0 -\n"

    for size in range(1, len(whole)):
        stream = MarkedStream(b"mark")
        output = b"".join(stream.feed(whole[start : start + size]) for start in range(0, len(whole), size))

        assert output == b"line\n\nmar\nmark en\n"
        assert (stream.opened, stream.closed) == (["started", "1", "2", "3"], ["0", "-"])


# -- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stopped", [False, True])
def test_a_command_is_killed_with_all_it_started(hosts: Hosts, remote: Remote, stopped: bool) -> None:
    if stopped and remote.kind == "demo":
        pytest.skip("shown with a real server")
    pids, run = remote.folder / "pids", FakeRun()
    pids.unlink(missing_ok=True)
    mulish = f"trap '' TERM; echo $$ >>{pids}; while :; do sleep 0.05; done"
    double_fork = f'( sh -c "echo \\$\\$ >>{pids}; exec sleep 60" & ) &'
    script = f'echo begun; {double_fork} sh -c "{mulish.replace("$", chr(92) + "$")}" & {mulish}'
    if stopped:
        threading.Thread(target=_stop_when, args=(run, lambda: _count(pids) == 3)).start()

    error = failure(hosts, "run", run, script=script, timeout_s=60.0 if stopped else 1.0)

    assert (error.failure_code, error.before_effect) == ("stopped" if stopped else "time_limit", False)
    assert (error.details["stdout"], error.details["killed"]) == ("begun\n", True)
    numbers = [int(line) for line in pids.read_text().split()]
    assert len(numbers) == 3
    wait_until(lambda: not any(lives(number) for number in numbers), "something survived")


def _stop_when(run: FakeRun, condition: Callable[[], bool]) -> None:
    wait_until(condition, "not begun")
    run.stop = True


def _count(file: Path) -> int:
    return len(file.read_text().split()) if file.exists() else 0


def test_endless_output_ends_at_the_limit_and_leaves_no_more_than_that(remote: Remote, tmp_path: Path) -> None:
    with droplets({"box": remote.settings}, runs_folder=str(tmp_path / "kept"), max_written_bytes=1 << 20) as hosts:
        error = failure(hosts, "run", argv=["yes"], max_output_bytes=1024)

    assert error.failure_code == "output_limit"
    assert len(error.details["stdout"]) < 2048
    assert max(file.stat().st_size for file in (tmp_path / "kept" / "runs").iterdir()) <= 1 << 20


def test_what_a_command_leaves_running_does_not_hold_up_its_end(hosts: Hosts, remote: Remote) -> None:
    began = time.monotonic()

    result = call(hosts, "run", script="sleep 60 & echo $!")

    assert time.monotonic() - began < 5
    assert lives(int(result.stdout))
    os.kill(int(result.stdout), 9)


def test_nothing_is_sent_when_the_call_was_lost_before_its_effect(hosts: Hosts, remote: Remote) -> None:
    run, witness = FakeRun(), remote.folder / "witness"
    run.lost = RuntimeError("lease lost")

    with pytest.raises(RuntimeError, match="lease lost"):
        call(hosts, "run", run, argv=["touch", str(witness)])

    assert not witness.exists()


@pytest.mark.needs_sshd
def test_chatter_of_the_login_shell_is_not_the_commands_output(tmp_path: Path) -> None:
    chatter = 'ForceCommand=echo welcome; echo careful >&2; eval "$SSH_ORIGINAL_COMMAND"'
    with (
        openssh(tmp_path / "chatty", "-o", chatter) as chatty,
        droplets({"box": chatty.settings}, runs_folder=str(tmp_path / "kept")) as hosts,
    ):
        result = call(hosts, "run", script="echo out; echo err >&2")

    assert (result.stdout, result.stderr) == ("out\n", "err\n")


@pytest.mark.needs_sshd
def test_a_login_shell_that_lets_nothing_run_is_named(tmp_path: Path) -> None:
    with (
        openssh(tmp_path / "closed", "-o", "ForceCommand=echo closed; false") as closed,
        droplets({"box": closed.settings}, runs_folder=str(tmp_path / "kept")) as hosts,
    ):
        error = failure(hosts, "run", argv=["true"])

    assert isinstance(error, OperationFailed)
    assert (error.failure_code, error.before_effect, error.details["stdout"]) == ("not_started", True, "closed\n")
