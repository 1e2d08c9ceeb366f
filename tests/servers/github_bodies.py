"""The fake's accounts and repositories as GitHub's JSON: GitHub's own example of each kind, our values over its own."""

import json
from urllib.parse import quote

from tests.servers.github_git import stamp
from tests.servers.github_routes import Context, Json
from tests.servers.github_spec import example_text
from tests.servers.github_world import Account, Repository

_NUMBERS = {"issue": "1347", "pull-request": "1347", "listed-pull-request": "1347", "found-issue": "132"}
_PLACES = {"found-issue": "batterseapower/pinyin-toolkit", "found-repository": "dtrupenn/Tetris"}
_LOGINS = {"organization": "github", "found-user": "mojombo"}


def example(context: Context, kind: str, *, full_name: str = "", login: str = "", number: int | None = None) -> Json:
    """GitHub's example of this kind of object, its links led to one of ours."""
    text = example_text(kind)
    place = _PLACES.get(kind, "octocat/Hello-World")
    if number is not None:
        text = text.replace(f"/{_NUMBERS[kind]}", f"/{number}")
    if full_name:
        text = text.replace(place, full_name)
    else:
        text = text.replace(f"/{_LOGINS.get(kind, 'octocat')}", f"/{quote(login)}")
    text = text.replace("https://api.github.com", context.api).replace("https://github.com", context.web)
    made: Json = json.loads(text)
    return made


def over(shown: Json, values: Json) -> Json:
    """The example's fields, each with our value where we have one: an object has what GitHub's has, and no more."""
    return {name: values.get(name, value) for name, value in shown.items()}


def user(context: Context, login: str | None) -> Json | None:
    """An account in short, as it stands in other objects."""
    if login is None:
        return None
    account = context.world.accounts[login.lower()]
    found = over(example(context, "found-user", login=account.login), _account_values(context, account))
    del found["score"]
    return found


def found_user(context: Context, account: Account) -> Json:
    """An account as a search shows it."""
    return over(example(context, "found-user", login=account.login), _account_values(context, account))


def account(context: Context, found: Account) -> Json:
    """An account in full."""
    private = context.viewer.login == found.login
    kind = "organization" if found.is_organization else "private-user" if private else "public-user"
    values = _account_values(context, found) | {
        "name": found.name,
        "email": found.email,
        "location": found.location,
        "followers": found.followers,
        "public_repos": sum(
            each.owner == found.login and not each.private for each in context.world.repositories.values()
        ),
        "created_at": stamp(found.created_at),
        "updated_at": stamp(found.created_at),
        "two_factor_authentication": False,
    }
    body = over(example(context, kind, login=found.login), values)
    if found.is_organization:
        body |= {"name": found.name or "", "location": found.location or "", "archived_at": None}
        if found.email is None:
            del body["email"]
    return body


def _account_values(context: Context, found: Account) -> Json:
    return {
        "login": found.login,
        "id": found.id,
        "node_id": f"U_{found.id}",
        "avatar_url": f"{context.web}/avatars/{found.id}",
        "type": "Organization" if found.is_organization else "Bot" if found.login.endswith("[bot]") else "User",
        "site_admin": False,
        "score": 1.0,
    }


def repository(context: Context, found: Repository, kind: str = "repository") -> Json:
    """A repository: in full, `listed-repository`, or `found-repository`."""
    owner = user(context, found.owner)
    issues = sum(issue.state == "open" for issue in found.issues.values())
    writes = context.world.may_write(context.viewer, found)
    values: Json = {
        "id": found.id,
        "node_id": f"R_{found.id}",
        "name": found.name,
        "full_name": found.full_name,
        "owner": owner,
        "private": found.private,
        "visibility": "private" if found.private else "public",
        "description": found.description,
        "homepage": found.homepage,
        "fork": found.fork,
        "archived": found.archived,
        "disabled": False,
        "is_template": found.is_template,
        "default_branch": found.default_branch,
        "master_branch": found.default_branch,
        "language": found.language,
        "topics": list(found.topics),
        "license": _license(context, found.license),
        "stargazers_count": found.stars,
        "watchers_count": found.stars,
        "watchers": found.stars,
        "forks_count": found.forks,
        "forks": found.forks,
        "open_issues_count": issues,
        "open_issues": issues,
        "has_issues": found.has_issues,
        "size": sum(map(len, found.git.blobs.values())) // 1024,
        "created_at": stamp(found.created_at),
        "updated_at": stamp(found.updated_at),
        "pushed_at": stamp(found.pushed_at),
        "mirror_url": None,
        "permissions": {"admin": writes, "maintain": writes, "push": writes, "triage": writes, "pull": True},
    }
    body = over(example(context, kind, full_name=found.full_name), values)
    if kind == "repository":
        body["language"] = found.language  # required, and missing in GitHub's example
        for nested in ("organization", "parent", "source", "temp_clone_token"):
            del body[nested]
        template = context.world.repositories.get(found.template or -1)
        body["template_repository"] = None if template is None else repository(context, template)
        if owner is not None and owner["type"] == "Organization":
            body["organization"] = owner
    return body


def listed_repository(context: Context, found: Repository) -> Json:
    """A repository as lists have it, with what some of them have and GitHub's example lacks."""
    full = repository(context, found)
    return repository(context, found, "listed-repository") | {
        name: full[name] for name in ("forks", "open_issues", "watchers", "license")
    }


def _license(context: Context, name: str | None) -> Json | None:
    if name is None:
        return None
    key = name.lower()
    return {"key": key, "name": name, "spdx_id": name, "url": f"{context.api}/licenses/{key}", "node_id": f"L_{key}"}
