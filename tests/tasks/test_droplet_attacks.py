"""What must fail: paths that lead out, names that are commands, links that break at any byte."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.droplet.hosts import Hosts
from tests.servers.droplets import call, droplets, failure
from tests.servers.relay import relay
from tests.servers.sshd import Remote, openssh
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed

needs_sshd = pytest.mark.needs_sshd


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with openssh(tmp_path_factory.mktemp("remote")) as served:
        yield served


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return (tmp_path / "here").resolve()


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A root on the host, beside folders whose names begin alike, with links that lead out of it."""
    root = (tmp_path / "there").resolve()
    root.mkdir()
    (root / "inside").mkdir()
    (root / "inside" / "file").write_text("allowed")
    outside = tmp_path.resolve() / "there_evil"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (root / "to_file").symlink_to(outside / "secret")
    (root / "to_folder").symlink_to(outside)
    (root / "to_nothing").symlink_to(outside / "new")
    (root / "to_inside").symlink_to("inside")
    return root


@pytest.fixture
def hosts(remote: Remote, here: Path) -> Iterator[Hosts]:
    with droplets({"box": remote.settings}, local=here) as opened:
        yield opened


@pytest.fixture
def rooted(remote: Remote, here: Path, there: Path) -> Iterator[Hosts]:
    with droplets({"box": remote.settings}, local=here, roots=(str(there),)) as opened:
        yield opened


def _every_operation(path: str) -> list[tuple[str, dict[str, Any]]]:
    """All that take a remote path, with this one."""
    return [
        ("read_file", {"path": path}),
        ("stat", {"path": path}),
        ("list_directory", {"path": path}),
        ("write_file", {"path": path, "content": "x"}),
        ("write_file", {"path": path, "content": "x", "make_parents": True}),
        ("make_directory", {"path": path}),
        ("make_directory", {"path": path, "make_parents": True}),
        ("move", {"path": path, "destination": "inside/moved"}),
        ("move", {"path": "inside/file", "destination": path, "overwrite": True}),
        ("delete", {"path": path, "recursive": True, "missing_ok": True}),
        ("upload", {"path": path, "local_path": "local", "make_parents": True}),
        ("download", {"path": path, "local_path": "new"}),
    ]


# -- paths on the host -----------------------------------------------------------------------------------------------


@needs_sshd
@pytest.mark.parametrize(
    "path",
    [
        "../there_evil/secret",
        "inside/../../there_evil/secret",
        "{root}/../there_evil/secret",
        "{root}//.././there_evil/secret",
        "{root}_evil/secret",
        "/etc/passwd",
        "/",
        "{root}/..",
        "to_folder/secret",
        "to_folder/new",
        "to_folder/a/b",
        "inside/../to_folder/secret",
        "/proc/self/root/etc/passwd",
        "/no/such/folder/at/all",
    ],
)
def test_no_operation_leaves_the_tenants_roots(rooted: Hosts, here: Path, there: Path, path: str) -> None:
    (here / "local").write_text("x")
    spelled = path.format(root=there)

    codes = {
        operation: failure(rooted, operation, **arguments).failure_code
        for operation, arguments in _every_operation(spelled)
    }

    assert set(codes.values()) == {"path_refused"}
    assert os.listdir(there.parent / "there_evil") == ["secret"]
    assert (there.parent / "there_evil" / "secret").read_text() == "secret"
    assert os.listdir(here) == ["local"]
    assert (there / "inside" / "file").read_text() == "allowed"


@needs_sshd
def test_a_link_that_leads_out_is_not_followed_but_can_be_moved_and_deleted(rooted: Hosts, there: Path) -> None:
    for name in ("to_file", "to_nothing"):
        for operation in ("read_file", "download"):
            arguments = {"path": name} | ({"local_path": "x"} if operation == "download" else {})
            assert failure(rooted, operation, **arguments).failure_code == "path_refused"
        assert failure(rooted, "write_file", path=name, content="x").failure_code == "path_refused"
        assert call(rooted, "stat", path=name).kind == "symlink"
    call(rooted, "move", path="to_file", destination="moved")
    call(rooted, "delete", path="to_folder")

    assert os.readlink(there / "moved").endswith("secret")
    assert sorted(os.listdir(there.parent / "there_evil")) == ["secret"]


