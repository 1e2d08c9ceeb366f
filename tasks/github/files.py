"""Writing one file of a repository: compare and swap by the hash that Git has for it."""

import base64
import hashlib
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from github import GithubException
from msgspec import Meta

from tasks.confined import shown
from tasks.github.arguments import Branch, Message, Repo
from tasks.github.call import GithubCall
from tasks.github.client import Clients
from tasks.github.names import checked_branch, checked_path, checked_sha
from tasks.github.refs import cannot_tell
from tasks.github.remembered import CHANGES
from tasks.operation import NOT_DONE, Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

Path = Annotated[str, Meta(description="File in the repository.", examples=["docs/forecast.md"], min_length=1)]
Content = Annotated[str, Meta(description="The whole new content.", examples=["# Forecast\n"])]
Encoding = Annotated[Literal["utf-8", "base64"], Meta(description="What `content` is: text, or bytes as base64.")]
ExpectedSha = Annotated[
    str | None,
    Meta(
        description="`sha` of the file as it was read: it is replaced only if it still is that. None: it must be new.",
        examples=["e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"],
    ),
]


class WrittenFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was written."""

    repo: str
    path: str
    branch: str | None
    """None: the default branch."""
    sha: str
    """Git's hash of the new content: the next write wants it."""
    commit: str | None
    """The commit that did it; none when its answer was lost and the file was found as it should be."""
    created: bool
    api_requests: int
    """Requests that this call has sent to GitHub."""


class DeletedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was removed."""

    repo: str
    path: str
    branch: str | None
    """None: the default branch."""
    commit: str | None
    """The commit that did it; none when its answer was lost and the file was found gone."""
    api_requests: int
    """Requests that this call has sent to GitHub."""


class _Object(msgspec.Struct):
    sha: str


class _Written(msgspec.Struct):
    commit: _Object
    content: _Object | None = None


class _Target(msgspec.Struct, frozen=True, kw_only=True):
    """Which file, and how it was expected to be."""

    repo: str
    path: str
    branch: str | None
    expected_sha: str | None

    @property
    def url(self) -> str:
        return f"/repos/{self.repo}/contents/{quote(self.path)}"


def _probe_put_file(clients: Clients, run: Run, **arguments: Any) -> Any:
    with clients.for_call(run) as github:
        target = _target(github, **arguments)
        return _look_for_write(github, target, blob_sha(decoded(arguments["content"], arguments["encoding"])))


@operation(
    effect=Effect.VERIFIABLE,
    probe=_probe_put_file,
    marks_effect=True,
    destructive=True,
    time_limit_s=60,
    from_context={"repo": "repo"},
    changes=CHANGES,
)
def put_file(
    clients: Clients,
    run: Run,
    *,
    repo: Repo,
    path: Path,
    content: Content,
    message: Message,
    expected_sha: ExpectedSha = None,
    branch: Branch = None,
    encoding: Encoding = "utf-8",
) -> WrittenFile:
    """Write a file of a repository, as one commit.

    Replaces only what was read: give the `sha` that `get_contents` showed. Without it the file must be new. If somebody
    was quicker it fails with `conflict` and nothing is changed. One request.
    """
    raw = decoded(content, encoding)
    with clients.for_call(run) as github:
        target = _target(github, repo=repo, path=path, branch=branch, expected_sha=expected_sha)
        body = {"message": message, "content": base64.b64encode(raw).decode("ascii")}
        return github.once(
            lambda: _put(github, target, body),
            look=lambda: _look_for_write(github, target, blob_sha(raw)),
        )


def _probe_delete_file(clients: Clients, run: Run, **arguments: Any) -> Any:
    with clients.for_call(run) as github:
        return _look_for_deletion(github, _target(github, **arguments))


@operation(
    effect=Effect.VERIFIABLE,
    probe=_probe_delete_file,
    marks_effect=True,
    destructive=True,
    time_limit_s=60,
    from_context={"repo": "repo"},
    changes=CHANGES,
)
def delete_file(
    clients: Clients,
    run: Run,
    *,
    repo: Repo,
    path: Path,
    expected_sha: Annotated[
        str,
        Meta(
            description="`sha` of the file as it was read: it is removed only if it still is that.",
            examples=["e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"],
        ),
    ],
    message: Message,
    branch: Branch = None,
) -> DeletedFile:
    """Remove a file of a repository, as one commit.

    If the file is no longer the one that was read it fails with `conflict` and nothing is changed. One request.
    """
    with clients.for_call(run) as github:
        target = _target(github, repo=repo, path=path, branch=branch, expected_sha=expected_sha)
        return github.once(
            lambda: _delete(github, target, {"message": message}),
            look=lambda: _look_for_deletion(github, target),
        )


def decoded(content: str, encoding: str, argument: str = "content") -> bytes:
    """The bytes that an argument `content` stands for.

    Raises:
        OperationFailed: `content_refused`.
    """
    try:
        return content.encode() if encoding == "utf-8" else base64.b64decode(content, validate=True)
    except ValueError:  # what both raise, for surrogates and for what is no base64
        raise OperationFailed(
            f"{argument} is not valid {encoding}; encode it anew",
            code="content_refused",
            before_effect=True,
            argument=argument,
        ) from None


def blob_sha(raw: bytes) -> str:
    """The hash that Git has for a file of this content."""
    return hashlib.sha1(b"blob %d\0%s" % (len(raw), raw), usedforsecurity=False).hexdigest()


def _target(
    github: GithubCall, *, repo: str, path: str, branch: str | None, expected_sha: str | None, **_: object
) -> _Target:
    if not checked_path(path):
        raise OperationFailed("path must name a file", code="path_refused", before_effect=True, argument="path")
    target = _Target(
        repo=github.full_name(repo),
        path=path,
        branch=None if branch is None else checked_branch(branch),
        expected_sha=None if expected_sha is None else checked_sha(expected_sha, "expected_sha"),
    )
    github.about(f"{shown(path)} in {target.repo}")
    return target


def _body(target: _Target, body: dict[str, Any]) -> dict[str, Any]:
    optional = {"branch": target.branch, "sha": target.expected_sha}
    return body | {name: value for name, value in optional.items() if value is not None}


def _put(github: GithubCall, target: _Target, body: dict[str, Any]) -> WrittenFile:
    try:
        answer = github.json("PUT", target.url, body=_body(target, body))
    except GithubException as error:
        if error.status == 422 and target.expected_sha is None and '"sha"' in str(error.message or error.data):
            raise OperationFailed(
                f"{shown(target.path)} is there already; read it, and give its sha as expected_sha",
                code="conflict",
                before_effect=True,
                argument="expected_sha",
            ) from None
        raise
    written = msgspec.convert(answer, _Written)
    if written.content is None:
        raise ValueError("the answer has no content")
    return WrittenFile(
        repo=target.repo,
        path=target.path,
        branch=target.branch,
        sha=written.content.sha,
        commit=written.commit.sha,
        created=target.expected_sha is None,
        api_requests=github.api_requests,
    )


def _delete(github: GithubCall, target: _Target, body: dict[str, Any]) -> DeletedFile:
    written = msgspec.convert(github.json("DELETE", target.url, body=_body(target, body)), _Written)
    return DeletedFile(
        repo=target.repo,
        path=target.path,
        branch=target.branch,
        commit=written.commit.sha,
        api_requests=github.api_requests,
    )


def _look_for_write(github: GithubCall, target: _Target, sha: str) -> object:
    there = _sha_there(github, target)
    if there == sha:
        return WrittenFile(
            repo=target.repo,
            path=target.path,
            branch=target.branch,
            sha=sha,
            commit=None,
            created=target.expected_sha is None,
            api_requests=github.api_requests,
        )
    if there == target.expected_sha:
        return NOT_DONE
    raise cannot_tell(f"{shown(target.path)} was changed by somebody else", sha=there)


def _look_for_deletion(github: GithubCall, target: _Target) -> object:
    there = _sha_there(github, target)
    if there is None:
        return DeletedFile(
            repo=target.repo, path=target.path, branch=target.branch, commit=None, api_requests=github.api_requests
        )
    if there == target.expected_sha:
        return NOT_DONE
    raise cannot_tell(f"{shown(target.path)} was changed by somebody else", sha=there)


def _sha_there(github: GithubCall, target: _Target) -> str | None:
    parameters = {} if target.branch is None else {"ref": target.branch}
    try:
        found = github.json("GET", target.url, parameters=parameters)
    except GithubException as error:
        if error.status == 404:
            return None
        raise
    return msgspec.convert(found, _Object).sha
