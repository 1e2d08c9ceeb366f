"""Changing files of a real OpenSSH server: writing, making folders, moving, deleting."""

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.droplet.hosts import Hosts
from tasks.operation import NOT_DONE
from tests.servers.droplets import call, droplets, failure, probe
from tests.servers.sshd import Remote, openssh
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed

pytestmark = pytest.mark.needs_sshd


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with openssh(tmp_path_factory.mktemp("remote")) as served:
        yield served


@pytest.fixture(scope="module")
def hosts(remote: Remote) -> Iterator[Hosts]:
    with droplets({"box": remote.settings}) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "on the host"
    made.mkdir()
    return made.resolve()


# -- writing ---------------------------------------------------------------------------------------------------------


def test_a_file_is_written_and_the_second_time_nothing_changes(hosts: Hosts, folder: Path) -> None:
    run = FakeRun()

    first = call(hosts, "write_file", run, path=str(folder / "new"), content="grüße\r\n")
    inode = (folder / "new").stat().st_ino
    second = call(hosts, "write_file", path=str(folder / "new"), content="grüße\r\n")

    assert (folder / "new").read_bytes() == "grüße\r\n".encode()
    assert (first.created, first.changed, first.synced) == (True, True, True)
    assert (second.created, second.changed) == (False, False)
    assert (folder / "new").stat().st_ino == inode
    assert (run.effects_begun, run.places) == (1, ["box"])
    assert os.listdir(folder) == ["new"]


def test_bytes_are_written_from_base64(hosts: Hosts, folder: Path) -> None:
    call(hosts, "write_file", path=str(folder / "raw"), content="/wD+", encoding="base64")

    assert (folder / "raw").read_bytes() == b"\xff\x00\xfe"


@pytest.mark.parametrize("content", ["no base64!", "/wD"])
def test_wrong_base64_is_refused(hosts: Hosts, folder: Path, content: str) -> None:
    error = failure(hosts, "write_file", path=str(folder / "x"), content=content, encoding="base64")

    assert (error.failure_code, error.before_effect) == ("invalid_text", True)


def test_permissions_of_a_replaced_file_are_kept_but_for_setuid(hosts: Hosts, folder: Path) -> None:
    target = folder / "script"
    target.write_text("old")
    target.chmod(0o6751)

    call(hosts, "write_file", path=str(target), content="new")

    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o7777 == 0o751


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_owner_of_a_replaced_file_is_kept(hosts: Hosts, folder: Path) -> None:
    target = folder / "theirs"
    target.write_text("old")
    os.chown(target, 1234, 4321)

    call(hosts, "write_file", path=str(target), content="new")

    assert (target.stat().st_uid, target.stat().st_gid) == (1234, 4321)


def test_create_leaves_what_is_there_and_takes_its_own_content_for_done(hosts: Hosts, folder: Path) -> None:
    (folder / "there").write_text("old")

    error = failure(hosts, "write_file", path=str(folder / "there"), content="new", mode="create")
    again = call(hosts, "write_file", path=str(folder / "there"), content="old", mode="create")

    assert (error.failure_code, error.before_effect) == ("exists", True)
    assert (again.changed, (folder / "there").read_text()) == (False, "old")
    assert os.listdir(folder) == ["there"]


def test_an_expected_hash_is_compared(hosts: Hosts, folder: Path) -> None:
    target = folder / "guarded"
    target.write_text("one")
    known = call(hosts, "read_file", path=str(target)).sha256

    call(hosts, "write_file", path=str(target), content="two", expected_sha256=known)
    stale = failure(hosts, "write_file", path=str(target), content="three", expected_sha256=known)
    gone = failure(hosts, "write_file", path=str(folder / "gone"), content="x", expected_sha256=known)

    assert (stale.failure_code, gone.failure_code) == ("conflict", "conflict")
    assert target.read_text() == "two"
    assert not (folder / "gone").exists()


