"""Servers that break the SFTP protocol, or say what cannot be: found out, with nothing changed."""

import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from tasks.droplet.sftp import Sftp
from tasks.droplet.sftp_exchange import Lost
from tasks.droplet.sftp_wire import Answer, Ask, Attributes, Status
from tests.servers.droplets import call, droplets, failure
from tests.servers.lying_sftp import Lie, LyingSftp, attributes, framed, lying_sftp, names, status, text
from tests.tasks.fake_run import FakeRun


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return (tmp_path / "here").resolve()


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[LyingSftp]:
    with lying_sftp(tmp_path / "liar") as server:
        yield server


def _raw(packet: bytes) -> Lie:
    return lambda _request, _fields: packet


_LIES: dict[str, tuple[Ask, Lie]] = {
    "another version": (Ask.INIT, _raw(b"\0\0\0\x05\x02\0\0\0\x02")),
    "another request's answer": (Ask.STAT, lambda request, _: attributes(request + 1000)),
    "an endless packet": (Ask.STAT, _raw(b"\xff\xff\xff\xff" + b"x" * 100)),
    "an empty packet": (Ask.STAT, _raw(b"\0\0\0\0")),
    "another kind of answer": (Ask.STAT, lambda request, _: framed(Answer.HANDLE, request, text(b"h"))),
    "success without an answer": (Ask.STAT, lambda request, _: status(request, Status.OK)),
    "half of the attributes": (Ask.STAT, lambda request, _: framed(Answer.ATTRS, request, b"\0\0\0\x0f\0")),
    "no real path": (Ask.REALPATH, lambda request, _: names(request, b"relative")),
    "a real path with dots": (Ask.REALPATH, lambda request, _: names(request, b"/srv/../etc")),
    "a real path with NUL": (Ask.REALPATH, lambda request, _: names(request, b"/srv\0")),
    "two real paths": (Ask.REALPATH, lambda request, _: names(request, b"/a", b"/b")),
    "more than was asked for": (
        Ask.READ,
        lambda request, _: framed(Answer.DATA, request, text(b"x" * 100_000)),
    ),
    "no data, but no end": (Ask.READ, lambda request, _: framed(Answer.DATA, request, text(b""))),
    "a length beyond the packet": (Ask.READ, lambda request, _: framed(Answer.DATA, request, b"\0\1\0\0x")),
}


@pytest.mark.parametrize("lie", _LIES)
def test_a_server_that_breaks_the_protocol_is_found_out(liar: LyingSftp, here: Path, lie: str) -> None:
    kind, said = _LIES[lie]
    liar.lies[kind] = said
    began = time.monotonic()

    with droplets({"liar": liar.settings}, local=here) as hosts:
        error = failure(hosts, "read_file", path="/file")

    assert (error.failure_code, error.before_effect) == ("invalid_answer", True)
    assert time.monotonic() - began < 3


def test_names_that_no_file_can_have_are_left_out_and_counted(liar: LyingSftp, here: Path) -> None:
    listed = iter([(b".", b"..", b"good", b"../../etc/passwd", b"a/b", b"", b"x\0y", b"/")])
    liar.lies[Ask.READDIR] = lambda request, _: (
        names(request, *found) if (found := next(listed, None)) else status(request, Status.EOF)
    )

    with droplets({"liar": liar.settings}, local=here) as hosts:
        listing = call(hosts, "list_directory", path="/folder")

    assert ([entry.name for entry in listing.entries], listing.refused_names) == (["good"], 5)


def test_a_folder_that_lists_nothing_for_ever_is_found_out(liar: LyingSftp, here: Path) -> None:
    liar.lies[Ask.READDIR] = lambda request, _: names(request)

    with droplets({"liar": liar.settings}, local=here) as hosts:
        assert failure(hosts, "list_directory", path="/folder").failure_code == "invalid_answer"


def test_a_tree_without_an_end_is_not_deleted(liar: LyingSftp, here: Path) -> None:
    folder = Attributes(mode=0o040755)
    for kind in (Ask.STAT, Ask.LSTAT):
        liar.lies[kind] = lambda request, _: attributes(request, mode=0o040755)
    handles = iter(range(10**9))
    listed: set[bytes] = set()

    def list_once(request: int, handle: bytes) -> bytes:
        if handle in listed:
            return status(request, Status.EOF)
        listed.add(handle)
        return names(request, b"deeper", attributes=folder)

    liar.lies[Ask.OPENDIR] = lambda request, _: framed(Answer.HANDLE, request, text(b"%d" % next(handles)))
    liar.lies[Ask.READDIR] = list_once

    with droplets({"liar": liar.settings}, local=here) as hosts:
        error = failure(hosts, "delete", path="/folder", recursive=True)

    assert (error.failure_code, error.before_effect) == ("too_large", True)
    assert Ask.REMOVE not in liar.asked
    assert Ask.RMDIR not in liar.asked


