"""Writing to a faithful fake: what is done is done once, however badly the answers travel."""

import base64
from collections.abc import Generator
from typing import Any

import pytest

from store.tool_settings import GithubTemplate
from tasks.github import TOOL
from tasks.github.files import blob_sha
from tests.servers.github import FakeGithub
from tests.servers.scripted_http import Heard, Say, scripted
from tests.tasks.github_calls import GithubCalls, filled, github_calls
from toolswarm.messages import Effect

REPO = "alice/demo"


@pytest.fixture
def calls(fake_github: FakeGithub) -> Generator[GithubCalls, None, None]:
    with github_calls(fake_github.url) as opened:
        yield opened


def _head(github: FakeGithub, repo: str = REPO, branch: str = "main") -> str:
    return github.find(repo).git.refs[f"refs/heads/{branch}"]


# -- files -------------------------------------------------------------------------------------------------------


def test_a_file_is_written_if_it_is_still_the_one_that_was_read(calls: GithubCalls, fake_github: FakeGithub) -> None:
    read = calls.do("get_contents", repo=REPO, path="README.md")
    fake_github.forget()

    written = calls.do("put_file", repo=REPO, path="README.md", content="# Ä\n", message="m", expected_sha=read.sha)

    assert fake_github.content(REPO, "README.md") == "# Ä\n".encode()
    assert written.sha == blob_sha("# Ä\n".encode())
    assert (written.commit, written.created, written.api_requests) == (_head(fake_github), False, 1)
    assert len(fake_github.requests) == 1


def test_a_new_file_in_a_branch_is_written_from_bytes(calls: GithubCalls, fake_github: FakeGithub) -> None:
    calls.do("create_branch", repo=REPO, branch="work", from_ref="main")
    content = base64.b64encode(b"\x00\xff").decode()

    written = calls.do(
        "put_file", repo=REPO, path="a b/ü.bin", content=content, message="m", branch="work", encoding="base64"
    )

    assert written.created
    assert fake_github.content(REPO, "a b/ü.bin", "work") == b"\x00\xff"
    assert fake_github.content(REPO, "a b/ü.bin") is None


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("put_file", {"content": "x"}),
        ("put_file", {"content": "x", "expected_sha": "0" * 40}),
        ("delete_file", {"expected_sha": "0" * 40}),
    ],
)
def test_what_was_changed_since_is_not_overwritten(
    calls: GithubCalls, fake_github: FakeGithub, operation: str, arguments: dict[str, Any]
) -> None:
    before = _head(fake_github)

    error = calls.failure(operation, repo=REPO, path="README.md", message="m", **arguments)

    assert (error.failure_code, error.before_effect, error.in_doubt) == ("conflict", True, False)
    assert _head(fake_github) == before


def test_a_file_is_removed(calls: GithubCalls, fake_github: FakeGithub) -> None:
    read = calls.do("get_contents", repo=REPO, path="src/app.py")

    gone = calls.do("delete_file", repo=REPO, path="src/app.py", message="m", expected_sha=read.sha)

    assert fake_github.content(REPO, "src/app.py") is None
    assert gone.commit == _head(fake_github)


@pytest.mark.parametrize("content", ["not base64", "AAE", "ü"])
def test_content_that_is_not_what_it_says_is_never_sent(
    calls: GithubCalls, fake_github: FakeGithub, content: str
) -> None:
    error = calls.failure("put_file", repo=REPO, path="x", content=content, message="m", encoding="base64")

    assert (error.failure_code, error.before_effect) == ("content_refused", True)
    assert fake_github.requests == []


@pytest.mark.parametrize("path", [".", "../../../acme/tmpl/contents/pwn", "a/../../x", "/a", "a//b", "a%2fb"])
@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("put_file", {"path": "{path}", "content": "x"}),
        ("delete_file", {"path": "{path}", "expected_sha": "0" * 40}),
        ("push_files", {"files": [{"path": "ok", "content": "x"}, {"path": "{path}", "content": "x"}]}),
    ],
)
def test_a_path_that_could_lead_elsewhere_is_never_sent(
    calls: GithubCalls, fake_github: FakeGithub, operation: str, arguments: dict[str, Any], path: str
) -> None:
    error = calls.failure(operation, repo=REPO, message="m", **filled(arguments, "{path}", path))

    assert (error.failure_code, error.before_effect) == ("path_refused", True)
    assert fake_github.requests == []


