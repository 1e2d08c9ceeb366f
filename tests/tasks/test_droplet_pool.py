"""Connections: how many, for how long, and what becomes of those that die."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from local.demo_sshd import make_keys
from tasks.droplet.hosts import Hosts
from tasks.droplet.idle import IdleLoop
from tasks.droplet.pool import CHANNELS
from tests.servers.droplets import call, droplets, failure
from tests.servers.relay import relay
from tests.servers.sshd import Remote, free_port, kill_connections, openssh, openssh_hosts
from tests.servers.waiting import until
from tests.tasks.fake_run import FakeRun

pytestmark = pytest.mark.needs_sshd


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with openssh(tmp_path_factory.mktemp("remote")) as served:
        yield served


@pytest.fixture
def hosts(remote: Remote, tmp_path: Path) -> Iterator[Hosts]:
    with droplets({"box": remote.settings}, runs_folder=str(tmp_path / "kept")) as opened:
        yield opened


def _connections(hosts: Hosts, name: str = "box") -> int:
    return hosts.pool(hosts.find(name, FakeRun())).connections


def _at_once(threads: ThreadPoolExecutor, hosts: list[Hosts], *argv: str) -> list[Any]:
    return [future.result() for future in [threads.submit(call, one, "run", argv=list(argv)) for one in hosts]]


def _server(hosts: Hosts) -> str:
    """The number of the process that serves the connection."""
    return str(call(hosts, "run", script="ps -o ppid= -p $PPID").stdout.strip())


def test_commands_one_after_the_other_share_a_connection(hosts: Hosts) -> None:
    servers = {_server(hosts) for _ in range(5)}

    assert len(servers) == 1
    assert _connections(hosts) == 1


def test_a_warm_command_waits_for_no_delayed_packet(hosts: Hosts) -> None:
    call(hosts, "run", argv=["true"])

    fastest_s = min(call(hosts, "run", argv=["true"]).ran_s for _ in range(10))

    assert fastest_s < 0.04, "with Nagle's algorithm each command would wait that long"


def test_many_commands_at_once_open_no_more_connections_than_allowed(remote: Remote, tmp_path: Path) -> None:
    with (
        droplets({"box": remote.settings}, runs_folder=str(tmp_path / "kept"), connections_per_host=2) as hosts,
        ThreadPoolExecutor(30) as threads,
    ):
        results = [
            future.result()
            for future in [threads.submit(call, hosts, "run", argv=["echo", str(number)]) for number in range(60)]
        ]

        assert _connections(hosts) == 2
    assert [int(result.stdout) for result in results] == list(range(60))


def test_as_many_as_a_connection_carries_need_no_second_one(hosts: Hosts) -> None:
    with ThreadPoolExecutor(CHANNELS) as threads:
        _at_once(threads, [hosts] * CHANNELS, "sleep", "0.3")

    assert _connections(hosts) == 1


def test_a_server_with_few_channels_is_waited_for(tmp_path: Path) -> None:
    with (
        openssh(tmp_path / "narrow", "-o", "MaxSessions=2") as narrow,
        droplets({"box": narrow.settings}, runs_folder=str(tmp_path / "kept"), connections_per_host=1) as hosts,
        ThreadPoolExecutor(12) as threads,
    ):
        results = _at_once(threads, [hosts] * 12, "sleep", "0.05")

    assert [result.exit_code for result in results] == [0] * 12


def test_a_server_that_drops_who_knocks_at_the_same_time_is_tried_again(tmp_path: Path) -> None:
    with openssh(tmp_path / "strict", "-o", "MaxStartups=1") as strict:
        many = [
            droplets({"box": strict.settings}, runs_folder=str(tmp_path / "kept"), connect_timeout_s=20.0)
            for _ in range(8)
        ]
        opened = [manager.__enter__() for manager in many]

        with ThreadPoolExecutor(8) as threads:
            results = _at_once(threads, opened, "true")

        for manager in many:
            manager.__exit__(None, None, None)
    assert [result.exit_code for result in results] == [0] * 8


def test_a_connection_that_died_while_idle_is_replaced_unnoticed(remote: Remote, hosts: Hosts) -> None:
    first = _server(hosts)
    assert kill_connections(remote)

    second = _server(hosts)

    assert first != second


def test_a_link_that_became_a_black_hole_while_idle_is_replaced_before_anything_is_sent(
    remote: Remote, tmp_path: Path
) -> None:
    with (
        relay(remote.port) as link,
        droplets({"box": remote.through(link.port)}, runs_folder=str(tmp_path / "kept")) as hosts,
    ):
        call(hosts, "run", argv=["true"])
        link.black_hole()
        run = FakeRun()
        threading.Timer(1.0, link.resume).start()

        result = call(hosts, "run", run, argv=["echo", "there"])

    assert (result.stdout, result.repeated, run.effects_begun) == ("there\n", False, 1)


def test_idle_connections_are_closed_and_made_again_when_needed(remote: Remote, tmp_path: Path) -> None:
    with droplets({"box": remote.settings}, runs_folder=str(tmp_path / "kept"), idle_s=0.2) as hosts:
        call(hosts, "run", argv=["true"])

        until(lambda: _connections(hosts) == 0, "it is closed", 5)

        assert call(hosts, "run", argv=["true"]).exit_code == 0


def test_a_connection_in_use_is_not_closed_however_old(hosts: Hosts) -> None:
    host = hosts.find("box", FakeRun())
    with hosts.session(host, FakeRun()) as session:
        left = hosts.expire(time.monotonic() + 1e6)

        assert left
        assert session.is_connected()
    assert not hosts.expire(time.monotonic() + 1e6)


def test_the_idle_loop_ends_when_nothing_is_left_and_can_be_started_and_stopped_twice() -> None:
    left, looked = [True, True, False], threading.Event()

    def expire(now: float) -> bool:
        looked.set()
        return left.pop(0)

    loop = IdleLoop(expire, interval_s=0.01)
    loop.start()
    loop.start()
    until(lambda: not left, "it has looked three times")
    left.append(False)
    looked.clear()

    def is_running_again() -> bool:
        loop.start()
        return looked.is_set()

    until(is_running_again, "it was started again")
    loop.stop()
    loop.stop()


def test_an_sftp_channel_is_kept_with_its_state_but_not_after_an_error(hosts: Hosts) -> None:
    host = hosts.find("box", FakeRun())
    with hosts.sftp(host, FakeRun()) as first:
        first.state = "greeted"
        channel = first.channel
    with hosts.sftp(host, FakeRun()) as second:
        assert (second.channel, second.state) == (channel, "greeted")
    with pytest.raises(KeyError), hosts.sftp(host, FakeRun()):
        raise KeyError

    with hosts.sftp(host, FakeRun()) as third:
        assert third.channel is not channel
        assert third.state is None


def test_a_stop_request_ends_the_wait_for_a_channel(remote: Remote, tmp_path: Path) -> None:
    with droplets({"box": remote.settings}, runs_folder=str(tmp_path / "kept"), connections_per_host=1) as hosts:
        host, run = hosts.find("box", FakeRun()), FakeRun()
        held = [hosts.session(host, FakeRun()) for _ in range(CHANNELS)]
        for session in held:
            session.__enter__()
        threading.Timer(0.2, lambda: setattr(run, "stop", True)).start()

        error = failure(hosts, "run", run, argv=["true"])

        for session in held:
            session.__exit__(None, None, None)
    assert (error.failure_code, error.before_effect, run.effects_begun) == ("stopped", True, 0)


def test_without_a_free_channel_the_host_is_busy_before_anything_begins(remote: Remote, tmp_path: Path) -> None:
    with droplets({"box": remote.settings}, runs_folder=str(tmp_path / "kept"), connections_per_host=1) as hosts:
        host = hosts.find("box", FakeRun())
        held = [hosts.session(host, FakeRun()) for _ in range(CHANNELS)]
        for session in held:
            session.__enter__()

        error = failure(hosts, "run", FakeRun(limit_s=0.3), argv=["true"])

        for session in held:
            session.__exit__(None, None, None)
    assert (error.failure_code, error.failure_retryable, error.before_effect) == ("host_busy", True, True)


def test_a_refused_connection_is_before_the_effect_and_may_be_tried_again(remote: Remote) -> None:
    run = FakeRun()
    with droplets({"box": msgspec.structs.replace(remote.settings, port=free_port())}) as hosts:
        error = failure(hosts, "run", run, argv=["true"])

    assert (error.failure_code, error.failure_retryable, error.before_effect) == ("host_unreachable", True, True)
    assert run.effects_begun == 0


def test_who_waited_for_a_handshake_that_fails_does_not_wait_for_another_one(remote: Remote) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = msgspec.structs.replace(remote.settings, port=silent.getsockname()[1])
        with droplets({"box": settings}, connect_timeout_s=0.6) as hosts, ThreadPoolExecutor(20) as threads:
            began = time.monotonic()
            errors = [
                future.result() for future in [threads.submit(failure, hosts, "run", argv=["true"]) for _ in range(20)]
            ]
            took_s = time.monotonic() - began

    assert {error.failure_code for error in errors} == {"host_unreachable"}
    assert took_s < 4 * 0.6


def test_a_host_behind_another_one_is_reached_through_it(tmp_path: Path) -> None:
    with openssh_hosts(tmp_path, "door", "inner") as remotes:
        settings = {
            "door": remotes["door"].settings,
            "inner": msgspec.structs.replace(remotes["inner"].settings, jump="door"),
        }
        with droplets(settings, runs_folder=str(tmp_path / "kept"), idle_s=0.3) as hosts:
            result = call(hosts, "run", argv=["echo", "inside"], host="inner")

            assert result.stdout == "inside\n"
            assert (_connections(hosts, "door"), _connections(hosts, "inner")) == (1, 1)
            until(lambda: _connections(hosts, "inner") == _connections(hosts, "door") == 0, "both are closed", 5)


def test_a_host_that_cannot_be_reached_from_its_jump_host_is_unreachable(tmp_path: Path, remote: Remote) -> None:
    settings = {
        "door": remote.settings,
        "inner": msgspec.structs.replace(remote.settings, port=free_port(), jump="door"),
    }
    with droplets(settings) as hosts:
        error = failure(hosts, "run", argv=["true"], host="inner")

    assert (error.failure_code, error.before_effect) == ("host_unreachable", True)


def test_behind_a_jump_host_the_key_is_checked_all_the_same(tmp_path: Path, remote: Remote) -> None:
    other = make_keys(tmp_path / "other", 1).host_line
    settings = {
        "door": remote.settings,
        "inner": msgspec.structs.replace(remote.settings, jump="door", host_key=other),
    }
    with droplets(settings) as hosts:
        error = failure(hosts, "run", argv=["true"], host="inner")

    assert error.failure_code == "host_key"


def test_a_forked_child_leaves_the_parents_connection_alone(hosts: Hosts) -> None:
    call(hosts, "run", argv=["true"])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if call(hosts, "run", argv=["echo", "child"]).stdout == "child\n" else 1
        finally:
            os._exit(code)

    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert call(hosts, "run", argv=["echo", "parent"]).stdout == "parent\n"
