"""Reading repositories of a faithful fake: what comes back, and how many requests it takes."""

import base64
from collections.abc import Generator
from typing import Any

import pytest

from tests.servers.github import FakeGithub
from tests.servers.scripted_http import Heard, Say, scripted
from tests.tasks.github_calls import GithubCalls, github_calls


@pytest.fixture
def calls(fake_github: FakeGithub) -> Generator[GithubCalls, None, None]:
    with github_calls(fake_github.url) as opened:
        yield opened


@pytest.mark.parametrize(
    ("operation", "arguments", "requests"),
    [
        ("get_repo", {"repo": "alice/demo"}, 1),
        ("get_repo", {"repo": "alice/demo", "full": True}, 1),
        ("get_contents", {"repo": "alice/demo", "path": "README.md"}, 1),
        ("get_contents", {"repo": "alice/demo", "path": "src"}, 1),
        ("get_tree", {"repo": "alice/demo", "ref": "main"}, 1),
        ("list_commits", {"repo": "alice/demo"}, 1),
        ("get_commit", {"repo": "alice/demo", "ref": "main"}, 1),
        ("list_branches", {"repo": "acme/tmpl"}, 1),
        ("list_repos", {"owner": "acme"}, 2),  # once an hour the credential's own login is asked for
        ("rate_limit_status", {}, 1),
    ],
)
def test_a_read_takes_as_few_requests_as_it_can_and_says_how_many(
    calls: GithubCalls, fake_github: FakeGithub, operation: str, arguments: dict[str, Any], requests: int
) -> None:
    run = calls.run()

    found = calls.do(operation, run, **arguments)

    assert found.api_requests == requests == len(fake_github.requests)
    assert run.effects_begun == 0
    assert fake_github.outside("alice/demo", "acme/tmpl") == []


def test_a_repository_is_shown_in_short_and_whole_when_asked_for(calls: GithubCalls) -> None:
    short = calls.do("get_repo", repo="ALICE/Demo")
    whole = calls.do("get_repo", repo="alice/demo", full=True)

    assert (short.repo, short.default_branch, short.stars, short.topics) == ("alice/demo", "main", 7, ["demo"])
    assert short.full is None
    assert whole.full["full_name"] == "alice/demo"
    assert "clone_url" in whole.full


