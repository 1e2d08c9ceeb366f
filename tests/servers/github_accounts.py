"""The fake's answers about accounts, rate limits, apps, and repositories as a whole."""

import re
from functools import partial

import jwt

from tests.servers.github_bodies import account, example, listed_repository, repository
from tests.servers.github_git import Git, stamp
from tests.servers.github_routes import Answer, Context, Json, Refused, answers, invalid
from tests.servers.github_world import App, Repository, World

_LONGEST_JWT_S = 600


@answers("GET /user")
def get_user(context: Context) -> Answer:
    if context.viewer.installation is not None:
        raise Refused(403, "Resource not accessible by integration")
    return Answer(body=account(context, context.world.accounts[context.actor().lower()]))


@answers("GET /users/{username}")
def get_account(context: Context) -> Answer:
    found = context.world.accounts.get(context.places["username"].lower())
    if found is None:
        raise Refused(404, "Not Found")
    return Answer(body=account(context, found), modified_at=found.created_at)


@answers("GET /orgs/{org}")
def get_organization(context: Context) -> Answer:
    found = context.world.accounts.get(context.places["org"].lower())
    if found is None or not found.is_organization:
        raise Refused(404, "Not Found")
    return Answer(body=account(context, found), modified_at=found.created_at)


@answers("POST /app/installations/{installation_id}/access_tokens")
def create_installation_token(context: Context) -> Answer:
    if context.viewer.app is None:
        raise Refused(401, "A JSON web token could not be decoded")
    installation = context.world.installations.get(int(context.places["installation_id"]))
    if installation is None or installation.app != context.viewer.app.id:
        raise Refused(404, "Not Found")
    token, expires_at = context.world.issue_token(installation)
    permissions = context.body.get("permissions")
    body: Json = {
        "token": token,
        "expires_at": stamp(expires_at),
        "permissions": permissions or {"contents": "write", "issues": "write", "metadata": "read"},
        "repository_selection": "all" if installation.repositories is None else "selected",
    }
    return Answer(status=201, body=body)


def app_of(world: World, token: str) -> App:
    """The app that signed a JWT.

    Raises:
        Refused: it is not signed by a known app, or not for now.
    """
    try:
        claims: Json = jwt.decode(token, options={"verify_signature": False})
        app = world.apps[int(claims["iss"])]
        jwt.decode(
            token,
            app.public_key,
            algorithms=["RS256"],
            options={"verify_exp": False, "verify_iat": False, "require": ["iat", "exp", "iss"]},
        )
    except (jwt.InvalidTokenError, KeyError, ValueError, TypeError) as error:
        raise Refused(401, "A JSON web token could not be decoded") from error
    now = world.now()
    if claims["exp"] <= now:
        raise Refused(401, "'Expiration time' claim ('exp') must be a numeric value representing the future time")
    if claims["exp"] > now + _LONGEST_JWT_S or claims["iat"] > now + 60:
        raise Refused(401, "'Expiration time' claim ('exp') is too far in the future")
    return app


@answers("GET /user/repos")
def list_own_repositories(context: Context) -> Answer:
    login = context.actor()
    world = context.world
    return _listed(
        context,
        [each for each in world.repositories.values() if each.owner == login or world.may_write(context.viewer, each)],
    )


@answers("GET /users/{username}/repos")
def list_repositories_of_user(context: Context) -> Answer:
    get_account(context)
    wanted = context.places["username"].lower()
    return _listed(
        context,
        [each for each in context.world.repositories.values() if each.owner.lower() == wanted and not each.private],
    )


@answers("GET /orgs/{org}/repos")
def list_repositories_of_organization(context: Context) -> Answer:
    get_organization(context)
    wanted = context.places["org"].lower()
    return _listed(context, [each for each in context.world.repositories.values() if each.owner.lower() == wanted])


def _listed(context: Context, candidates: list[Repository]) -> Answer:
    found = [each for each in candidates if context.world.may_read(context.viewer, each)]
    wanted = context.query.get("visibility") or context.query.get("type")
    if wanted in ("public", "private"):
        found = [each for each in found if each.private == (wanted == "private")]
    key = context.query.get("sort", "full_name")
    descending = context.query.get("direction", "asc" if key == "full_name" else "desc") == "desc"
    found.sort(key=partial(_order, key), reverse=descending)
    page, headers = context.page(found)
    return Answer(body=[listed_repository(context, each) for each in page], headers=headers)


