import os
import signal
import socket
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import paramiko
import psutil
import pytest

from local.demo_sshd import make_keys
from store.configuration import Configuration
from store.tool_settings import Droplet, DropletHost
from tasks.droplet import TOOL
from tasks.droplet.commands import RemoteResult
from tasks.droplet.files import RemoteFile
from tasks.droplet.hosts import Hosts
from tests.servers.sshd import Remote, demo, free_port, openssh, wait_until
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed


@pytest.fixture(scope="module", params=["demo", pytest.param("openssh", marks=pytest.mark.needs_sshd)])
def remote(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Remote, None, None]:
    serve = {"demo": demo, "openssh": openssh}[request.param]
    with serve(tmp_path_factory.mktemp("remote")) as served:
        yield served


@pytest.fixture
def real(tmp_path: Path) -> Generator[Remote, None, None]:
    with openssh(tmp_path / "real") as served:
        yield served


@pytest.fixture
def hosts(remote: Remote) -> Generator[Hosts, None, None]:
    opened = _open(box=remote.settings)
    yield opened
    opened.close()


def _open(**settings: DropletHost) -> Hosts:
    opened = TOOL.open(Configuration(droplet=Droplet(hosts=settings)))
    assert isinstance(opened, Hosts)
    return opened


def _run(hosts: Hosts, *argv: str, attempt: FakeRun | None = None, **arguments: Any) -> RemoteResult:
    result = TOOL.operations["run"].function(hosts, attempt or FakeRun(), argv=list(argv), **arguments)
    assert isinstance(result, RemoteResult)
    return result


def _read(hosts: Hosts, **arguments: Any) -> RemoteFile:
    result = TOOL.operations["read_file"].function(hosts, FakeRun(), **arguments)
    assert isinstance(result, RemoteFile)
    return result


def test_a_command_runs_and_its_outputs_and_exit_code_come_back(hosts: Hosts) -> None:
    attempt = FakeRun()

    result = _run(hosts, "sh", "-c", "echo out; echo err >&2; exit 3", attempt=attempt)

    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)
    assert attempt.places == ["box"]
    assert attempt.effects_begun == 1


def test_arguments_arrive_as_they_are(hosts: Hosts) -> None:
    texts = [
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
    ]

    result = _run(hosts, "sh", "-c", 'for text; do printf "<%s>" "$text"; done', "sh", *texts)

    assert result.stdout == "".join(f"<{text}>" for text in texts)


def test_standard_input_reaches_the_command(hosts: Hosts) -> None:
    text = "line\n" * 200_000

    result = _run(hosts, "wc", "-c", stdin=text)

    assert int(result.stdout) == len(text)


def test_a_command_that_does_not_read_its_input_is_no_failure(hosts: Hosts) -> None:
    result = _run(hosts, "true", stdin="x" * 3_000_000)

    assert result.exit_code == 0


def test_six_megabytes_of_errors_before_the_output_do_not_deadlock(hosts: Hosts) -> None:
    script = "head -c 6000000 /dev/zero | tr '\\0' e >&2; echo done"

    result = _run(hosts, "sh", "-c", script, max_output_bytes=4096)

    assert result.stdout == "done\n"
    assert result.stderr_truncated
    assert result.stderr_dropped_bytes == 6_000_000 - 4096


def test_the_working_folder_is_gone_to(hosts: Hosts, remote: Remote) -> None:
    folder = remote.folder / "-odd 'name"
    folder.mkdir(exist_ok=True)

    result = _run(hosts, "pwd", cwd=str(folder))

    assert result.stdout.strip() == str(folder)


def test_a_working_folder_that_is_not_there_starts_nothing(hosts: Hosts) -> None:
    with pytest.raises(OperationFailed) as caught:
        _run(hosts, "echo", "x", cwd="/no/such/folder")

    assert (caught.value.failure_code, caught.value.before_effect) == ("not_found", True)


@pytest.mark.needs_sshd
def test_chatter_of_the_login_shell_is_not_the_commands_output(tmp_path: Path) -> None:
    with openssh(tmp_path / "chatty", "-o", 'ForceCommand=echo welcome; eval "$SSH_ORIGINAL_COMMAND"') as chatty:
        hosts = _open(box=chatty.settings)

        result = _run(hosts, "echo", "out")

        hosts.close()
    assert result.stdout == "out\n"


@pytest.mark.needs_sshd
def test_a_login_shell_that_lets_nothing_run_is_named(tmp_path: Path) -> None:
    with openssh(tmp_path / "closed", "-o", "ForceCommand=echo closed; false") as closed:
        hosts = _open(box=closed.settings)

        with pytest.raises(OperationFailed) as caught:
            _run(hosts, "true")

        hosts.close()
    error = caught.value
    assert (error.failure_code, error.before_effect, error.details["stdout"]) == ("not_started", True, "closed\n")