def test_private_repositories_of_the_own_account_are_listed_too(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.repository("alice/diary", {"a": "b"}, private=True)

    own = calls.do("list_repos", owner="alice")
    others = calls.do("list_repos", owner="bob")

    assert "alice/diary" in {each.repo for each in own.repositories}
    assert others.repositories == []


def test_pages_follow_each_other_without_gap_or_repetition(calls: GithubCalls, fake_github: FakeGithub) -> None:
    for number in range(7):
        fake_github.push("alice/demo", {"n": str(number)}, message=f"Commit {number}")
    headlines: list[str] = []
    cursor: str | None = None
    while True:
        page = calls.do("list_commits", repo="alice/demo", limit=3, cursor=cursor)
        headlines += [commit.headline for commit in page.commits]
        assert len(page.commits) <= 3
        cursor = page.next_cursor
        if cursor is None:
            break

    assert headlines == [f"Commit {number}" for number in reversed(range(7))] + ["Initial commit"]


@pytest.mark.parametrize("cursor", ["", "1", "x", "1.30.abc", "0.30.000000000000", "1.999.ffffffffffff", "-1.3.a"])
def test_a_cursor_that_was_not_given_is_refused(calls: GithubCalls, fake_github: FakeGithub, cursor: str) -> None:
    error = calls.failure("list_commits", repo="alice/demo", cursor=cursor)

    assert (error.failure_code, error.before_effect) == ("cursor_refused", True)
    assert fake_github.requests == []


def test_a_cursor_of_another_list_is_refused(calls: GithubCalls) -> None:
    page = calls.do("list_branches", repo="acme/tmpl", limit=1)

    error = calls.failure("list_branches", repo="alice/demo", limit=1, cursor=page.next_cursor)

    assert error.failure_code == "cursor_refused"


def test_a_tree_is_listed_whole_by_folder_and_in_pages(calls: GithubCalls) -> None:
    whole = calls.do("get_tree", repo="alice/demo", ref="main")
    top = calls.do("get_tree", repo="alice/demo", ref="main", recursive=False)
    folder = calls.do("get_tree", repo="alice/demo", path="src")
    first = calls.do("get_tree", repo="alice/demo", ref="main", limit=2)
    second = calls.do("get_tree", repo="alice/demo", ref="main", limit=2, cursor=first.next_cursor)

    paths = [entry.path for entry in whole.entries]
    assert paths == ["README.md", "docs", "docs/guide.md", "src", "src/app.py"]
    assert [(entry.path, entry.kind) for entry in top.entries] == [
        ("README.md", "file"),
        ("docs", "dir"),
        ("src", "dir"),
    ]
    assert [entry.path for entry in folder.entries] == ["src/app.py"]
    assert [entry.path for entry in (*first.entries, *second.entries)] == paths[:4]
    assert (whole.total, whole.truncated, whole.next_cursor) == (5, False, None)


def test_a_large_file_takes_a_second_request_and_comes_in_parts(calls: GithubCalls, fake_github: FakeGithub) -> None:
    text = "".join(f"line {number} äöü\n" for number in range(90_000))
    fake_github.push("alice/demo", {"big.txt": text})
    size_bytes, parts = len(text.encode()), list[str]()
    offset: int | None = 0
    while offset is not None:
        part = calls.do("get_contents", repo="alice/demo", path="big.txt", offset_bytes=offset, limit_bytes=700_001)
        parts.append(part.content)
        assert (part.api_requests, part.size_bytes) == (2, size_bytes)
        offset = part.next_offset_bytes

    assert size_bytes > 1_000_000
    assert "".join(parts) == text


def test_parts_of_a_file_that_is_no_text_come_as_base64(calls: GithubCalls, fake_github: FakeGithub) -> None:
    raw = bytes(range(256)) * 4
    fake_github.push("alice/demo", {"x.bin": raw})

    first = calls.do("get_contents", repo="alice/demo", path="x.bin", limit_bytes=1000)
    rest = calls.do("get_contents", repo="alice/demo", path="x.bin", offset_bytes=first.next_offset_bytes)

    assert base64.b64decode(first.content) + base64.b64decode(rest.content) == raw
    assert rest.next_offset_bytes is None


def test_a_part_smaller_than_a_character_still_gets_on(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.push("alice/demo", {"x.txt": "€🚀€"})
    text, offset = "", 0
    for _ in range(10):
        part = calls.do("get_contents", repo="alice/demo", path="x.txt", offset_bytes=offset, limit_bytes=1)
        text += part.content
        if part.next_offset_bytes is None:
            break
        assert part.next_offset_bytes > offset
        offset = part.next_offset_bytes

    assert text == "€🚀€"


def test_a_commit_says_what_it_changed(calls: GithubCalls, fake_github: FakeGithub) -> None:
    sha = fake_github.push("alice/demo", {"README.md": "# New\n", "docs/guide.md": None}, message="Subject\n\nBody")

    found = calls.do("get_commit", repo="alice/demo", ref=sha, patches=True)
    short = calls.do("get_commit", repo="alice/demo", ref="main")

    changes = {each.path: each.change for each in found.files}
    assert (found.message, changes) == ("Subject\n\nBody", {"README.md": "modified", "docs/guide.md": "removed"})
    assert any("+# New" in (each.patch or "") for each in found.files)
    assert all(each.patch is None for each in short.files)


def test_the_history_of_a_file_by_an_author_in_a_time_is_asked_of_github(calls: GithubCalls) -> None:
    asked: list[Heard] = []

    def answer(heard: Heard) -> Say:
        asked.append(heard)
        return Say(200, [])

    with scripted(answer) as server, github_calls(server.url) as other:
        other.do(
            "list_commits",
            repo="a/b",
            ref="main",
            path="src/a b.py",
            author="alice",
            since="2026-01-01T01:00:00+01:00",
        )

    assert asked[0].target == (
        "/repos/a/b/commits?author=alice&path=src%2Fa+b.py&sha=main&since=2026-01-01T00%3A00%3A00Z"
    )


@pytest.mark.parametrize("since", ["yesterday", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", ""])
def test_a_time_without_a_zone_is_refused(calls: GithubCalls, fake_github: FakeGithub, since: str) -> None:
    error = calls.failure("list_commits", repo="alice/demo", since=since)

    assert (error.failure_code, error.before_effect) == ("time_refused", True)
    assert fake_github.requests == []


def test_names_in_a_repository_are_shown_with_their_hidden_characters(
    calls: GithubCalls, fake_github: FakeGithub
) -> None:
    fake_github.push("alice/demo", {"a\u202eb.txt": "x"}, message="fix\u200b it")

    tree = calls.do("get_tree", repo="alice/demo", ref="main")
    commits = calls.do("list_commits", repo="alice/demo", limit=1)

    assert "a[U+202E]b.txt" in {entry.path for entry in tree.entries}
    assert commits.commits[0].headline == "fix[U+200B] it"
    assert tree.untrusted
    assert commits.untrusted


def test_a_symlink_and_a_submodule_are_shown_and_not_followed() -> None:
    link = {
        "type": "symlink",
        "name": "l",
        "path": "l",
        "sha": "a" * 40,
        "size": 9,
        "target": "../../etc/passwd",
        "url": "http://x/repos/a/b/contents/l",
    }
    with scripted(lambda _: Say(200, link)) as server, github_calls(server.url) as calls:
        found = calls.do("get_contents", repo="a/b", path="l")

    assert (found.kind, found.target, found.content) == ("symlink", "../../etc/passwd", None)
    assert len(server.heard) == 1


def test_an_author_without_an_account_is_named_as_in_the_commit() -> None:
    def commit(author: Any) -> dict[str, Any]:
        person = {"name": "Ann", "email": "ann@example.com", "date": "2026-01-01T00:00:00Z"}
        return {
            "sha": "a" * 40,
            "commit": {"message": "m", "author": person, "committer": person},
            "author": author,
            "parents": [],
        }

    body = [commit(None), commit({}), commit({"login": "ann"})]
    with scripted(lambda _: Say(200, body)) as server, github_calls(server.url) as calls:
        found = calls.do("list_commits", repo="a/b")

    assert [each.author for each in found.commits] == ["Ann", "Ann", "ann"]
    assert len(server.heard) == 1


def test_rate_limits_are_told_without_using_any(calls: GithubCalls, fake_github: FakeGithub) -> None:
    calls.do("get_repo", repo="alice/demo")

    status = calls.do("rate_limit_status")

    buckets = {bucket.name: bucket for bucket in status.buckets}
    assert (buckets["core"].limit, buckets["core"].used, buckets["core"].remaining) == (5000, 1, 4999)
    assert {"search", "code_search"} <= set(buckets)
