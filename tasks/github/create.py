"""New repositories: empty, or from a template."""

import time
import uuid
from typing import Annotated, Any

import msgspec
from github import GithubException
from github.Repository import Repository as Upstream
from msgspec import Meta

from tasks.github.call import GithubCall
from tasks.github.client import Clients
from tasks.github.names import checked_new_name, checked_owner
from tasks.github.refs import cannot_tell
from tasks.github.repositories import Repository, described
from tasks.operation import NOT_DONE, Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

_CLOCKS_DIFFER_S = 120.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 4.0

NewName = Annotated[str, Meta(description="Name of the new repository, without its owner.", examples=["forecast"])]
NewOwner = Annotated[
    str | None, Meta(description="User or organization that gets it; none: the default owner.", examples=["acme"])
]
Description = Annotated[str, Meta(description="One line about it.", max_length=350)]
Private = Annotated[bool, Meta(description="False makes it public, to everyone on the internet.")]


class CreatedRepository(msgspec.Struct, frozen=True, kw_only=True):
    """A repository that was made."""

    repository: Repository
    ready: bool
    """Whether its files are there: GitHub copies a template's in the background."""
    template: str | None
    """`owner/name` of the template, when there was one."""
    api_requests: int
    """Requests that this call has sent to GitHub."""


class _Wanted(msgspec.Struct, frozen=True, kw_only=True):
    full_name: str
    description: str
    private: bool
    template: str | None = None


def _probe_create_repo(clients: Clients, run: Run, **arguments: Any) -> Any:
    with clients.for_call(run) as github:
        owner, name = _place(github, arguments["owner"], arguments["name"])
        wanted = _Wanted(
            full_name=f"{owner}/{name}", description=arguments["description"], private=arguments["private"]
        )
        return _look(github, wanted, run)


@operation(effect=Effect.VERIFIABLE, probe=_probe_create_repo, marks_effect=True, time_limit_s=60)
def create_repo(
    clients: Clients,
    run: Run,
    *,
    name: NewName,
    owner: NewOwner = None,
    description: Description = "",
    private: Private = True,
    with_readme: Annotated[bool, Meta(description="Whether it begins with a commit, so that it has a branch.")] = True,
) -> CreatedRepository:
    """Create a repository; private, unless it is said otherwise.

    Fails with `already_exists` when the owner has one of that name; that one is left alone.
    """
    with clients.for_call(run) as github:
        login, checked = _place(github, owner, name)
        full_name = f"{login}/{checked}"
        own = github.is_own(login)
        wanted = _Wanted(full_name=full_name, description=description, private=private)
        github.about(f"repository {full_name}" if own else f"organization {login} for a new repository")
        path = "/user/repos" if own else f"/orgs/{login}/repos"
        body = {"name": checked, "description": description, "private": private, "auto_init": with_readme}
        return github.once(
            lambda: _shown(github, github.json("POST", path, body=body), template=None),
            look=lambda: _look(github, wanted, run),
        )


def _probe_create_from_template(clients: Clients, run: Run, **arguments: Any) -> Any:
    with clients.for_call(run) as github:
        owner, name = _place(github, arguments["owner"], arguments["name"])
        template, _ = _template(clients, github, arguments["template"])
        wanted = _Wanted(
            full_name=f"{owner}/{name}",
            description=arguments["description"],
            private=arguments["private"],
            template=template,
        )
        found = _look(github, wanted, run)
        if not isinstance(found, CreatedRepository):
            return found
        return _when_ready(github, found, arguments["wait_s"])