def test_a_command_is_killed_with_all_it_started_when_its_time_is_up(hosts: Hosts, remote: Remote) -> None:
    pids = remote.folder / "pids"
    script = f"trap '' TERM; echo begun; sh -c 'trap \"\" TERM; echo $$ >>{pids}; while :; do sleep 0.05; done' & " + (
        f"echo $$ >>{pids}; while :; do sleep 0.05; done"
    )
    pids.unlink(missing_ok=True)

    with pytest.raises(OperationFailed) as caught:
        _run(hosts, "sh", "-c", script, timeout_s=0.7)

    error = caught.value
    assert (error.failure_code, error.before_effect) == ("time_limit", False)
    assert error.details["stdout"] == "begun\n"
    assert error.details["killed"] is True
    numbers = [int(line) for line in pids.read_text().split()]
    assert len(numbers) == 2
    wait_until(lambda: not any(_lives(number) for number in numbers), "something survived")


def test_endless_output_ends_at_the_time_limit(hosts: Hosts) -> None:
    with pytest.raises(OperationFailed) as caught:
        _run(hosts, "yes", timeout_s=0.5, max_output_bytes=1024)

    assert caught.value.failure_code == "time_limit"
    assert len(caught.value.details["stdout"]) < 2048


def test_a_stop_request_kills_the_command(hosts: Hosts) -> None:
    attempt = FakeRun()
    threading.Timer(0.3, lambda: setattr(attempt, "stop", True)).start()

    with pytest.raises(OperationFailed) as caught:
        _run(hosts, "sleep", "60", attempt=attempt)

    assert (caught.value.failure_code, caught.value.details["killed"]) == ("stopped", True)


def test_a_command_that_a_signal_ended_is_not_taken_for_a_lost_connection(hosts: Hosts) -> None:
    result = _run(hosts, "sh", "-c", "kill -9 $$")

    assert result.killed_by_signal
    assert result.exit_code is None


def test_a_nul_is_refused_before_it_can_break_the_connection(hosts: Hosts) -> None:
    attempt = FakeRun()

    with pytest.raises(OperationFailed) as caught:
        _run(hosts, "echo", "a\0b", attempt=attempt)

    assert (caught.value.failure_code, attempt.effects_begun) == ("invalid_command", 0)


def test_nothing_is_sent_when_the_call_was_lost_before_its_effect(hosts: Hosts, remote: Remote) -> None:
    attempt = FakeRun()
    attempt.lost = RuntimeError("lease lost")
    witness = remote.folder / "witness"

    with pytest.raises(RuntimeError, match="lease lost"):
        _run(hosts, "touch", str(witness), attempt=attempt)

    assert not witness.exists()


def test_thirty_commands_at_once_share_one_connection(hosts: Hosts) -> None:
    before = _client_connections()
    answers: list[str] = []

    def ask(number: int) -> None:
        answers.append(_run(hosts, "echo", str(number)).stdout)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(map(int, answers)) == list(range(30))
    assert len(_client_connections() - before) == 1


def test_a_warm_command_waits_for_no_delayed_packet(hosts: Hosts) -> None:
    _run(hosts, "true")

    fastest_s = min(_run(hosts, "true").ran_s for _ in range(10))

    assert fastest_s < 0.2, "over a reused connection a command takes milliseconds"


def test_a_file_is_read(hosts: Hosts, remote: Remote) -> None:
    (remote.folder / "note.txt").write_text("grüße\n" * 20_000)

    whole = _read(hosts, path=remote.path("note.txt"))
    start = _read(hosts, path=remote.path("note.txt"), max_bytes=3)

    assert whole.content == "grüße\n" * 20_000
    assert (start.content, start.truncated, start.encoding) == ("gr", True, "utf-8")


def test_a_file_that_is_no_text_comes_as_base64(hosts: Hosts, remote: Remote) -> None:
    (remote.folder / "raw").write_bytes(b"\xff\x00\xfe")

    result = _read(hosts, path=remote.path("raw"))

    assert (result.content, result.encoding) == ("/wD+", "base64")


@pytest.mark.parametrize(
    ("name", "code"),
    [("missing", "not_found"), ("folder", "is_a_directory"), ("fifo", "path_refused"), ("a\0b", "path_refused")],
)
def test_what_is_no_file_is_refused_at_once(hosts: Hosts, remote: Remote, name: str, code: str) -> None:
    (remote.folder / "folder").mkdir(exist_ok=True)
    if not (remote.folder / "fifo").exists():
        os.mkfifo(remote.folder / "fifo")
    began = time.monotonic()

    with pytest.raises(OperationFailed) as caught:
        _read(hosts, path=remote.path(name))

    # The demo's server refuses a FIFO itself, by its rights.
    assert caught.value.failure_code == code or (remote.kind, name) == ("demo", "fifo")
    assert caught.value.before_effect
    assert time.monotonic() - began < 2


def test_without_hosts_the_advice_is_what_to_set() -> None:
    with pytest.raises(OperationFailed, match=r"droplet\.hosts\.NAME") as caught:
        _run(_open(), "true")

    assert (caught.value.failure_code, caught.value.before_effect) == ("host_not_configured", True)


@pytest.mark.parametrize("host", ["other", "-oProxyCommand=id", "box;id"])
def test_a_host_that_is_not_configured_is_refused(host: str) -> None:
    hosts = _open(box=DropletHost(address="127.0.0.1", user="x"))

    with pytest.raises(OperationFailed) as caught:
        _run(hosts, "true", host=host)

    assert caught.value.failure_code == "host_not_configured"


