import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.desktop.literals import LONGEST_BYTES, any_case, required

_ATOMS = [
    "a",
    "b",
    "ab",
    "ba",
    r"\.",
    ".",
    r"\w",
    r"\b",
    "^",
    "$",
    "[ab]",
    "[^a]",
    "[]a]",
    "x{y",
    r"\x61",
    r"\141",
    "é",
]
_QUANTIFIERS = ["", "", "", "*", "+", "?", "{2}", "{0,1}", "{,2}", "*?", "+?", "{1,2}?"]
_FLAGS = ["", "", "(?i)", "(?x)", "(?s)"]


def _patterns() -> st.SearchStrategy[str]:
    repeated = st.builds(str.__add__, st.sampled_from(_ATOMS), st.sampled_from(_QUANTIFIERS))
    sequence = st.lists(repeated, max_size=5).map("".join)

    def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        opening = st.sampled_from(["(", "(?:", "(?=", "(?!", "(?P<n>", "(?i:", "(?#)", "(?>"])
        group = st.tuples(opening, inner, st.sampled_from([")", ")*", ")+", ")?"])).map("".join)
        return st.one_of(
            st.lists(st.one_of(group, inner), max_size=3).map("".join), st.lists(inner, max_size=3).map("|".join)
        )

    body = st.recursive(sequence, nested, max_leaves=6)
    return st.builds(str.__add__, st.sampled_from(_FLAGS), body)


@given(pattern=_patterns(), line=st.text("abxyAB.{é ", max_size=12), ignore_case=st.booleans())
def test_no_line_is_found_without_one_of_the_texts(pattern: str, line: str, ignore_case: bool) -> None:
    try:
        compiled = re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except re.error:
        return

    texts = required(pattern, regex=True, ignore_case=ignore_case)

    if texts and compiled.search(line):
        assert any(text in (line.lower() if ignore_case else line) for text in texts)


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        (r"^hello \w+$", ("hello ",)),
        (r"def \w+\(self", ("(self",)),
        ("import|require", ("import", "require")),
        ("colou?r", ("colo",)),
        ("(foo)?barx", ("barx",)),
        (r"a\.b", ("a.b",)),
        ("(?i)foo", ()),
        ("foo|.*", ()),
        (r"\x66oo", ()),
        (r"\d+", ()),
    ],
)
def test_the_longest_sure_text_of_each_alternative_is_taken(pattern: str, texts: tuple[str, ...]) -> None:
    assert required(pattern, regex=True, ignore_case=False) == texts


def test_a_text_is_its_own_necessity_but_for_what_has_no_bytes() -> None:
    assert required("a(b*", regex=False, ignore_case=False) == ("a(b*",)
    assert required("ab\ufffdcde", regex=False, ignore_case=False) == ("cde",)
    assert required("\ufffd", regex=False, ignore_case=False) == ()
    assert required("Grüße AN", regex=False, ignore_case=True) == ("e an",)
    assert len(required("ü" * 1000, regex=False, ignore_case=False)[0].encode()) == LONGEST_BYTES


def test_ignoring_case_python_finds_no_other_letters_than_the_table_says() -> None:
    every_character = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)

    found = {
        letter: set(re.findall(letter, every_character, re.IGNORECASE)) - {letter, letter.upper()}
        for letter in "abcdefghijklmnopqrstuvwxyz"
    }

    # K and s have further forms in Unicode, which ripgrep knows, too; those of i are Python's own.
    others = {letter: forms for letter, forms in found.items() if forms}
    assert others == {"i": {"\u0130", "\u0131"}, "k": {"\u212a"}, "s": {"\u017f"}}
    assert any_case("ki-s") == "(?i)k[i\u0130\u0131]\\x{2d}s"
