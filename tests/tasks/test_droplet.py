"""Files of the demo's server and of a real one, as far as both have them; see test_droplet_files for the rest."""

import os
import time
from collections.abc import Generator

import pytest

from tasks.droplet.hosts import Hosts
from tests.servers.droplets import call, droplets, failure
from tests.servers.sshd import Remote, demo, openssh


@pytest.fixture(scope="module", params=["demo", pytest.param("openssh", marks=pytest.mark.needs_sshd)])
def remote(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Remote, None, None]:
    serve = {"demo": demo, "openssh": openssh}[request.param]
    with serve(tmp_path_factory.mktemp("remote")) as served:
        yield served


@pytest.fixture
def hosts(remote: Remote) -> Generator[Hosts, None, None]:
    with droplets({"box": remote.settings}) as opened:
        yield opened


def test_a_file_is_read(hosts: Hosts, remote: Remote) -> None:
    (remote.folder / "note.txt").write_text("grüße\n" * 20_000)

    whole = call(hosts, "read_file", path=remote.path("note.txt"))
    start = call(hosts, "read_file", path=remote.path("note.txt"), max_bytes=3)

    assert whole.content == "grüße\n" * 20_000
    assert (start.content, start.truncated, start.encoding) == ("gr", True, "utf-8")


@pytest.mark.parametrize(
    ("name", "code"),
    [("missing", "not_found"), ("folder", "is_a_directory"), ("fifo", "path_refused"), ("a\0b", "path_refused")],
)
def test_what_is_no_file_is_refused_at_once(hosts: Hosts, remote: Remote, name: str, code: str) -> None:
    (remote.folder / "folder").mkdir(exist_ok=True)
    if not (remote.folder / "fifo").exists():
        os.mkfifo(remote.folder / "fifo")
    began = time.monotonic()

    error = failure(hosts, "read_file", path=remote.path(name))

    # The demo's server refuses a FIFO itself, by its rights.
    assert error.failure_code == code or (remote.kind, name) == ("demo", "fifo")
    assert error.before_effect
    assert time.monotonic() - began < 2
