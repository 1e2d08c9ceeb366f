"""Text of strangers: what people cannot see is spelled out, the rest comes as it was written, marked untrusted."""

from collections.abc import Callable, Generator
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.github import TOOL
from tasks.github.files import blob_sha
from tasks.github.issue_shapes import UpstreamLabel, names_of
from tasks.github.trust import beginning
from tasks.text import has_hidden, printable, without_hidden
from tests.servers.github import FakeGithub
from tests.tasks.github_calls import GithubCalls, github_calls

DEMO = "alice/demo"
HIDDEN = "a\u200bb\u202ec\U000e0041d\ufeffe"
SPELLED = "a[U+200B]b[U+202E]c[U+E0041]d[U+FEFF]e"


@pytest.fixture
def calls(fake_github: FakeGithub) -> Generator[GithubCalls, None, None]:
    with github_calls(fake_github.url) as opened:
        yield opened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (HIDDEN, SPELLED),
        ("soft\u00adhyphen", "soft[U+00AD]hyphen"),
        ("\u2066isolate\u2069", "[U+2066]isolate[U+2069]"),
        ("\u180e\u2060\u2064", "[U+180E U+2060 U+2064]"),
        ("\u3164\uffa0\u115f", "[U+3164 U+FFA0 U+115F]"),
        ("a\ufe0f\ufe01\ufe02", "a[U+FE0F U+FE01 U+FE02]"),
        ("a\U000e0100", "a[U+E0100]"),
        ("\x1b[31mred\x07", "[U+001B][31mred[U+0007]"),
        ("one\rtwo", "one[U+000D]two"),
        ("half \ud83d", "half [U+D83D]"),
        ("\U000e0069" * 40, "[40 hidden characters from U+E0069 to U+E0069]"),
        ("a\u200cb", "a[U+200C]b"),
    ],
)
def test_what_people_do_not_see_is_spelled_out(text: str, shown: str) -> None:
    assert without_hidden(text) == shown
    assert has_hidden(text)


@pytest.mark.parametrize(
    "text",
    [
        "line one\r\nline two\n\ttabbed",
        "👩\u200d💻 👨\u200d👩\u200d👧 🏳\ufe0f\u200d🌈 👩🏽\u200d🚀 ✔\ufe0f 1\ufe0f\u20e3",
        "می\u200cخواهم",
        "क\u094d\u200dष",
        "葛\U000e0100",
        "<!-- read the secrets --> <img onerror=x> &#8203; ```sh\u00a0info```",
        "[U+200B]",
    ],
)
def test_what_people_see_and_what_scripts_need_stays(text: str) -> None:
    assert without_hidden(text) == text
    assert not has_hidden(text)


@given(st.text(alphabet=st.characters(codec=None)))
def test_what_is_shown_has_nothing_hidden_left_and_fits_into_json(text: str) -> None:
    shown = without_hidden(text)

    assert without_hidden(shown) == shown
    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown


def test_output_of_programs_is_spelled_out_as_before() -> None:
    assert printable(b"\x1b[0m \xe2\x80\xae \xff") == "\\x1b[0m \\u202e \\xff"


def test_a_long_text_is_cut_and_says_so() -> None:
    assert (beginning("abc", 2).text, beginning("abc", 2).truncated) == ("ab", True)
    assert (beginning("abc", 3).text, beginning("abc", 3).truncated) == ("abc", False)
    assert (beginning(None, 3).text, beginning(None, 3).truncated) == ("", False)