def test_bad_names_in_a_tree_stop_its_deletion(liar: LyingSftp, here: Path) -> None:
    for kind in (Ask.STAT, Ask.LSTAT):
        liar.lies[kind] = lambda request, _: attributes(request, mode=0o040755)
    liar.lies[Ask.READDIR] = lambda request, _: names(request, b"good", b"../../etc/passwd")

    with droplets({"liar": liar.settings}, local=here) as hosts:
        error = failure(hosts, "delete", path="/folder", recursive=True)

    assert (error.failure_code, error.before_effect) == ("path_refused", True)
    assert Ask.REMOVE not in liar.asked


def test_a_size_that_no_file_has_is_not_believed(liar: LyingSftp, here: Path) -> None:
    for kind in (Ask.STAT, Ask.LSTAT, Ask.FSTAT):
        liar.lies[kind] = lambda request, _: attributes(request, size=2**63)

    with droplets({"liar": liar.settings}, local=here) as hosts:
        found = call(hosts, "stat", path="/file")
        read = call(hosts, "read_file", path="/file")

    assert (found.size_bytes, read.content, read.size_bytes) == (None, "", 0)


def test_a_file_without_an_end_is_read_and_downloaded_up_to_a_limit(liar: LyingSftp, here: Path) -> None:
    liar.lies[Ask.READ] = lambda request, _: framed(Answer.DATA, request, text(b"y\n" * 16_384))

    with droplets({"liar": liar.settings}, local=here) as hosts:
        read = call(hosts, "read_file", path="/file", unit="bytes", limit=10)
        error = failure(hosts, "download", path="/file", local_path="new")

    assert (read.content, read.truncated, read.sha256) == ("y\ny\ny\ny\ny\n", True, None)
    assert error.failure_code == "conflict"
    assert not (here / "new").exists()


def test_a_write_that_the_server_did_not_make_is_found_out(liar: LyingSftp, here: Path) -> None:
    liar.lies[Ask.LSTAT] = lambda request, _: status(request, Status.NO_SUCH_FILE)

    with droplets({"liar": liar.settings}, local=here) as hosts:
        error = failure(hosts, "write_file", path="/file", content="more than five bytes")

    assert error.failure_code == "input_output"
    assert Ask.RENAME not in liar.asked


def test_what_a_server_says_of_an_error_is_made_harmless(liar: LyingSftp, here: Path) -> None:
    said = b"\x1b[2Jignore\r\xff" + "\u202e".encode() + b"x" * 10_000
    liar.lies[Ask.STAT] = lambda request, _: status(request, Status.FAILURE, said)

    with droplets({"liar": liar.settings}, local=here) as hosts:
        error = failure(hosts, "read_file", path="/file")

    assert error.failure_code == "input_output"
    assert error.details["said"].startswith("\\x1b[2Jignore\\x0d")
    assert error.details["said"].isprintable()
    assert len(error.details["said"]) <= 200


def test_a_server_that_owes_an_answer_is_lost_after_a_while(liar: LyingSftp) -> None:
    liar.lies[Ask.STAT] = _raw(b"")
    transport = paramiko.Transport(("127.0.0.1", liar.settings.port))
    transport.start_client()
    transport.auth_publickey("anybody", paramiko.PKey.from_path(liar.settings.key_file))
    channel = transport.open_session()
    channel.invoke_subsystem("sftp")
    sftp = Sftp(channel, lambda: None, silence_s=0.3)
    sftp.greet()
    began = time.monotonic()

    with pytest.raises(Lost, match="does not answer"):
        sftp.stat(b"/file")

    assert 0.25 < time.monotonic() - began < 3
    assert not sftp.is_sound
    with pytest.raises(Lost):
        sftp.real_path(b"/")
    transport.close()


def test_a_server_that_says_nothing_ends_with_the_attempts_time(liar: LyingSftp, here: Path) -> None:
    liar.lies[Ask.STAT] = _raw(b"")

    with droplets({"liar": liar.settings}, local=here) as hosts:
        error = failure(hosts, "read_file", FakeRun(limit_s=1.5), path="/file")

    assert (error.failure_code, error.before_effect) == ("time_limit", True)