def test_a_refused_connection_is_before_the_effect_and_may_be_tried_again(remote: Remote) -> None:
    hosts = _open(box=msgspec.structs.replace(remote.settings, port=free_port(), host_key=_other_key_line(remote)))
    attempt = FakeRun()

    with pytest.raises(OperationFailed) as caught:
        _run(hosts, "true", attempt=attempt)

    error = caught.value
    assert (error.failure_code, error.failure_retryable, error.before_effect) == ("host_unreachable", True, True)
    assert attempt.effects_begun == 0


def test_a_host_that_accepts_and_says_nothing_is_unreachable(remote: Remote) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        settings = msgspec.structs.replace(remote.settings, port=port, host_key=_other_key_line(remote))
        hosts = TOOL.open(Configuration(droplet=Droplet(hosts={"box": settings}, connect_timeout_s=0.5)))

        with pytest.raises(OperationFailed) as caught:
            _run(hosts, "true")

    assert caught.value.failure_code == "host_unreachable"


def test_another_host_key_than_the_pinned_one_is_refused(remote: Remote) -> None:
    hosts = _open(box=msgspec.structs.replace(remote.settings, host_key=_other_key_line(remote)))

    with pytest.raises(OperationFailed) as caught:
        _run(hosts, "true")

    error = caught.value
    assert (error.failure_code, error.failure_retryable) == ("host_key", False)


def test_a_host_key_of_another_kind_is_refused(remote: Remote) -> None:
    hosts = _open(box=msgspec.structs.replace(remote.settings, host_key="ecdsa-sha2-nistp256 AAAA"))

    with pytest.raises(OperationFailed) as caught:
        _run(hosts, "true")

    assert caught.value.failure_code == "host_key"


def test_an_unknown_host_key_is_refused_and_not_learned(remote: Remote, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text("")
    unknown = msgspec.structs.replace(remote.settings, host_key="", known_hosts_file=str(known_hosts))

    for settings in (unknown, msgspec.structs.replace(unknown, known_hosts_file="")):
        with pytest.raises(OperationFailed) as caught:
            _run(_open(box=settings), "true")
        assert caught.value.failure_code == "host_key"

    assert known_hosts.read_text() == ""


def test_a_key_that_the_host_does_not_take_is_an_authentication_error(remote: Remote, tmp_path: Path) -> None:
    stranger = make_keys(tmp_path / "stranger", 1)
    hosts = _open(box=msgspec.structs.replace(remote.settings, key_file=str(stranger.client_file)))

    with pytest.raises(OperationFailed) as caught:
        _run(hosts, "true")

    assert caught.value.failure_code == "authentication"


@pytest.mark.needs_sshd
def test_a_connection_lost_in_the_middle_leaves_the_outcome_open(real: Remote) -> None:
    hosts = _open(box=real.settings)

    with pytest.raises(OperationFailed) as caught:
        _run(hosts, "sh", "-c", "kill -9 $(ps -o ppid= $(ps -o ppid= $$)) $(ps -o ppid= $$); sleep 5")

    assert (caught.value.failure_code, caught.value.before_effect) == ("connection_lost", False)
    hosts.close()


@pytest.mark.needs_sshd
def test_a_connection_that_died_while_idle_is_replaced_unnoticed(real: Remote) -> None:
    hosts = _open(box=real.settings)
    first = _run(hosts, "sh", "-c", "echo $PPID")
    _kill_connections(real)

    second = _run(hosts, "sh", "-c", "echo $PPID")

    assert int(first.stdout) != int(second.stdout)
    hosts.close()


@pytest.mark.needs_sshd
def test_a_server_with_few_channels_is_waited_for(tmp_path: Path) -> None:
    with openssh(tmp_path / "narrow", "-o", "MaxSessions=2") as narrow:
        hosts = _open(box=narrow.settings)
        codes: list[int | None] = []
        threads = [
            threading.Thread(target=lambda: codes.append(_run(hosts, "sleep", "0.05").exit_code)) for _ in range(12)
        ]

        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert codes == [0] * 12
        hosts.close()


def test_a_forked_child_leaves_the_parents_connection_alone(hosts: Hosts) -> None:
    _run(hosts, "true")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if _run(hosts, "echo", "child").stdout == "child\n" else 1
        finally:
            os._exit(code)

    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert _run(hosts, "echo", "parent").stdout == "parent\n"


def _client_connections() -> set[threading.Thread]:
    running = threading.enumerate()
    return {thread for thread in running if isinstance(thread, paramiko.Transport) and not thread.server_mode}


def _other_key_line(remote: Remote) -> str:
    return make_keys(remote.folder / "other", 1).host_line


def _kill_connections(real: Remote) -> None:
    assert real.pid is not None
    children = psutil.Process(real.pid).children(recursive=True)
    assert children
    for child in children:
        child.send_signal(signal.SIGKILL)
    psutil.wait_procs(children, timeout=5)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
