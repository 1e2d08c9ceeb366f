"""How the fake finds who answers a request, and what handlers have in hand: context, answers, refusals, pages."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tests.servers.github_world import Repository, Viewer, World

Json = dict[str, Any]
DOCUMENTATION = "https://docs.github.com/rest"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What goes back. `raw` instead of `body` for anything but JSON."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    raw: bytes | None = None
    content_type: str = "application/json; charset=utf-8"
    modified_at: float | None = None
    """For Last-Modified."""


class Refused(Exception):
    """GitHub says no."""

    def __init__(
        self, status: int, message: str, *, errors: Sequence[Json | str] | None = None, headers: Json | None = None
    ) -> None:
        super().__init__(message)
        body: Json = {"message": message, "documentation_url": DOCUMENTATION, "status": str(status)}
        if errors is not None:
            body["errors"] = list(errors)
        self.answer = Answer(status=status, body=body, headers=headers or {})


def invalid(resource: str, field_name: str, code: str = "invalid", **more: Any) -> Refused:
    """422 as GitHub says it of one field."""
    return Refused(422, "Validation Failed", errors=[{"resource": resource, "code": code, "field": field_name, **more}])


@dataclass(frozen=True, kw_only=True)
class Context:
    """One request as its handler sees it."""

    world: World
    viewer: Viewer
    method: str
    path: str
    """Decoded, as it came in."""
    places: Mapping[str, str]
    """What stands where the template has `{name}`."""
    query: Mapping[str, str]
    accept: str
    body: Json
    """Empty when there is none."""
    api: str
    """Where the API is: `http://127.0.0.1:1234`."""
    web: str
    """Where the pages for people would be."""

    def repository(self, *, write: bool = False, empty: bool = True) -> Repository:
        """The repository that the path names, if the viewer may see it (and, if asked, push to it).

        Raises:
            Refused: it may not, the repository has moved, or it has no commit and `empty` is not allowed.
        """
        full_name = f"{self.places['owner']}/{self.places['repo']}"
        found = self.world.find(full_name)
        if found is None:
            self._follow(full_name)
            raise Refused(404, "Not Found")
        if not self.world.may_read(self.viewer, found):
            raise Refused(404, "Not Found")
        if write:
            self.actor()
            if not self.world.may_write(self.viewer, found):
                if self.viewer.installation is not None:
                    raise Refused(403, "Resource not accessible by integration")
                raise Refused(404, "Not Found")
            if found.archived:
                raise Refused(403, "Repository was archived so is read-only.")
        if not empty and not found.git.refs:
            raise Refused(409, "Git Repository is empty.")
        return found

    def actor(self) -> str:
        """Login of whoever writes.

        Raises:
            Refused: 401, nobody is logged in.
        """
        if self.viewer.installation is not None:
            login = f"app-{self.viewer.installation.app}[bot]"
            self.world.add_account(login)
            return login
        if self.viewer.login is None:
            raise Refused(401, "Requires authentication")
        return self.viewer.login

    def author(self) -> str:
        """Login of whoever writes an issue or a comment, which everyone may who sees the repository.

        Raises:
            Refused: nobody is logged in, or the token is for reading alone.
        """
        login = self.actor()
        if self.viewer.installation is None and self.viewer.scopes.isdisjoint({"repo", "public_repo"}):
            raise Refused(404, "Not Found")
        return login

    def flag(self, name: str) -> bool:
        """Whether a query parameter says yes."""
        return self.query.get(name, "").lower() not in ("", "0", "false")

    def page(self, items: Sequence[Any], *, repository: Repository | None = None) -> tuple[Sequence[Any], Json]:
        """The items of the page that is asked for, and the Link header to the others."""
        per_page = min(100, max(1, self.number("per_page", 30)))
        page = max(1, self.number("page", 1))
        last = max(1, -(-len(items) // per_page))
        path = self.path
        if repository is not None:  # GitHub's own links go by the repository's number
            rest = path.split("/", 4)[4:] if path.startswith("/repos/") else path.split("/", 3)[3:]
            path = f"/repositories/{repository.id}/{'/'.join(rest)}"
        wanted = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
        if page <= 1:
            del wanted["prev"], wanted["first"]
        if page >= last:
            del wanted["next"], wanted["last"]
        links = ", ".join(
            f'<{self.api}{path}?{urlencode({**self.query, "page": str(number)})}>; rel="{relation}"'
            for relation, number in wanted.items()
        )
        return items[(page - 1) * per_page : page * per_page], {"Link": links} if links else {}

    def number(self, name: str, default: int) -> int:
        """A number in the query."""
        try:
            return int(self.query.get(name, default))
        except ValueError:
            return default

    def _follow(self, full_name: str) -> None:
        moved = self.world.repositories.get(self.world.moved.get(full_name.lower(), -1))
        if moved is None or not self.world.may_read(self.viewer, moved):
            return
        target = f"{self.api}/repositories/{moved.id}{self.path[len('/repos/') + len(full_name) :]}"
        if self.query:
            target += f"?{urlencode(dict(self.query))}"
        permanent = self.method == "GET"
        answer = Refused(301 if permanent else 307, "Moved Permanently" if permanent else "Temporary Redirect")
        answer.answer.body["url"] = target
        del answer.answer.body["status"]
        raise Moved(answer.answer, target)


class Moved(Refused):
    """The repository has another name now."""

    def __init__(self, answer: Answer, target: str) -> None:
        Exception.__init__(self, target)
        self.answer = Answer(status=answer.status, body=answer.body, headers={"Location": target})


Handler = Callable[[Context], Answer]


@dataclass(frozen=True, kw_only=True)
class Route:
    """Who answers what."""

    operation: str
    pattern: re.Pattern[str]
    handler: Handler


_GREEDY = {"path": ".*", "ref": ".+", "branch": ".+", "tree_sha": ".+"}
_ROUTES: list[Route] = []


def answers(operation: str) -> Callable[[Handler], Handler]:
    """Mark a handler as the one of an operation, which is written as GitHub's description writes it."""
    _, _, path = operation.partition(" ")
    pattern = re.sub(
        r"\\\{(\w+)\\\}", lambda found: f"(?P<{found[1]}>{_GREEDY.get(found[1], '[^/]+')})", re.escape(path)
    )
    pattern = pattern.replace("/(?P<path>.*)", "(?:/(?P<path>.*))?")  # the top folder also without a slash at the end

    def mark(handler: Handler) -> Handler:
        _ROUTES.append(Route(operation=operation, pattern=re.compile(pattern), handler=handler))
        _ROUTES.sort(key=lambda route: (route.operation.count("{"), -len(route.operation)))
        return handler

    return mark


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The route for a request, with what its places hold."""
    for route in _ROUTES:
        if route.operation.startswith(f"{method} "):
            found = route.pattern.fullmatch(path)
            if found is not None:
                return route, {name: value or "" for name, value in found.groupdict().items()}
    return None


def known_operations() -> set[str]:
    """All that have a handler."""
    return {route.operation for route in _ROUTES}