@needs_sshd
def test_within_the_roots_all_works_with_relative_and_absolute_paths(rooted: Hosts, there: Path) -> None:
    listed = call(rooted, "list_directory").entries
    written = call(rooted, "write_file", path="to_inside/new", content="x")

    assert [entry.name for entry in listed] == ["inside", "to_file", "to_folder", "to_inside", "to_nothing"]
    assert written.path == f"{there}/inside/new"
    assert call(rooted, "read_file", path=f"{there}/inside/file").content == "allowed"
    assert call(rooted, "stat", path=str(there)).kind == "directory"


@needs_sshd
def test_the_root_itself_and_the_login_folder_are_not_deleted(rooted: Hosts, hosts: Hosts, there: Path) -> None:
    home = os.path.expanduser("~")

    codes = [failure(rooted, "delete", path=path, recursive=True).failure_code for path in (".", str(there))]
    codes += [failure(hosts, "delete", path=path, recursive=True).failure_code for path in (".", home, "/")]

    assert set(codes) == {"path_refused"}
    assert (there / "inside").is_dir()


@needs_sshd
def test_a_root_that_is_not_there_allows_nothing(remote: Remote, here: Path, tmp_path: Path) -> None:
    with droplets({"box": remote.settings}, local=here, roots=(str(tmp_path / "no" / "root"),)) as opened:
        code = failure(opened, "read_file", path="/etc/passwd").failure_code

    assert code == "root_missing"


@needs_sshd
@pytest.mark.parametrize("path", ["a\0b", "\0", "/etc/\\x00", "", "x" * 5000, "y" * 256, "\ud800"])
def test_impossible_paths_are_refused_and_the_connection_lives_on(hosts: Hosts, here: Path, path: str) -> None:
    (here / "local").write_text("x")
    call(hosts, "stat", path="/")
    began = time.monotonic()

    codes = {
        failure_of(hosts, operation, arguments)
        for operation, arguments in _every_operation(path)
        if path in arguments.values()
    }

    assert codes <= {"path_refused", "invalid_arguments"}
    assert time.monotonic() - began < 2
    assert call(hosts, "stat", path="/").kind == "directory"


def failure_of(hosts: Hosts, operation: str, arguments: dict[str, Any]) -> str:
    try:
        call(hosts, operation, **arguments)
    except OperationFailed as error:
        return error.failure_code
    except Exception as error:  # noqa: BLE001 (of the arguments: before the operation)
        return getattr(error, "code", repr(error))
    return "succeeded"


@needs_sshd
@pytest.mark.parametrize(
    "name",
    [
        "'; touch witness; '",
        "$(touch witness)",
        "`touch witness`",
        "a\ntouch witness\n",
        '"; touch witness; "',
        "-rf",
        "--help",
        "~",
        "$HOME",
        "*",
        "a b  c",
        "%2e%2e%2f",
        "\\xff\\xfe",
        "\x1b]52;c;eA==\x07",
        "file:",
    ],
)
def test_names_that_are_commands_are_names(hosts: Hosts, here: Path, there: Path, name: str) -> None:
    (here / "local").write_text("content")
    path = f"{there}/{name}"

    uploaded = call(hosts, "upload", local_path="local", path=path)
    read = call(hosts, "read_file", path=path)
    call(hosts, "download", path=path, local_path="copy", expected_sha256=uploaded.sha256)
    call(hosts, "move", path=path, destination=f"{path}.moved")
    call(hosts, "make_directory", path=path)
    call(hosts, "write_file", path=f"{path}/{name}", content="x")
    deleted = call(hosts, "delete", path=path, recursive=True)

    assert (uploaded.verified, read.content, (here / "copy").read_text()) == ("sha256", "content", "content")
    assert deleted.deleted == 2
    assert call(hosts, "stat", path=f"{path}.moved").size_bytes == 7
    witnesses = [Path.home() / "witness", there / "witness", here / "witness", Path.cwd() / "witness"]
    assert not any(witness.exists() for witness in witnesses)


@needs_sshd
@pytest.mark.parametrize("host", ["-oProxyCommand=id", "box;id", "box\nbox", "$(id)", "../box", "box\0"])
def test_a_host_that_is_not_configured_is_refused_by_every_operation(hosts: Hosts, here: Path, host: str) -> None:
    (here / "local").write_text("x")

    codes = {
        failure(hosts, operation, host=host, **arguments).failure_code
        for operation, arguments in _every_operation("inside/file")
    }

    assert codes == {"host_not_configured"}