@operation(effect=Effect.VERIFIABLE, probe=_probe_create_from_template, marks_effect=True, time_limit_s=120)
def create_repo_from_template(
    clients: Clients,
    run: Run,
    *,
    template: Annotated[
        str,
        Meta(
            description="Template repository: owner/name, its URL, or a name of the catalogue github.templates.",
            examples=["acme/service-template"],
        ),
    ],
    name: NewName,
    owner: NewOwner = None,
    description: Description = "",
    private: Private = True,
    include_all_branches: Annotated[
        bool | None,
        Meta(description="Whether all branches are copied; none: as the catalogue says, else only the default one."),
    ] = None,
    wait_s: Annotated[
        float, Meta(description="How long to wait until its files are there; 0: not at all.", ge=0, le=60)
    ] = 15.0,
) -> CreatedRepository:
    """Create a repository from a template repository.

    Private, unless it is said otherwise. Waits until GitHub has copied the files, and says in `ready` whether it had
    when `wait_s` was over. Fails with `already_exists` when the owner has one of that name.
    """
    with clients.for_call(run) as github:
        login, checked = _place(github, owner, name)
        source, all_branches = _template(clients, github, template)
        wanted = _Wanted(full_name=f"{login}/{checked}", description=description, private=private, template=source)
        body = {
            "owner": login,
            "name": checked,
            "description": description,
            "private": private,
            "include_all_branches": all_branches if include_all_branches is None else include_all_branches,
        }
        github.about(f"template {source}")
        made = github.once(
            lambda: _shown(github, github.json("POST", f"/repos/{source}/generate", body=body), template=source),
            look=lambda: _look(github, wanted, run),
        )
        return _when_ready(github, made, wait_s)


def _place(github: GithubCall, owner: str | None, name: str) -> tuple[str, str]:
    checked = checked_new_name(name)
    return (checked_owner(owner) if owner else github.default_owner()), checked


def _template(clients: Clients, github: GithubCall, template: str) -> tuple[str, bool]:
    entry = clients.templates.get(template)
    if entry is not None:
        return github.full_name(entry.repo), entry.include_all_branches
    return github.full_name(template), False


def _shown(github: GithubCall, data: Any, *, template: str | None) -> CreatedRepository:
    found = Upstream(github.client.requester, {}, data, completed=True)
    return CreatedRepository(
        repository=described(found, github),
        ready=template is None,
        template=template,
        api_requests=github.api_requests,
    )


def _look(github: GithubCall, wanted: _Wanted, run: Run) -> object:
    """The repository, if it was made since the call began, and as the call wanted it: no two can have one name."""
    github.about(f"repository {wanted.full_name}")
    try:
        data = github.json("GET", f"/repos/{wanted.full_name}")
    except GithubException as error:
        if error.status == 404:
            return NOT_DONE
        raise
    made = Upstream(github.client.requester, {}, data, completed=True)
    if made.created_at.timestamp() < _began_at(run) - _CLOCKS_DIFFER_S:
        return NOT_DONE  # it was there before: the creation, when it is tried, says so
    if ((made.description or "").strip(), made.private) != (wanted.description.strip(), wanted.private):
        raise cannot_tell(f"repository {wanted.full_name} was made just now, but not as this call wanted it")
    return _shown(github, data, template=wanted.template)


def _began_at(run: Run) -> float:
    """When the call was made, as its id says (UUID version 7)."""
    return (uuid.UUID(run.call.id).int >> 80) / 1000 if uuid.UUID(run.call.id).version == 7 else time.time()


def _when_ready(github: GithubCall, made: CreatedRepository, wait_s: float) -> CreatedRepository:
    repository, ends_at, pause_s = made.repository, time.monotonic() + wait_s, _FIRST_PAUSE_S
    github.about(f"repository {repository.repo}")
    ready = False
    while wait_s > 0 and not ready:
        ready = _has_files(github, repository.repo)
        left_s = min(ends_at - time.monotonic(), github.remaining_s() - 5.0)
        if ready or left_s <= 0 or not github.pause(min(pause_s, left_s)):
            break
        pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
    return msgspec.structs.replace(made, ready=ready, api_requests=github.api_requests)


def _has_files(github: GithubCall, full_name: str) -> bool:
    """Whether GitHub has copied anything yet: an empty repository has no commits (409)."""
    try:
        commits = github.json("GET", f"/repos/{full_name}/commits", parameters={"per_page": "1"})
    except (GithubException, OperationFailed) as error:
        status = error.status if isinstance(error, GithubException) else 0
        if status in (404, 409) or status >= 500 or isinstance(error, OperationFailed):
            return False  # the repository is made, whatever this says
        raise
    return bool(commits)