def test_of_many_writers_with_the_same_expected_hash_one_wins(hosts: Hosts, folder: Path) -> None:
    target = folder / "counter"
    target.write_text("0")
    known = hashlib.sha256(b"0").hexdigest()
    outcomes: list[str] = []

    def write(number: int) -> None:
        try:
            call(hosts, "write_file", path=str(target), content=f"writer {number}", expected_sha256=known)
            outcomes.append("written")
        except OperationFailed as error:
            outcomes.append(error.failure_code)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["conflict"] * 11 + ["written"]


def test_missing_folders_are_made_only_when_asked(hosts: Hosts, folder: Path) -> None:
    path = str(folder / "a" / "b c" / "file")

    refused = failure(hosts, "write_file", path=path, content="x")
    call(hosts, "write_file", path=path, content="x", make_parents=True)

    assert refused.failure_code == "not_found"
    assert Path(path).read_text() == "x"


def test_litter_of_lost_attempts_is_removed_by_the_next_write(hosts: Hosts, folder: Path) -> None:
    first = FakeRun()
    call(hosts, "write_file", first, path=str(folder / "target"), content="one")
    mark = hashlib.sha256(b"target").hexdigest()[:16]
    call_mark = hashlib.sha256(first.call.id.encode()).hexdigest()[:16]
    same_call = folder / f".{mark}.{call_mark}-1.toolswarm-tmp"
    old = folder / f".{mark}.{'0' * 16}-1.toolswarm-tmp"
    young = folder / f".{mark}.{'1' * 16}-1.toolswarm-tmp"
    another = folder / f".{'2' * 16}.{'0' * 16}-1.toolswarm-tmp"
    for litter in (same_call, old, young, another):
        litter.touch()
    for litter in (old, another):
        os.utime(litter, (1, 1))
    first.fence = 2

    call(hosts, "write_file", first, path=str(folder / "target"), content="two")

    assert sorted(os.listdir(folder)) == sorted([young.name, another.name, "target"])


def test_nothing_is_left_when_the_worker_says_no_at_the_last_moment(hosts: Hosts, folder: Path) -> None:
    run = FakeRun()
    run.lost = RuntimeError("another attempt holds the call")

    with pytest.raises(RuntimeError, match="another attempt"):
        call(hosts, "write_file", run, path=str(folder / "x"), content="x")

    assert os.listdir(folder) == []


def test_nothing_is_written_when_the_call_was_stopped(hosts: Hosts, folder: Path) -> None:
    run = FakeRun()
    run.stop = True

    error = failure(hosts, "write_file", run, path=str(folder / "x"), content="x")

    assert (error.failure_code, error.before_effect) == ("stopped", True)
    assert os.listdir(folder) == []


# -- folders, moving, deleting ---------------------------------------------------------------------------------------


def test_a_folder_is_made_once(hosts: Hosts, folder: Path) -> None:
    first = call(hosts, "make_directory", path=str(folder / "new"))
    second = call(hosts, "make_directory", path=str(folder / "new"))
    deep = call(hosts, "make_directory", path=f"{folder}/a/b/", make_parents=True)

    assert (first.created, second.created, deep.created) == (True, False, True)
    assert (folder / "a" / "b").is_dir()


def test_a_folder_without_the_one_above_it_is_refused(hosts: Hosts, folder: Path) -> None:
    (folder / "file").touch()

    assert failure(hosts, "make_directory", path=f"{folder}/a/b").failure_code == "not_found"
    assert failure(hosts, "make_directory", path=f"{folder}/file").failure_code == "not_a_directory"
    under_file = failure(hosts, "make_directory", path=f"{folder}/file/x", make_parents=True)
    assert under_file.failure_code == "not_a_directory"


def test_files_and_folders_are_moved(hosts: Hosts, folder: Path) -> None:
    (folder / "old").mkdir()
    (folder / "old" / "file").write_text("x")
    run = FakeRun()

    moved = call(hosts, "move", run, path=f"{folder}/old", destination=f"{folder}/new name")

    assert (moved.path, moved.destination) == (f"{folder}/old", f"{folder}/new name")
    assert (folder / "new name" / "file").read_text() == "x"
    assert run.effects_begun == 1