@needs_sshd
@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_what_is_no_file_is_refused_at_once(hosts: Hosts, here: Path, there: Path, kind: str) -> None:
    (here / "local").write_text("x")
    path = _no_file(there, kind)
    began = time.monotonic()

    codes = {
        operation: failure(hosts, operation, **arguments).failure_code
        for operation, arguments in [
            ("read_file", {"path": path}),
            ("write_file", {"path": path, "content": "x"}),
            ("upload", {"path": path, "local_path": "local"}),
            ("download", {"path": path, "local_path": "new"}),
        ]
    }

    assert set(codes.values()) == {"path_refused"}
    assert time.monotonic() - began < 1


def _no_file(folder: Path, kind: str) -> str:
    if kind == "device":
        return "/dev/zero"
    path = folder / kind
    if kind == "fifo":
        os.mkfifo(path)
    else:
        os.mknod(path, 0o140600)
    return str(path)


# -- paths here ------------------------------------------------------------------------------------------------------


@needs_sshd
@pytest.mark.parametrize(
    "path", ["../outside", "/etc/passwd", "link/passwd", "~/.ssh/id_rsa", "a/../../outside", "dangling", "a\0b", "fifo"]
)
def test_nothing_outside_the_local_root_is_sent_or_written(hosts: Hosts, here: Path, there: Path, path: str) -> None:
    (here.parent / "outside").write_text("private")
    (here / "link").symlink_to("/etc")
    (here / "dangling").symlink_to(here.parent / "new")
    os.mkfifo(here / "fifo")
    before = sorted(os.listdir(here.parent))

    up = failure(hosts, "upload", local_path=path, path=f"{there}/stolen")
    down = failure(hosts, "download", path=f"{there}/inside/file", local_path=path)

    assert up.failure_code in ("path_refused", "not_found")
    assert down.failure_code in ("path_refused", "not_found")
    assert not (there / "stolen").exists()
    assert sorted(os.listdir(here.parent)) == before
    assert (here.parent / "outside").read_text() == "private"


# -- links that break ------------------------------------------------------------------------------------------------


@needs_sshd
def test_a_write_that_is_cut_at_any_byte_leaves_the_old_content_or_the_new(
    remote: Remote, here: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_text("old" * 1000)
    new = "new" * 1000
    seen: set[tuple[str, str]] = set()

    with relay(remote.port) as between, droplets({"box": remote.through(between.port)}, local=here) as hosts:
        call(hosts, "stat", path="/")
        for cut in range(60, 6000, 220):
            target.write_text("old" * 1000)
            call(hosts, "stat", path="/")
            between.cut_after(up_bytes=cut)
            outcome = failure_of(hosts, "write_file", {"path": str(target), "content": new})
            between.cut_after()
            seen.add((outcome, target.read_text()[:3]))
            assert target.read_text() in ("old" * 1000, new)

        assert call(hosts, "write_file", path=str(target), content="end").sha256

    assert ("connection_lost", "old") in seen
    assert ("succeeded", "new") in seen
    assert ("succeeded", "old") not in seen
    assert {outcome for outcome, _ in seen} == {"connection_lost", "succeeded"}


@needs_sshd
def test_a_lost_link_says_whether_anything_may_have_been_done(remote: Remote, here: Path, tmp_path: Path) -> None:
    with relay(remote.port) as between, droplets({"box": remote.through(between.port)}, local=here) as hosts:
        call(hosts, "stat", path="/")
        run = FakeRun()
        run.begin_effect = _then(run.begin_effect, between.reset)  # type: ignore[method-assign]

        error = failure(hosts, "write_file", run, path=f"{tmp_path}/x", content="x")

    assert (error.failure_code, error.failure_retryable, error.before_effect) == ("connection_lost", True, False)


def _then(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        first()
        second()

    return both


@needs_sshd
def test_a_forked_child_leaves_the_parents_files_alone(hosts: Hosts, there: Path) -> None:
    call(hosts, "stat", path="/")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if call(hosts, "read_file", path=f"{there}/inside/file").content == "allowed" else 1
        finally:
            os._exit(code)

    _, ended = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(ended) == 0
    assert call(hosts, "read_file", path=f"{there}/inside/file").content == "allowed"
