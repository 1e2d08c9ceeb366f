"""The same things done by an operation of ours and with PyGithub as its own documentation shows it (eager objects)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from github import Github, InputGitTreeElement

from tests.servers.github import FakeGithub

DEMO = "alice/demo"
FILES = {f"notes/{number}.txt": f"note {number}\n" for number in range(5)}


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One thing to do."""

    operation: str
    arguments: Callable[[FakeGithub], dict[str, Any]]
    plain: Callable[[Github], object]
    note: str = ""


def _sha(github: FakeGithub, path: str) -> str:
    found = github.find(DEMO)
    entry = found.git.find(found.git.refs["refs/heads/main"], path)
    assert entry is not None
    return entry.sha


def _head(github: FakeGithub, branch: str) -> str:
    return github.find(DEMO).git.refs[f"refs/heads/{branch}"]


def prepare(github: FakeGithub) -> None:
    """What the operations need beside `populate`'s world."""
    github.push(DEMO, {"feature.txt": "1\n"}, branch="feature")
    github.push(DEMO, {"other.txt": "1\n"}, branch="other")
    github.pull(DEMO, "Other", head="other")
    github.comment(DEMO, 1, "Me too")


def _plain_push(client: Github) -> object:
    repository = client.get_repo(DEMO)
    head = repository.get_branch("main").commit
    elements = [InputGitTreeElement(path, "100644", "blob", content=content) for path, content in FILES.items()]
    tree = repository.create_git_tree(elements, repository.get_git_tree(head.sha))
    commit = repository.create_git_commit("Notes", tree, [repository.get_git_commit(head.sha)])
    repository.get_git_ref("heads/main").edit(commit.sha)
    return commit.sha


def _plain_put(client: Github) -> object:
    repository = client.get_repo(DEMO)
    found = repository.get_contents("README.md")
    assert not isinstance(found, list)
    return repository.update_file("README.md", "New", "new\n", found.sha)


def _plain_branch(client: Github) -> object:
    repository = client.get_repo(DEMO)
    return repository.create_git_ref("refs/heads/new", repository.get_branch(repository.default_branch).commit.sha)


def _plain_search(client: Github) -> object:
    found = client.search_issues("login is:open")
    return found.totalCount, found.get_page(0)


def _none(_github: FakeGithub) -> dict[str, Any]:
    return {"repo": DEMO}


@dataclass(frozen=True, kw_only=True)
class _With:
    more: dict[str, Any] = field(default_factory=dict[str, Any])

    def __call__(self, _github: FakeGithub) -> dict[str, Any]:
        return {"repo": DEMO, **self.more}


COMPARED = (
    Compared(operation="get_repo", arguments=_none, plain=lambda client: client.get_repo(DEMO)),
    Compared(
        operation="get_contents",
        arguments=_With(more={"path": "README.md"}),
        plain=lambda client: client.get_repo(DEMO).get_contents("README.md"),
    ),
    Compared(
        operation="get_tree", arguments=_none, plain=lambda client: client.get_repo(DEMO).get_git_tree("main", True)
    ),
    Compared(
        operation="list_commits",
        arguments=_none,
        plain=lambda client: client.get_repo(DEMO).get_commits().get_page(0),
    ),
    Compared(
        operation="get_commit",
        arguments=_With(more={"ref": "main"}),
        plain=lambda client: client.get_repo(DEMO).get_commit("main"),
    ),
    Compared(
        operation="list_branches",
        arguments=_none,
        plain=lambda client: client.get_repo(DEMO).get_branches().get_page(0),
    ),
    Compared(
        operation="list_issues", arguments=_none, plain=lambda client: client.get_repo(DEMO).get_issues().get_page(0)
    ),
    Compared(
        operation="get_issue",
        arguments=_With(more={"number": 1}),
        plain=lambda client: client.get_repo(DEMO).get_issue(1),
    ),
    Compared(
        operation="list_comments",
        arguments=_With(more={"number": 1}),
        plain=lambda client: client.get_repo(DEMO).get_issue(1).get_comments().get_page(0),
    ),
    Compared(
        operation="list_pulls", arguments=_none, plain=lambda client: client.get_repo(DEMO).get_pulls().get_page(0)
    ),
    Compared(
        operation="get_pull",
        arguments=_With(more={"number": 2}),
        plain=lambda client: client.get_repo(DEMO).get_pull(2),
    ),
    Compared(
        operation="search_issues",
        arguments=lambda _: {"query": "login is:open"},
        plain=_plain_search,
        note="with the total",
    ),
    Compared(
        operation="create_issue",
        arguments=_With(more={"title": "New"}),
        plain=lambda client: client.get_repo(DEMO).create_issue("New"),
    ),
    Compared(
        operation="update_issue",
        arguments=_With(more={"number": 1, "state": "closed"}),
        plain=lambda client: client.get_repo(DEMO).get_issue(1).edit(state="closed"),
    ),
    Compared(
        operation="create_comment",
        arguments=_With(more={"number": 1, "body": "Indeed"}),
        plain=lambda client: client.get_repo(DEMO).get_issue(1).create_comment("Indeed"),
    ),
    Compared(
        operation="create_pull",
        arguments=_With(more={"title": "Feature", "head": "feature", "base": "main"}),
        plain=lambda client: client.get_repo(DEMO).create_pull(title="Feature", head="feature", base="main"),
    ),
    Compared(
        operation="merge_pull",
        arguments=lambda github: {"repo": DEMO, "number": 2, "head_sha": _head(github, "other")},
        plain=lambda client: client.get_repo(DEMO).get_pull(2).merge(),
        note="ours at the head that was seen",
    ),
    Compared(operation="create_branch", arguments=_With(more={"branch": "new"}), plain=_plain_branch),
    Compared(
        operation="put_file",
        arguments=lambda github: {
            "repo": DEMO,
            "path": "README.md",
            "content": "new\n",
            "message": "New",
            "expected_sha": _sha(github, "README.md"),
        },
        plain=_plain_put,
        note="ours with the hash that was read before",
    ),
    Compared(
        operation="push_files",
        arguments=lambda _: {
            "repo": DEMO,
            "branch": "main",
            "message": "Notes",
            "files": [{"path": path, "content": content} for path, content in FILES.items()],
        },
        plain=_plain_push,
        note="five files in one commit",
    ),
    Compared(
        operation="create_repo_from_template",
        arguments=lambda _: {"template": "acme/tmpl", "name": "fresh", "owner": "alice"},
        plain=lambda client: client.get_user().create_repo_from_template("fresh", client.get_repo("acme/tmpl")),
        note="ours waits until its files are there",
    ),
)