# -- branches and repositories -----------------------------------------------------------------------------------


def test_a_branch_starts_where_it_is_told(calls: GithubCalls, fake_github: FakeGithub) -> None:
    first = calls.do("create_branch", repo=REPO, branch="feature/one")
    second = calls.do("create_branch", repo=REPO, branch="two", from_ref="feature/one")
    third = calls.do("create_branch", repo=REPO, branch="three", from_ref=first.sha)
    again = calls.failure("create_branch", repo=REPO, branch="two")

    assert {first.sha, second.sha, third.sha} == {_head(fake_github)}
    assert [first.api_requests, second.api_requests, third.api_requests] == [2, 2, 1]
    assert again.failure_code == "already_exists"


def test_a_repository_is_private_unless_it_is_said_otherwise(calls: GithubCalls, fake_github: FakeGithub) -> None:
    own = calls.do("create_repo", name="one", description="First")
    public = calls.do("create_repo", name="two", private=False, with_readme=False)
    organizations = calls.do("create_repo", name="three", owner="acme")
    again = calls.failure("create_repo", name="one")
    not_ours = calls.failure("create_repo", name="four", owner="bob")

    assert (own.repository.repo, own.repository.private, own.repository.description) == ("alice/one", True, "First")
    assert not public.repository.private
    assert own.untrusted
    assert organizations.repository.repo == "acme/three"
    assert (again.failure_code, not_ours.failure_code) == ("already_exists", "not_found")
    assert fake_github.find("alice/one").private


def test_a_repository_is_made_from_a_template(fake_github: FakeGithub) -> None:
    templates = {"service": GithubTemplate(repo="acme/tmpl", include_all_branches=True)}
    with github_calls(fake_github.url, templates=templates) as calls:
        plain = calls.do("create_repo_from_template", template="acme/tmpl", name="plain")
        named = calls.do("create_repo_from_template", template="service", name="named", owner="acme")
        branches = calls.do("list_branches", repo="acme/named")

    assert (plain.repository.repo, plain.ready, plain.template) == ("alice/plain", True, "acme/tmpl")
    assert plain.repository.private
    assert fake_github.content("alice/plain", "src/main.py") == b"pass\n"
    assert (named.template, {each.name for each in branches.branches}) == ("acme/tmpl", {"main", "extra"})


@pytest.mark.parametrize(("wait_s", "ready"), [(10.0, True), (0.0, False), (0.1, False)])
def test_a_template_that_github_still_copies_is_waited_for(wait_s: float, ready: bool) -> None:
    looked = 0
    repository = {"full_name": "alice/new", "default_branch": "main", "private": True, "archived": False}
    repository |= {
        "fork": False,
        "stargazers_count": 0,
        "forks_count": 0,
        "open_issues_count": 0,
        "html_url": "http://x",
    }

    def answer(heard: Heard) -> Say:
        nonlocal looked
        if heard.verb == "POST":
            return Say(201, repository)
        looked += 1
        return Say(200, [{"sha": "a" * 40}]) if looked > 2 else Say(409, {"message": "Git Repository is empty."})

    with scripted(answer) as server, github_calls(server.url, default_owner="alice") as calls:
        made = calls.do("create_repo_from_template", template="acme/tmpl", name="new", wait_s=wait_s)

    assert made.ready is ready


@pytest.mark.parametrize("name", ["../x", "a/b", "a b", ".git", "x?y", ""])
def test_a_repository_with_a_strange_name_is_never_asked_for(
    calls: GithubCalls, fake_github: FakeGithub, name: str
) -> None:
    error = calls.failure("create_repo", name=name)

    assert error.failure_code == "path_refused"
    assert fake_github.requests == []


def test_every_write_says_so_truthfully() -> None:
    writes = {name: each for name, each in TOOL.operations.items() if each.effect is not Effect.READ}

    assert {
        "create_branch",
        "put_file",
        "delete_file",
        "push_files",
        "create_repo",
        "create_repo_from_template",
    } <= set(writes)
    for name in ("put_file", "delete_file", "push_files"):
        assert writes[name].destructive
    assert all(each.marks_effect for each in writes.values())
