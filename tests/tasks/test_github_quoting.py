"""Names with characters that mean something in a URL: each request goes to exactly the file or branch that is named."""

from collections.abc import Generator

import pytest

from tests.servers.github import FakeGithub
from tests.tasks.github_calls import GithubCalls, github_calls

REPO = "alice/demo"
ODD = ["C#/a#b.md", "what?.txt", "what?ref=evil", "100%.md", "100%25.md", "a%41.txt", "50% of #1?.md", "a&b=c+d;e@f:g"]


@pytest.fixture
def calls(fake_github: FakeGithub) -> Generator[GithubCalls, None, None]:
    with github_calls(fake_github.url) as opened:
        yield opened
    assert fake_github.outside(REPO) == []


@pytest.mark.parametrize("path", ODD)
def test_a_file_of_an_odd_name_is_written_read_listed_and_removed(
    calls: GithubCalls, fake_github: FakeGithub, path: str
) -> None:
    written = calls.do("put_file", repo=REPO, path=path, content="one\n", message="m")
    read = calls.do("get_contents", repo=REPO, path=path, ref="main")
    listed = calls.do("list_commits", repo=REPO, path=path)
    tree = calls.do("get_tree", repo=REPO)

    assert fake_github.content(REPO, path) == b"one\n"
    assert (read.content, read.sha, read.path) == ("one\n", written.sha, path)
    assert [commit.sha for commit in listed.commits] == [written.commit]
    assert path in {entry.path for entry in tree.entries}
    assert [(each.path, each.query) for each in fake_github.requests[:2]] == [
        (f"/repos/{REPO}/contents/{path}", {}),
        (f"/repos/{REPO}/contents/{path}", {"ref": "main"}),
    ]

    calls.do("delete_file", repo=REPO, path=path, message="m", expected_sha=written.sha)

    assert fake_github.content(REPO, path) is None


def test_a_large_file_of_an_odd_name_is_read_raw(calls: GithubCalls, fake_github: FakeGithub) -> None:
    fake_github.push(REPO, {"big #1?.txt": "x" * 1_100_000})

    read = calls.do("get_contents", repo=REPO, path="big #1?.txt")

    assert (read.size_bytes, read.api_requests) == (1_100_000, 2)


def test_files_of_odd_names_are_pushed(calls: GithubCalls, fake_github: FakeGithub) -> None:
    calls.do("push_files", repo=REPO, branch="main", files=[{"path": p, "content": p} for p in ODD], message="m")

    assert [fake_github.content(REPO, path) for path in ODD] == [path.encode() for path in ODD]


@pytest.mark.parametrize("branch", ["fix-#12", "50%", "a%41", "feature/#1&x=y"])
def test_a_branch_of_an_odd_name_is_made_written_to_and_read(
    calls: GithubCalls, fake_github: FakeGithub, branch: str
) -> None:
    calls.do("create_branch", repo=REPO, branch=branch, from_ref="main")
    calls.do("put_file", repo=REPO, path="a", content="1", message="m", branch=branch)
    pushed = calls.do("push_files", repo=REPO, branch=branch, files=[{"path": "b", "content": "2"}], message="m")
    again = calls.do("create_branch", repo=REPO, branch="copy", from_ref=branch)
    commit = calls.do("get_commit", repo=REPO, ref=branch)
    tree = calls.do("get_tree", repo=REPO, ref=branch)
    read = calls.do("get_contents", repo=REPO, path="a", ref=branch)
    pull = calls.do("create_pull", repo=REPO, title="t", head=branch, base="main")
    listed = calls.do("list_pulls", repo=REPO, head=branch)

    assert fake_github.content(REPO, "b", branch) == b"2"
    assert {again.sha, commit.sha, fake_github.find(REPO).git.refs[f"refs/heads/{branch}"]} == {pushed.commit}
    assert {"a", "b"} <= {entry.path for entry in tree.entries}
    assert (read.content, pull.head) == ("1", f"alice:{branch}")
    assert [each.number for each in listed.pulls] == [pull.number]


@pytest.mark.parametrize(
    "path", ["%2e%2e/x", "a/%2E%2e/b", "a%2fb", "%2e./x", "a%5cb", "a%0ab", "..", "a/../b", "a\\b", "a\x1bb"]
)
def test_a_name_that_leads_away_once_it_is_decoded_is_still_refused(
    calls: GithubCalls, fake_github: FakeGithub, path: str
) -> None:
    error = calls.failure("get_contents", repo=REPO, path=path)

    assert (error.failure_code, error.details["argument"]) == ("path_refused", "path")
    assert fake_github.requests == []
