"""Files of a real OpenSSH server: their names, what is in them, and the ways to the host."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from store.sections import Secret
from tasks.droplet.hosts import Hosts
from tasks.droplet.spelling import spelled, unspelled
from tests.servers.droplets import call, droplets, failure
from tests.servers.relay import relay
from tests.servers.ssh_keys import ClientKey, ed25519_key, encrypted_key, rsa_key
from tests.servers.sshd import Remote, openssh, openssh_hosts
from tests.servers.waiting import until
from tests.tasks.fake_run import FakeRun

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


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [b"plain", b"two words", b"-rf", b"a\nb", b"a\x1b]0;b", b"back\\slash", b"\\x41", b"\xff\xfe", "ü€".encode(), b"~"],
)
def test_every_name_is_listed_and_its_spelling_leads_to_it(hosts: Hosts, folder: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(name)

    listing = call(hosts, "list_directory", path=str(folder))

    (entry,) = listing.entries
    assert unspelled(entry.name) == name
    assert call(hosts, "stat", path=f"{folder}/{entry.name}").size_bytes == len(name)
    raw = call(hosts, "read_file", path=f"{listing.path}/{entry.name}", encoding="latin-1").content
    assert raw.encode("latin-1") == name


def test_spelling_hides_nothing_and_loses_nothing() -> None:
    names = [bytes([first, second]) for first in range(1, 256) for second in (0x41, 0x5C, 0x78, 0xC3, 0xA9)]
    names += ["a\u202eb".encode(), "\u200b".encode(), b"\\\\x41", b"\\"]

    texts = [spelled(name) for name in names]

    assert [unspelled(text) for text in texts] == names
    assert len(set(texts)) == len(set(names))
    assert all(text.isprintable() for text in texts)


def test_a_plain_backslash_that_spells_nothing_stands_for_itself() -> None:
    assert unspelled(r"a\b\q\x4") == rb"a\b\q\x4"


# -- reading ---------------------------------------------------------------------------------------------------------


def test_a_file_is_read_whole_with_the_hash_of_all_of_it(hosts: Hosts, folder: Path) -> None:
    raw = b"\xef\xbb\xbfone\r\ntwo\n\nlast"
    (folder / "note").write_bytes(raw)

    result = call(hosts, "read_file", path=str(folder / "note"))

    assert (result.content.encode(), result.encoding) == (raw, "utf-8")
    assert (result.sha256, result.size_bytes) == (hashlib.sha256(raw).hexdigest(), len(raw))
    assert (result.truncated, result.next_offset, result.next_byte) == (False, None, None)
    assert result.path == str(folder / "note")


def test_a_file_is_read_in_lines_part_by_part(hosts: Hosts, folder: Path) -> None:
    lines = [f"line {number}\n" for number in range(2500)]
    (folder / "log").write_text("".join(lines))
    parts: list[str] = []
    offset: int | None = 0

    while offset is not None:
        part = call(hosts, "read_file", path=str(folder / "log"), offset=offset, limit=700)
        parts.append(part.content)
        offset = part.next_offset

    assert parts == ["".join(lines[start : start + 700]) for start in range(0, 2500, 700)]


def test_a_line_that_is_too_long_is_cut_and_its_rest_can_be_read(hosts: Hosts, folder: Path) -> None:
    raw = ("ü" * 1000 + "\nnext\n").encode()
    (folder / "long").write_bytes(raw)

    head = call(hosts, "read_file", path=str(folder / "long"), max_bytes=101)
    rest = call(hosts, "read_file", path=str(folder / "long"), unit="bytes", offset=head.next_byte)

    assert (head.content, head.line_cut, head.next_offset) == ("ü" * 50, True, 1)
    assert head.content + rest.content == raw.decode()


def test_bytes_are_cut_where_no_character_is_broken(hosts: Hosts, folder: Path) -> None:
    (folder / "text").write_text("aüb€c")
    parts: list[str] = []
    offset: int | None = 0

    while offset is not None:
        part = call(hosts, "read_file", path=str(folder / "text"), unit="bytes", offset=offset, max_bytes=4)
        parts.append(part.content)
        offset = part.next_offset

    assert parts == ["aüb", "€c"]


def test_what_is_no_text_comes_as_base64_and_on_demand_as_latin_1(hosts: Hosts, folder: Path) -> None:
    (folder / "raw").write_bytes(b"\xff\x00\xfe")

    assert call(hosts, "read_file", path=str(folder / "raw")).content == "/wD+"
    assert call(hosts, "read_file", path=str(folder / "raw"), encoding="latin-1").content == "ÿ\0þ"


def test_a_file_that_the_kernel_makes_up_is_read_to_its_end(hosts: Hosts) -> None:
    result = call(hosts, "read_file", path="/proc/version")

    assert result.content == Path("/proc/version").read_text()
    assert result.size_bytes == len(result.content)


def test_an_offset_behind_the_end_is_an_empty_part(hosts: Hosts, folder: Path) -> None:
    (folder / "short").write_text("one\n")

    for unit in ("lines", "bytes"):
        result = call(hosts, "read_file", path=str(folder / "short"), unit=unit, offset=100)
        assert (result.content, result.next_offset) == ("", None)


def test_a_large_file_is_read_in_bytes_without_the_hash(hosts: Hosts, folder: Path) -> None:
    with (folder / "huge").open("wb") as file:
        file.truncate((64 << 20) + 1)
        file.seek(1 << 40)
        file.write(b"the end")

    result = call(hosts, "read_file", path=str(folder / "huge"), unit="bytes", offset=(1 << 40) - 1, limit=4)
    lines = failure(hosts, "read_file", path=str(folder / "huge"), offset=5)

    assert (result.content, result.sha256, result.next_offset) == ("\0the", None, (1 << 40) + 3)
    assert lines.failure_code == "too_large"


# -- looking ---------------------------------------------------------------------------------------------------------


def test_stat_tells_kinds_modes_times_and_the_target_of_a_link(hosts: Hosts, folder: Path) -> None:
    (folder / "file").write_text("12345")
    (folder / "file").chmod(0o640)
    os.utime(folder / "file", (1, 2))
    (folder / "link").symlink_to("not there\n")

    file = call(hosts, "stat", path=str(folder / "file"))
    link = call(hosts, "stat", path=str(folder / "link"))

    assert (file.kind, file.size_bytes, file.mode, file.accessed_at, file.modified_at) == ("file", 5, "0640", 1, 2)
    assert (file.owner, file.group) == (os.getuid(), (folder / "file").stat().st_gid)
    assert (link.kind, link.link_target) == ("symlink", "not there\\x0a")
    assert call(hosts, "stat", path=str(folder)).kind == "directory"
    assert failure(hosts, "stat", path=str(folder / "link"), follow=True).failure_code == "not_found"


def test_the_login_folder_and_the_root_have_a_stat(hosts: Hosts) -> None:
    assert call(hosts, "stat", path=".").path == os.path.expanduser("~")
    assert call(hosts, "stat", path="/").path == "/"


def test_a_large_folder_is_listed_in_pages_and_none_is_missed(hosts: Hosts, folder: Path) -> None:
    names = sorted(f"file {number}" for number in range(1000))
    for name in names:
        (folder / name).touch()
    (folder / ".0123456789abcdef.toolswarm-tmp").touch()
    found: list[str] = []
    cursor: str | None = None

    while True:
        page = call(hosts, "list_directory", path=str(folder), max_entries=300, cursor=cursor)
        found += [entry.name for entry in page.entries]
        cursor = page.cursor
        if cursor is None:
            break

    assert found == names
    assert not page.truncated


# -- ways to a host --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_key", [ed25519_key, rsa_key, encrypted_key])
def test_files_are_reached_with_every_kind_of_key(
    remote: Remote, folder: Path, tmp_path: Path, make_key: Callable[[Path], ClientKey]
) -> None:
    key = make_key(tmp_path / "keys")
    remote.authorize(key)
    (folder / "file").write_text("x")
    settings = msgspec.structs.replace(
        remote.settings, key_file=str(key.file), key_passphrase=Secret(key.passphrase), host_key=remote.rsa_host_line
    )

    with droplets({"box": settings}) as opened:
        assert call(opened, "read_file", path=f"{folder}/file").content == "x"


def test_files_are_reached_through_a_jump_host(folder: Path, tmp_path: Path) -> None:
    with openssh_hosts(tmp_path, "gate", "inner") as bed:
        behind = msgspec.structs.replace(bed["inner"].settings, jump="gate")
        with droplets({"gate": bed["gate"].settings, "inner": behind}) as opened:
            run = FakeRun()

            call(opened, "write_file", run, path=f"{folder}/file", content="x", host="inner")

    assert (folder / "file").read_text() == "x"
    assert run.places == ["inner"]


def test_a_second_server_with_other_keys_on_the_same_address_is_not_trusted(folder: Path, tmp_path: Path) -> None:
    with (
        openssh_hosts(tmp_path, "right", "wrong") as bed,
        relay(bed["right"].port) as between,
        droplets({"box": bed["right"].through(between.port)}) as opened,
    ):
        call(opened, "stat", path="/")
        between.target_port = bed["wrong"].port
        between.reset()
        until(lambda: between.accepted > 1 or failure(opened, "stat", path="/"), "the first connection is given up")

        error = failure(opened, "write_file", path=f"{folder}/file", content="secret")

    assert (error.failure_code, error.failure_retryable, error.before_effect) == ("host_key", False, True)
    assert not (folder / "file").exists()


def test_more_file_calls_than_the_server_has_sessions_all_succeed(folder: Path, tmp_path: Path) -> None:
    (folder / "file").write_text("x")
    codes: list[str] = []
    with (
        openssh(tmp_path / "narrow", "-o", "MaxSessions=2") as narrow,
        droplets({"box": narrow.settings}, connections_per_host=2) as opened,
    ):

        def read() -> None:
            codes.append(call(opened, "read_file", path=f"{folder}/file").content)

        threads = [threading.Thread(target=read) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert codes == ["x"] * 20
