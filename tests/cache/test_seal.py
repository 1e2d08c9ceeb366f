"""Names tell nothing, and what was moved, changed or made up does not open."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import Answer
from cache.entry import Kept, decode, encode, keep, unchanged
from cache.seal import Sealer, open_seal, provide_secret
from store.configuration import Cache as Settings
from toolswarm.errors import ConfigurationError
from toolswarm.messages import ErrorInfo

SEALER = Sealer(b"a" * 32)


def kept(value: bytes = b'"text"') -> Kept:
    return keep(Answer(value=value, place="there"), value, ttl_s=30, life_s=60, read_s=0.5, tags={"a": b"1", "b": b"2"})


@given(st.binary(max_size=5000), st.text(max_size=40))
def test_what_was_sealed_opens_under_its_own_name_alone(plain: bytes, name: str) -> None:
    sealed = SEALER.seal(name, plain)

    assert SEALER.open(name, sealed) == plain
    assert SEALER.open(name + "x", sealed) is None
    assert Sealer(b"b" * 32).open(name, sealed) is None
    assert plain not in sealed or len(plain) < 4


@given(st.integers(min_value=0), st.integers(0, 7))
def test_no_bit_of_an_entry_can_be_changed(place: int, bit: int) -> None:
    stored = bytearray(encode(SEALER, "name", kept(), began_at=1000.0))
    stored[place % len(stored)] ^= 1 << bit

    assert decode(SEALER, "name", bytes(stored)) is None


@given(st.binary(max_size=100))
def test_bytes_that_nobody_sealed_are_no_entry(stored: bytes) -> None:
    assert decode(SEALER, "name", stored) is None


@pytest.mark.parametrize(
    "value", [b'"short"', b'"' + b"long " * 2000 + b'"', b'"' + os.urandom(3000).hex().encode() + b'"']
)
def test_an_answer_comes_back_as_it_was(value: bytes) -> None:
    entry = decode(SEALER, "name", encode(SEALER, "name", kept(value), began_at=1000.0))

    assert entry is not None
    assert entry.answer() == Answer(value=value, place="there")


def test_text_that_repeats_itself_is_kept_small() -> None:
    value = b'"' + b"long " * 2000 + b'"'

    assert len(encode(SEALER, "name", kept(value), began_at=1000.0)) < len(value) / 10


def test_that_there_is_nothing_is_an_answer_too() -> None:
    error = ErrorInfo(code="not_found", message="there is none")
    answer = Answer(error=error)

    entry = keep(answer, b'{"code":"not_found","message":"there is none"}', ttl_s=5, life_s=5, read_s=0, tags={})

    assert entry.answer().error == error


def test_an_entry_is_used_only_while_all_its_tags_are_as_they_were() -> None:
    entry = kept()

    assert unchanged(entry, ["a", "b"], [b"1", b"2"])
    assert unchanged(entry, ["c", "b", "a"], [b"9", b"2", b"1"])
    assert not unchanged(entry, ["a", "b"], [b"1", b"3"])
    assert not unchanged(entry, ["a", "b"], [b"1", None])
    assert not unchanged(entry, ["a"], [b"1"])


def test_the_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "new" / "key"

    first = provide_secret(file)

    assert provide_secret(file) == first
    assert len(first) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_processes_that_start_together_have_one_secret(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from cache.seal import provide_secret; print(provide_secret(pathlib.Path(sys.argv[1])))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "key")], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]

    said = {process.communicate(timeout=30)[0] for process in processes}

    assert len(said) == 1
    assert said != {""}


def test_a_secret_that_is_too_short_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("short")

    with pytest.raises(ConfigurationError, match=r"cache\.secret_file.*5 bytes"):
        open_seal(Settings(secret_file=str(file)))


def test_without_a_place_for_the_secret_a_process_remembers_for_itself(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    sealer = open_seal(Settings(secret_file=str(tmp_path / "file" / "key")))

    assert not sealer.shared
    assert sealer.open("name", sealer.seal("name", b"x")) == b"x"
