"""Uploads and downloads, over links that break: resumed, checked, and never half in place."""

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.tool_settings import DropletHost
from tasks.droplet.hosts import Hosts
from tests.servers.droplets import call, droplets, failure
from tests.servers.relay import Relay, relay
from tests.servers.sshd import Remote, kill_connections, openssh
from tests.servers.waiting import until
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed

pytestmark = pytest.mark.needs_sshd
_MIB = 1 << 20


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with openssh(tmp_path_factory.mktemp("remote")) as served:
        yield served


@pytest.fixture
def between(remote: Remote) -> Iterator[Relay]:
    with relay(remote.port) as running:
        yield running


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return _made(tmp_path / "there")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return _made(tmp_path / "here")


@pytest.fixture
def hosts(remote: Remote, between: Relay, here: Path) -> Iterator[Hosts]:
    with droplets({"box": _through(remote, between)}, local=here) as opened:
        yield opened


@pytest.fixture(scope="module")
def content() -> bytes:
    return os.urandom(12 * _MIB + 12_345)


def test_a_file_is_uploaded_and_checked_and_the_second_time_nothing_is_sent(
    hosts: Hosts, here: Path, there: Path, content: bytes, between: Relay
) -> None:
    (here / "app.bin").write_bytes(content)
    run = FakeRun()

    first = call(hosts, "upload", run, local_path="app.bin", path=f"{there}/app.bin")
    sent_bytes = between.up_bytes
    second = call(hosts, "upload", local_path="app.bin", path=f"{there}/app.bin")

    assert (there / "app.bin").read_bytes() == content
    assert (first.sha256, first.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert (first.created, first.changed, first.verified, first.synced) == (True, True, "sha256", True)
    assert (second.created, second.changed) == (False, False)
    assert between.up_bytes - sent_bytes < _MIB
    assert run.told[-1] == {"done_bytes": len(content), "total_bytes": len(content)}
    assert run.effects_begun == 1
    assert os.listdir(there) == ["app.bin"]


def test_a_file_is_downloaded_and_the_second_time_nothing_is_changed(
    hosts: Hosts, here: Path, there: Path, content: bytes
) -> None:
    (there / "data").write_bytes(content)
    run = FakeRun()

    first = call(hosts, "download", run, path=f"{there}/data", local_path="in/data", make_parents=True)
    inode = (here / "in" / "data").stat().st_ino
    second = call(hosts, "download", path=f"{there}/data", local_path="in/data")

    assert (here / "in" / "data").read_bytes() == content
    assert (first.sha256, first.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert (first.created, first.changed, second.changed) == (True, True, False)
    assert (here / "in" / "data").stat().st_ino == inode
    assert run.told[-1] == {"done_bytes": len(content), "total_bytes": len(content)}
    assert os.listdir(here / "in") == ["data"]


@pytest.mark.parametrize("size_bytes", [0, 1, 32_768, 261_120, 261_121])
def test_files_of_every_size_arrive_whole(hosts: Hosts, here: Path, there: Path, size_bytes: int) -> None:
    raw = os.urandom(size_bytes)
    (here / "up").write_bytes(raw)

    call(hosts, "upload", local_path="up", path=f"{there}/x")
    call(hosts, "download", path=f"{there}/x", local_path="down")

    assert (there / "x").read_bytes() == raw
    assert (here / "down").read_bytes() == raw


def test_an_upload_that_was_cut_leaves_the_target_alone_and_goes_on_where_it_ended(
    hosts: Hosts, here: Path, there: Path, content: bytes, between: Relay
) -> None:
    (here / "app").write_bytes(content)
    (there / "app").write_text("old")
    call(hosts, "stat", path=str(there))
    between.cut_after(up_bytes=8 * _MIB)

    error = failure(hosts, "upload", local_path="app", path=f"{there}/app")
    after_cut = (there / "app").read_text()
    sent_bytes = between.up_bytes
    resumed = call(hosts, "upload", local_path="app", path=f"{there}/app")

    assert (error.failure_code, error.failure_retryable, error.before_effect) == ("connection_lost", True, True)
    assert after_cut == "old"
    assert resumed.resumed_from_bytes > 4 * _MIB
    assert between.up_bytes - sent_bytes < len(content) - 4 * _MIB + _MIB
    assert (resumed.verified, (there / "app").read_bytes() == content) == ("sha256", True)
    assert os.listdir(there) == ["app"]


def test_a_download_that_was_cut_goes_on_where_it_ended(
    hosts: Hosts, here: Path, there: Path, content: bytes, between: Relay
) -> None:
    (there / "data").write_bytes(content)
    call(hosts, "stat", path=str(there))
    between.cut_after(down_bytes=8 * _MIB)

    error = failure(hosts, "download", path=f"{there}/data", local_path="data")
    left = (here / "data").exists()
    received_bytes = between.down_bytes
    resumed = call(hosts, "download", path=f"{there}/data", local_path="data")

    assert (error.failure_code, error.before_effect, left) == ("connection_lost", True, False)
    assert resumed.resumed_from_bytes > 4 * _MIB
    assert between.down_bytes - received_bytes < len(content) - 2 * _MIB
    assert (resumed.verified, (here / "data").read_bytes() == content) == ("sha256", True)
    assert os.listdir(here) == ["data"]


def test_a_download_of_a_file_that_has_changed_meanwhile_begins_anew(
    hosts: Hosts, here: Path, there: Path, content: bytes, between: Relay
) -> None:
    (there / "data").write_bytes(content)
    call(hosts, "stat", path=str(there))
    between.cut_after(down_bytes=4 * _MIB)
    failure(hosts, "download", path=f"{there}/data", local_path="data")
    other = os.urandom(len(content))
    (there / "data").write_bytes(other)
    os.utime(there / "data", (5, 5))

    result = call(hosts, "download", path=f"{there}/data", local_path="data")

    assert result.resumed_from_bytes == 0
    assert (here / "data").read_bytes() == other
    assert os.listdir(here) == ["data"]


def test_what_was_left_and_does_not_fit_is_not_gone_on_with(
    hosts: Hosts, here: Path, there: Path, content: bytes, between: Relay
) -> None:
    (here / "app").write_bytes(content)
    call(hosts, "stat", path=str(there))
    between.cut_after(up_bytes=8 * _MIB)
    failure(hosts, "upload", local_path="app", path=f"{there}/app")
    (left,) = there.iterdir()
    left.write_bytes(b"\0" * left.stat().st_size)

    result = call(hosts, "upload", local_path="app", path=f"{there}/app")

    assert (result.resumed_from_bytes, (there / "app").read_bytes() == content) == (0, True)


def test_damage_in_what_was_left_is_found_by_the_hash(
    hosts: Hosts, here: Path, there: Path, content: bytes, between: Relay
) -> None:
    (here / "app").write_bytes(content)
    call(hosts, "stat", path=str(there))
    between.cut_after(up_bytes=8 * _MIB)
    failure(hosts, "upload", local_path="app", path=f"{there}/app")
    (left,) = there.iterdir()
    with left.open("r+b") as file:
        file.write(b"damaged")

    error = failure(hosts, "upload", local_path="app", path=f"{there}/app")
    again = call(hosts, "upload", local_path="app", path=f"{there}/app")

    assert (error.failure_code, error.failure_retryable) == ("checksum_mismatch", True)
    assert (again.resumed_from_bytes, (there / "app").read_bytes() == content) == (0, True)


def test_the_connection_is_killed_again_and_again_and_the_file_arrives(
    remote: Remote, hosts: Hosts, here: Path, there: Path, content: bytes
) -> None:
    (here / "app").write_bytes(content * 2)
    lost: list[str] = []
    kills = iter(range(3))

    for _ in range(10):
        run = FakeRun()
        if next(kills, None) is not None:
            threading.Thread(target=_kill_when_told, args=(remote, run)).start()
        try:
            call(hosts, "upload", run, local_path="app", path=f"{there}/app")
            break
        except OperationFailed as error:
            lost.append(error.failure_code)

    assert set(lost) <= {"connection_lost", "host_unreachable"}
    assert (there / "app").read_bytes() == content * 2


def test_a_black_hole_ends_with_the_attempts_time_and_leaves_nothing_at_the_target(
    hosts: Hosts, there: Path, between: Relay
) -> None:
    call(hosts, "stat", path=str(there))
    between.black_hole()

    error = failure(hosts, "write_file", FakeRun(limit_s=1.0), path=f"{there}/x", content="x")

    assert error.failure_code in ("time_limit", "host_busy", "host_unreachable")
    between.reset()
    between.resume()
    assert call(hosts, "write_file", path=f"{there}/x", content="x").created


def test_an_upload_is_stopped_between_two_chunks(hosts: Hosts, here: Path, there: Path, content: bytes) -> None:
    (here / "app").write_bytes(content)
    run = _StopsWhenTold()

    error = failure(hosts, "upload", run, local_path="app", path=f"{there}/app")

    assert (error.failure_code, error.before_effect) == ("stopped", True)
    assert not (there / "app").exists()


def test_a_slow_link_is_filled(hosts: Hosts, here: Path, there: Path, content: bytes, between: Relay) -> None:
    (there / "data").write_bytes(content)
    call(hosts, "stat", path=str(there))
    between.delay_s = 0.02

    run = FakeRun(limit_s=10)
    call(hosts, "download", run, path=f"{there}/data", local_path="data")

    # One request of 32 KiB at a time would take 375 round trips of 40 ms and more: 15 s.
    assert run.remaining_s() > 2


def test_two_uploads_of_the_same_file_at_once_are_both_right(
    hosts: Hosts, here: Path, there: Path, content: bytes
) -> None:
    (here / "app").write_bytes(content)
    results: list[str] = []

    def send() -> None:
        results.append(call(hosts, "upload", local_path="app", path=f"{there}/app").sha256)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [hashlib.sha256(content).hexdigest()] * 4
    assert (there / "app").read_bytes() == content
    assert os.listdir(there) == ["app"]


def test_size_limits_hold_in_both_directions(remote: Remote, here: Path, there: Path) -> None:
    (here / "large").write_bytes(b"x" * 1001)
    (there / "large").write_bytes(b"x" * 1001)

    with droplets({"box": remote.settings}, local=here, max_transfer_bytes=1000) as hosts:
        codes = {
            failure(hosts, "upload", local_path="large", path=f"{there}/new").failure_code,
            failure(hosts, "download", path=f"{there}/large", local_path="new").failure_code,
        }
    with droplets({"box": remote.settings}, local=here) as hosts:
        codes.add(failure(hosts, "upload", local_path="large", path=f"{there}/new", max_bytes=10).failure_code)
        codes.add(failure(hosts, "download", path=f"{there}/large", local_path="new", max_bytes=10).failure_code)

    assert codes == {"too_large"}
    assert (os.listdir(here), os.listdir(there)) == (["large"], ["large"])


def test_an_expected_hash_of_a_download_is_compared_before_anything_is_replaced(
    hosts: Hosts, here: Path, there: Path
) -> None:
    (there / "data").write_text("not what you think")
    (here / "data").write_text("old")
    right = hashlib.sha256(b"not what you think").hexdigest()

    error = failure(hosts, "download", path=f"{there}/data", local_path="data", expected_sha256="0" * 64)
    kept = (here / "data").read_text()
    result = call(hosts, "download", path=f"{there}/data", local_path="data", expected_sha256=right)

    assert (error.failure_code, kept) == ("checksum_mismatch", "old")
    assert (result.verified, result.created) == ("sha256", False)
    assert os.listdir(here) == ["data"]


def test_create_replaces_nothing_in_either_direction(hosts: Hosts, here: Path, there: Path) -> None:
    (here / "a").write_text("here")
    (there / "a").write_text("there")

    up = failure(hosts, "upload", local_path="a", path=f"{there}/a", mode="create")
    down = failure(hosts, "download", path=f"{there}/a", local_path="a", mode="create")

    assert (up.failure_code, down.failure_code) == ("exists", "exists")
    assert ((here / "a").read_text(), (there / "a").read_text()) == ("here", "there")


def test_a_host_where_no_command_runs_is_read_back(tmp_path: Path, here: Path, there: Path, content: bytes) -> None:
    with (
        openssh(tmp_path / "sftp only", "-o", "ForceCommand=internal-sftp") as closed,
        relay(closed.port) as between,
        droplets({"box": _through(closed, between)}, local=here) as hosts,
    ):
        (here / "app").write_bytes(content)
        call(hosts, "stat", path=str(there))
        between.cut_after(up_bytes=8 * _MIB)
        failure(hosts, "upload", local_path="app", path=f"{there}/app")

        resumed = call(hosts, "upload", local_path="app", path=f"{there}/app")
        fresh = call(hosts, "upload", local_path="app", path=f"{there}/other")

    assert resumed.resumed_from_bytes > 4 * _MIB
    assert (resumed.verified, fresh.verified) == ("sha256", "size")
    assert (there / "app").read_bytes() == content


class _StopsWhenTold(FakeRun):
    def stop_requested(self) -> bool:
        return bool(self.told)


def _kill_when_told(remote: Remote, run: FakeRun) -> None:
    until(lambda: run.told, "something was transferred")
    kill_connections(remote)


def _through(remote: Remote, between: Relay) -> DropletHost:
    return remote.through(between.port)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder.resolve()