def test_a_move_replaces_a_file_only_when_asked_and_a_folder_never(hosts: Hosts, folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).write_text(name)
    (folder / "c").mkdir()

    refused = failure(hosts, "move", path=f"{folder}/a", destination=f"{folder}/b")
    onto_folder = failure(hosts, "move", path=f"{folder}/a", destination=f"{folder}/c", overwrite=True)
    call(hosts, "move", path=f"{folder}/a", destination=f"{folder}/b", overwrite=True)

    assert (refused.failure_code, onto_folder.failure_code) == ("exists", "exists")
    assert (folder / "b").read_text() == "a"


def test_a_link_is_moved_itself_and_a_folder_not_into_itself(hosts: Hosts, folder: Path) -> None:
    (folder / "link").symlink_to("nowhere")
    (folder / "tree").mkdir()

    call(hosts, "move", path=f"{folder}/link", destination=f"{folder}/other")
    error = failure(hosts, "move", path=f"{folder}/tree", destination=f"{folder}/tree/inside")

    assert os.readlink(folder / "other") == "nowhere"
    assert error.failure_code == "path_refused"


def test_the_probe_of_a_move_tells_what_can_be_told(hosts: Hosts, folder: Path) -> None:
    arguments = {"path": f"{folder}/a", "destination": f"{folder}/b"}
    (folder / "a").write_text("x")
    before = probe(hosts, "move", **arguments)
    moved = call(hosts, "move", **arguments)

    after = probe(hosts, "move", **arguments)

    assert before is NOT_DONE
    assert after == moved
    (folder / "a").write_text("again")
    assert probe(hosts, "move", **arguments) is NOT_DONE
    with pytest.raises(Exception, match="does not tell"):
        probe(hosts, "move", **arguments, overwrite=True)


def test_files_links_and_empty_folders_are_deleted(hosts: Hosts, folder: Path) -> None:
    (folder / "file").touch()
    (folder / "empty").mkdir()
    (folder / "keep").mkdir()
    (folder / "link").symlink_to("keep")

    for name in ("file", "empty", "link"):
        assert call(hosts, "delete", path=f"{folder}/{name}").deleted == 1

    assert os.listdir(folder) == ["keep"]


def test_a_tree_is_deleted_only_when_asked_and_links_in_it_are_not_followed(hosts: Hosts, folder: Path) -> None:
    (folder / "outside").mkdir()
    (folder / "outside" / "precious").touch()
    tree = folder / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    for number in range(1200):
        (tree / "a" / f"file {number}").touch()
    (tree / "a" / "b" / "link").symlink_to(folder / "outside")
    run = FakeRun()

    refused = failure(hosts, "delete", path=str(tree))
    too_many = failure(hosts, "delete", path=str(tree), recursive=True, max_entries=1000)
    count = call(hosts, "delete", run, path=str(tree), recursive=True).deleted

    assert (refused.failure_code, too_many.failure_code, too_many.before_effect) == ("not_empty", "too_large", True)
    assert count == 1204
    assert (folder / "outside" / "precious").exists()
    assert not tree.exists()
    assert run.told[-1] == {"done": 1204, "total": 1204}


def test_that_nothing_is_there_is_an_error_unless_said_otherwise(hosts: Hosts, folder: Path) -> None:
    error = failure(hosts, "delete", path=f"{folder}/none")
    fine = call(hosts, "delete", path=f"{folder}/none", missing_ok=True)

    assert (error.failure_code, error.before_effect) == ("not_found", True)
    assert fine.deleted == 0


def test_the_probe_of_a_delete_looks_whether_it_is_gone(hosts: Hosts, folder: Path) -> None:
    (folder / "file").touch()
    before = probe(hosts, "delete", path=f"{folder}/file")
    call(hosts, "delete", path=f"{folder}/file")

    after = probe(hosts, "delete", path=f"{folder}/file")

    assert before is NOT_DONE
    assert after.deleted is None
