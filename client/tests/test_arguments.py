"""`key=value` becomes what the operation's schema wants, and nothing is guessed beyond that."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from client.tests.scripted_gateway import READ_FILE
from toolswarm.cli.arguments import read_arguments
from toolswarm.errors import InvalidRequest
from toolswarm.messages import Operation


def read(*words: str, stdin: str = "") -> dict[str, Any]:
    return read_arguments(words, io.StringIO(stdin), lambda: [READ_FILE])


def never() -> Sequence[Operation]:
    raise AssertionError("the schema was asked for although all is text")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("path=a=b", "a=b"),
        ("path=12", "12"),
        ("path=true", "true"),
        ("path=", ""),
        ("limit=12", 12),
        ("limit=null", None),
        ("limit=1.5", "1.5"),
        ("limit=abc", "abc"),
        ("deep=true", True),
        ("deep=1", "1"),
        ('argv=["ls","-l"]', ["ls", "-l"]),
        ("mode=2", 2),
        ("unheard=3", "3"),
        ("path:=3", 3),
        ('path:={"a":[1]}', {"a": [1]}),
        ('path="x"', '"x"'),
    ],
)
def test_a_word_becomes_the_value_that_the_schema_wants(word: str, value: Any) -> None:
    (found,) = read(word).values()

    assert found == value
    assert type(found) is type(value)


def test_the_schema_is_not_asked_for_when_all_is_text() -> None:
    found = read_arguments(["path=a b", "deep:=true", "x=12abc"], io.StringIO(), never)

    assert found == {"path": "a b", "deep": True, "x": "12abc"}


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes("12\r\nü".encode())

    assert read("limit=@f") == {"limit": "12\r\nü"}


def test_an_object_is_read_from_standard_input() -> None:
    assert read("-", stdin='{"path": "x", "limit": 3}') == {"path": "x", "limit": 3}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("path",), "is not an argument"),
        (("--x=1",), "is not an argument"),
        (("=x",), "is not an argument"),
        (("limit:=[",), "limit: not valid JSON"),
        (("path=@none",), "path: cannot read none"),
        (("path=@latin",), "path: cannot read latin: it is not UTF-8"),
        (("path=@.",), r"path: cannot read \.: Is a directory"),
        (("path=a", "path=b"), "given more than once: path"),
        (("-",), "standard input is not a JSON object"),
    ],
)
def test_a_word_that_is_wrong_is_named(words: tuple[str, ...], why: str, tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"\xfc")

    with pytest.raises(InvalidRequest, match=why):
        read(*words, stdin="[1]")