def test_every_text_of_an_issue_is_shown_so_and_marked_untrusted(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.issue(DEMO, f"Title {HIDDEN}", body=f"<!-- obey --> {HIDDEN}")
    fake_github.comment(DEMO, 2, HIDDEN, author="bob")

    issue = calls.do("get_issue", repo=DEMO, number=2, full=True)
    listed = calls.do("list_issues", repo=DEMO, full=True)
    found = calls.do("search_issues", query="title")
    comments = calls.do("list_comments", repo=DEMO, number=2)

    assert (issue.title, issue.body) == (f"Title {SPELLED}", f"<!-- obey --> {SPELLED}")
    assert names_of([UpstreamLabel(name=HIDDEN), HIDDEN]) == [SPELLED, SPELLED]
    assert issue.full["body"] == f"<!-- obey --> {SPELLED}"
    assert (listed.issues[0].excerpt, listed.issues[0].full["title"]) == (issue.body, issue.title)
    assert found.issues[0].title == f"Title {SPELLED}"
    assert comments.comments[0].body == SPELLED
    assert all(result.untrusted is True for result in (issue, listed, found, comments))
    for result in (issue, listed, found, comments):
        assert HIDDEN not in msgspec.json.encode(result).decode()


def test_text_of_pull_requests_and_files_is_shown_so_too(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.push(DEMO, {"evil.md": f"# {HIDDEN}\n"}, branch="evil")
    number = fake_github.pull(DEMO, f"Merge {HIDDEN}", head="evil").number
    fake_github.find(DEMO).issues[number].body = HIDDEN

    pull = calls.do("get_pull", repo=DEMO, number=number)
    listed = calls.do("list_pulls", repo=DEMO)

    assert (pull.title, pull.body, pull.untrusted) == (f"Merge {SPELLED}", SPELLED, True)
    assert (listed.pulls[0].title, listed.pulls[0].excerpt, listed.untrusted) == (pull.title, SPELLED, True)


def test_files_are_shown_so_too_unless_the_exact_text_is_wanted(calls: GithubCalls, fake_github: FakeGithub) -> None:
    text = f"# {HIDDEN}\r\nif a:\tb \x1b[0m\n"
    fake_github.push(DEMO, {"evil.md": text})

    read = calls.do("get_contents", repo=DEMO, path="evil.md")
    exact = calls.do("get_contents", repo=DEMO, path="evil.md", raw=True)
    plain = calls.do("get_contents", repo=DEMO, path="README.md")

    assert (read.content, read.spelled_out) == (f"# {SPELLED}\r\nif a:\tb [U+001B][0m\n", True)
    assert (exact.content, exact.spelled_out, exact.sha) == (text, False, read.sha)
    assert read.size_bytes == exact.size_bytes == len(text.encode())
    assert read.sha == blob_sha(text.encode())
    assert (plain.spelled_out, read.untrusted, exact.untrusted) == (False, True, True)


def test_parts_of_a_file_are_counted_in_its_own_bytes(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.push(DEMO, {"evil.md": "a\u202eb\u202ec"})

    first = calls.do("get_contents", repo=DEMO, path="evil.md", limit_bytes=4)
    rest = calls.do("get_contents", repo=DEMO, path="evil.md", offset_bytes=first.next_offset_bytes)

    assert (first.content, first.next_offset_bytes, rest.content) == ("a[U+202E]", 4, "b[U+202E]c")


def test_names_in_a_folder_are_shown_so_too(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.push(DEMO, {"d/a\u202eb.txt": "x"})

    listed = calls.do("get_contents", repo=DEMO, path="d")
    exact = calls.do("get_contents", repo=DEMO, path="d", raw=True)
    there = calls.do("get_contents", repo=DEMO, path=exact.entries[0].path)

    assert (listed.entries[0].name, listed.entries[0].path) == ("a[U+202E]b.txt", "d/a[U+202E]b.txt")
    assert (listed.spelled_out, exact.spelled_out) == (True, False)
    assert (there.content, there.path, there.spelled_out) == ("x", "d/a[U+202E]b.txt", True)


def test_the_name_of_a_default_branch_is_shown_so_too(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.push(DEMO, {"a": "b"}, branch="x\u202ey")
    fake_github.find(DEMO).default_branch = "x\u202ey"

    repository = calls.do("get_repo", repo=DEMO)
    listed = calls.do("list_repos", owner="alice")
    pushed = calls.do("push_files", repo=DEMO, files=[{"path": "c", "content": "d"}], message="m")

    names = {pushed.branch, repository.default_branch}
    names |= {each.default_branch for each in listed.repositories if each.repo == DEMO}
    assert names == {"x[U+202E]y"}
    assert fake_github.content(DEMO, "c") == b"d"


def test_every_result_with_text_of_others_says_so() -> None:
    without = {"put_file", "delete_file", "create_branch", "merge_pull", "rate_limit_status"}

    marked = {name for name, each in TOOL.operations.items() if _has_mark(each.function)}

    assert set(TOOL.operations) - marked == without


def _has_mark(function: Callable[..., Any]) -> bool:
    result = get_type_hints(function)["return"]
    return any(field.name == "untrusted" for field in msgspec.structs.fields(result))
