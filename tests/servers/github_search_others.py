"""The fake's searches for repositories, code and users, which really apply the common qualifiers."""

import posixpath
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from tests.servers.github_bodies import found_user, listed_repository, repository
from tests.servers.github_git import FILE
from tests.servers.github_query import Query, moment_fits, number_fits
from tests.servers.github_routes import Answer, Context, Json, Refused, answers
from tests.servers.github_search import all_fit, checked_query, in_scope, results, text_fits
from tests.servers.github_world import Account, Repository

_REPOSITORIES = "repo user org in language topic is archived fork stars forks size created pushed template license"
_CODE = "repo user org path filename extension language size in"
_USERS = "type user org in repos location followers created language fullname"
_EXTENSIONS = {"python": (".py",), "javascript": (".js",), "go": (".go",), "rust": (".rs",), "markdown": (".md",)}
_Hit = tuple[Repository, str, str]
"""A file's repository, path and blob."""


@answers("GET /search/repositories")
def search_repositories(context: Context) -> Answer:
    query = checked_query(context, _REPOSITORIES)
    newest = context.world.now() - context.world.index_lag_s
    with_forks = not {"true", "only"}.isdisjoint(query.values("fork"))
    found = [
        each
        for each in in_scope(context, query)
        if each.created_at <= newest
        and (with_forks or not each.fork)
        and all_fit(query.terms, partial(_repository_fits, query, each))
    ]
    orders = {"stars": _stars, "forks": _forks, "updated": _updated_at}
    return results(context, found, partial(_shown_repository, context), orders)


def _shown_repository(context: Context, found: Repository) -> Json:
    return repository(context, found, "found-repository")


def _stars(found: Repository) -> float:
    return found.stars


def _forks(found: Repository) -> float:
    return found.forks


def _updated_at(found: Repository) -> float:
    return found.updated_at


def _repository_fits(query: Query, found: Repository, name: str, value: str) -> bool:
    match name:
        case "":
            parts = {"name": found.name, "description": found.description or "", "topics": " ".join(found.topics)}
            return text_fits(query, value, parts, tuple(parts))
        case "repo" | "user" | "org":
            return value in (found.full_name.lower(), found.owner.lower())
        case "language" | "license":
            return (getattr(found, name) or "").lower() == value
        case "topic":
            return value in [each.lower() for each in found.topics]
        case "is":
            return value in ("private" if found.private else "public", "template" if found.is_template else "")
        case "archived":
            return found.archived == (value == "true")
        case "template":
            return found.is_template == (value == "true")
        case "fork":
            return found.fork or value != "only"
        case "stars" | "forks":
            return number_fits(value, getattr(found, name))
        case "size":
            return number_fits(value, sum(map(len, found.git.blobs.values())) // 1024)
        case "created" | "pushed":
            return moment_fits(value.upper(), getattr(found, f"{name}_at"))
        case _:
            return name == "in"


@answers("GET /search/code")
def search_code(context: Context) -> Answer:
    if context.viewer.login is None and context.viewer.installation is None:
        raise Refused(401, "Requires authentication")
    query = checked_query(context, _CODE)
    if not query.words:
        raise Refused(422, "ERROR_TYPE_QUERY_PARSING_FATAL unable to parse query!")
    found = [
        (place, path, sha)
        for place in in_scope(context, query)
        for path, sha in _default_files(place)
        if all_fit(query.terms, partial(_code_fits, query, (place, path, sha)))
    ]
    return results(context, found, partial(_code_body, context, query))


def _default_files(place: Repository) -> list[tuple[str, str]]:
    head = place.git.refs.get(f"refs/heads/{place.default_branch}")
    if head is None:
        return []
    files = place.git.files(place.git.commits[head].tree)
    return [(path, entry.sha) for path, entry in files.items() if entry.mode == FILE]


def _code_fits(query: Query, hit: _Hit, name: str, value: str) -> bool:
    place, path, sha = hit
    lowered = path.lower()
    content = place.git.blobs[sha]
    match name:
        case "":
            parts = {"file": content.decode(errors="replace"), "path": path}
            return text_fits(query, value, parts, ("file",))
        case "repo" | "user" | "org":
            return value in (place.full_name.lower(), place.owner.lower())
        case "path":
            return lowered.startswith(value.strip("/")) or value == "/"
        case "filename":
            return value in posixpath.basename(lowered)
        case "extension":
            return lowered.endswith(f".{value.removeprefix('.')}")
        case "language":
            return lowered.endswith(_EXTENSIONS.get(value, (f".{value}",)))
        case "size":
            return number_fits(value, len(content))
        case _:
            return name == "in"


def _code_body(context: Context, query: Query, hit: _Hit) -> Json:
    place, path, sha = hit
    head = place.git.refs[f"refs/heads/{place.default_branch}"]
    api = f"{context.api}/repositories/{place.id}"
    shown: Json = {
        "name": posixpath.basename(path),
        "path": path,
        "sha": sha,
        "url": f"{api}/contents/{quote(path)}?ref={head}",
        "git_url": f"{api}/git/blobs/{sha}",
        "html_url": f"{context.web}/{place.full_name}/blob/{head}/{quote(path)}",
        "repository": listed_repository(context, place),
        "score": 1.0,
    }
    if ".text-match" in context.accept:
        shown["text_matches"] = _matches(query, shown["url"], place.git.blobs[sha].decode(errors="replace"))
    return shown


def _matches(query: Query, url: str, content: str) -> list[Json]:
    """Each line in which a word stands."""
    words = [term.value for term in query.words if not term.negated]
    found: list[Json] = []
    for line in content.splitlines():
        places = [(word, line.lower().find(word.lower())) for word in words if word.lower() in line.lower()]
        if places:
            matches = [{"text": word, "indices": [start, start + len(word)]} for word, start in places]
            matched = {"object_url": url, "object_type": "FileContent", "property": "content"}
            found.append({**matched, "fragment": line, "matches": matches})
    return found


@answers("GET /search/users")
def search_users(context: Context) -> Answer:
    query = checked_query(context, _USERS)
    found = [
        each
        for each in context.world.accounts.values()
        if not each.login.endswith("[bot]") and all_fit(query.terms, partial(_user_fits, context, query, each))
    ]
    orders: dict[str, Callable[[Account], float]] = {
        "followers": _followers,
        "repositories": partial(_public, context),
        "joined": _joined_at,
    }
    return results(context, found, partial(found_user, context), orders)


def _followers(found: Account) -> float:
    return found.followers


def _joined_at(found: Account) -> float:
    return found.created_at


def _public(context: Context, found: Account) -> int:
    return sum(each.owner == found.login and not each.private for each in context.world.repositories.values())


def _user_fits(context: Context, query: Query, found: Account, name: str, value: str) -> bool:
    match name:
        case "":
            parts = {"login": found.login, "name": found.name or "", "email": found.email or ""}
            return text_fits(query, value, parts, tuple(parts))
        case "type":
            return value in (("org", "organization") if found.is_organization else ("user",))
        case "user" | "org":
            return value == found.login.lower()
        case "fullname":
            return value in (found.name or "").lower()
        case "location":
            return value in (found.location or "").lower()
        case "repos":
            return number_fits(value, _public(context, found))
        case "followers":
            return number_fits(value, found.followers)
        case "created":
            return moment_fits(value.upper(), found.created_at)
        case "language":
            mine = [each for each in context.world.repositories.values() if each.owner == found.login]
            return value in [(each.language or "").lower() for each in mine if not each.private]
        case _:
            return name == "in"
