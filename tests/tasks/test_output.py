import pytest

from tasks.output import CappedOutput
from tasks.text import printable, text_or_base64, without_hidden


def test_output_within_the_limit_is_whole() -> None:
    output = CappedOutput(10)

    for byte in b"0123456789":
        output.add(bytes([byte]))

    assert (output.text(), output.dropped_bytes) == ("0123456789", 0)


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000, 100_000])
def test_longer_output_keeps_head_and_tail_whatever_its_chunks(chunk_bytes: int) -> None:
    raw = b"".join(b"%06d\n" % number for number in range(30_000))
    output = CappedOutput(140)

    for start in range(0, len(raw), chunk_bytes):
        output.add(raw[start : start + chunk_bytes])

    head, middle, tail = output.text().partition(f"\n[… {len(raw) - 140} bytes left out …]\n")
    assert (head, tail) == (raw[:70].decode(), raw[-70:].decode())
    assert middle


@pytest.mark.parametrize("limit_bytes", range(20, 30))
def test_a_character_is_not_cut_in_two(limit_bytes: int) -> None:
    output = CappedOutput(limit_bytes)

    output.add("ü€🎈".encode() * 50)

    assert "\\x" not in output.text()


def test_what_a_terminal_would_obey_is_spelled_out() -> None:
    assert printable(b"\x1b[31m\x07 a\rb\r\n\x9b \xff") == "\\x1b[31m\\x07 a\\x0db\r\n\\x9b \\xff"
    assert printable("a\u202eb\U000e0041".encode()) == "a\\u202eb\\U000e0041"


def test_what_people_do_not_see_is_spelled_out_in_strangers_text() -> None:
    assert without_hidden("a\u200bb\u202ec\U000e0041d\x1b[0m\n") == "a[U+200B]b[U+202E]c[U+E0041]d[U+001B][0m\n"


def test_the_encoding_of_bytes_is_never_guessed() -> None:
    assert text_or_base64("ü\0".encode()) == ("ü\0", "utf-8")
    assert text_or_base64(b"\xfc") == ("/A==", "base64")