def _order(key: str, found: Repository) -> tuple[float, str]:
    at = {"created": found.created_at, "updated": found.updated_at, "pushed": found.pushed_at}
    return at.get(key, 0.0), found.full_name.lower()


@answers("GET /repos/{owner}/{repo}")
def get_repository(context: Context) -> Answer:
    found = context.repository()
    return Answer(body=repository(context, found), modified_at=found.updated_at)


@answers("POST /user/repos")
def create_own_repository(context: Context) -> Answer:
    return _created(context, context.actor(), context.body)


@answers("POST /orgs/{org}/repos")
def create_repository_of_organization(context: Context) -> Answer:
    organization = get_organization(context).body["login"]
    _require_place(context, organization)
    return _created(context, organization, context.body)


def _created(context: Context, owner: str, body: Json) -> Answer:
    if context.viewer.installation is None and not {"repo", "public_repo"} & context.viewer.scopes:
        raise Refused(404, "Not Found")
    wanted = body.get("visibility") == "private" or body.get("private", False)
    made = _named(context, owner, body["name"], private=wanted, failure="Repository creation failed.")
    for name in ("description", "homepage", "is_template", "has_issues"):
        if name in body:
            setattr(made, name, body[name])
    if body.get("auto_init"):
        readme = f"# {made.name}\n".encode()
        context.world.commit(made, {"README.md": readme}, message="Initial commit", by=context.actor())
    where = {"Location": f"{context.api}/repos/{made.full_name}"}
    return Answer(status=201, body=repository(context, made), headers=where)


@answers("POST /repos/{template_owner}/{template_repo}/generate")
def generate(context: Context) -> Answer:
    login = context.actor()
    world, body = context.world, context.body
    template = world.find(f"{context.places['template_owner']}/{context.places['template_repo']}")
    if template is None or not world.may_read(context.viewer, template):
        raise Refused(404, "Not Found")
    if not template.is_template:
        failure = f"{template.full_name} is not a template repository"
        raise Refused(422, "Validation Failed", errors=[f"Could not clone: {failure}"])
    owner = body.get("owner", login)
    _require_place(context, owner)
    made = _named(
        context,
        world.accounts[owner.lower()].login,
        body["name"],
        private=body.get("private", False),
        failure="Could not clone: Name already exists on this account",
    )
    made.description = body.get("description")
    made.default_branch, made.template = template.default_branch, template.id
    made.arriving = (world.now() + world.template_delay_s, _history(world, template, login, body))
    world.let_arrive(made)
    where = {"Location": f"{context.api}/repos/{made.full_name}"}
    return Answer(status=201, body=repository(context, made), headers=where)


def _history(world: World, template: Repository, login: str, body: Json) -> Git:
    """What GitHub makes of a template: the files of its branches, each in one new commit."""
    fresh = Repository(
        id=0, owner=login, name="", private=True, created_at=0, updated_at=0, pushed_at=0, git=template.git.copy()
    )
    fresh.git.refs.clear()
    for ref, sha in template.git.refs.items():
        branch = ref.removeprefix("refs/heads/")
        if body.get("include_all_branches") or branch == template.default_branch:
            files = template.git.files(template.git.commits[sha].tree)
            world.commit(fresh, files, message="Initial commit", by=login, branch=branch)
    return fresh.git


def _named(context: Context, owner: str, name: str, *, private: bool, failure: str) -> Repository:
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
    if not clean or clean in (".", ".."):
        raise invalid("Repository", "name", "missing_field")
    if context.world.find(f"{owner}/{clean}") is not None:
        error = {"resource": "Repository", "code": "custom", "field": "name"}
        message = "name already exists on this account"
        if failure.startswith("Could not"):
            raise Refused(422, "Unprocessable Entity", errors=[failure])
        raise Refused(422, failure, errors=[{**error, "message": message}])
    return context.world.add_repository(owner, clean, private=private)


def _require_place(context: Context, owner: str) -> None:
    """May the viewer make repositories there?"""
    account_there = context.world.accounts.get(owner.lower())
    if account_there is None:
        raise Refused(404, "Not Found")
    login = context.actor()
    installed = context.viewer.installation
    if installed is not None and installed.account.lower() == owner.lower():
        return
    if login != account_there.login and login not in account_there.members:
        raise Refused(403, "You need admin access to the organization before adding a repository to it.")


@answers("GET /rate_limit")
def get_rate_limit(context: Context) -> Answer:
    """The server puts the figures in: it counts."""
    return Answer(body=example(context, "rate-limit"))
