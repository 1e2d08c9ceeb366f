"""A small GitHub on this machine: `python -m local.demo_github --port N`, for the demo and for tests.

It speaks the slice of GitHub's REST API that the tool `github` uses, over a few repositories in memory, with GitHub's
names of fields and its headers. It keeps no secrets and changes nothing: any token will do, and none too.
"""

import argparse
import base64
import hashlib
import json
import signal
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from local.demo_repositories import ISSUES, REPOSITORIES, DemoIssue, DemoRepository

Answer = tuple[int, Any]
_RATE_LIMIT = 5000
_NOT_FOUND: Answer = (
    404,
    {"message": "Not Found", "documentation_url": "https://docs.github.com/rest", "status": "404"},
)


class DemoGithub(ThreadingHTTPServer):
    """The server; `requests` has what was asked of it, in order."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.requests: list[str] = []
        self._lock = threading.Lock()
        self._reset_at = int(time.time()) + 3600

    @property
    def url(self) -> str:
        """Its `github.base_url`."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, target: str, base_url: str) -> Answer:
        """Status and body for a GET of `target`; links in it begin with `base_url`."""
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        names = [unquote(name) for name in parts.path.strip("/").split("/")]
        match names:
            case ["repos", owner, name]:
                repository = _find(owner, name)
                return _NOT_FOUND if repository is None else (200, _repository(repository, base_url))
            case ["repos", owner, name, "contents", *path]:
                repository = _find(owner, name)
                return _NOT_FOUND if repository is None else _contents(repository, path, query, base_url)
            case ["search", "issues"]:
                return _search(query, base_url)
            case _:
                return _NOT_FOUND

    def count(self, target: str) -> dict[str, str]:
        """Remember the request; the headers of the rate limit after it."""
        with self._lock:
            self.requests.append(target)
            now = int(time.time())
            if now >= self._reset_at:
                self._reset_at = now + 3600
            return {
                "X-RateLimit-Limit": str(_RATE_LIMIT),
                "X-RateLimit-Remaining": str(max(0, _RATE_LIMIT - len(self.requests))),
                "X-RateLimit-Used": str(len(self.requests)),
                "X-RateLimit-Reset": str(self._reset_at),
                "X-RateLimit-Resource": "search" if target.startswith("/search/") else "core",
            }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "DemoGithub"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, DemoGithub)
        headers = server.count(self.path)
        host = self.headers.get("Host") or urlsplit(server.url).netloc
        status, body = server.answer(self.path, f"http://{host}")
        raw = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("ETag", f'"{hashlib.sha256(raw).hexdigest()}"')
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: `requests` has it."""


def _find(owner: str, name: str) -> DemoRepository | None:
    return REPOSITORIES.get(f"{owner}/{name}".lower())


def _owner(login: str, base_url: str) -> dict[str, Any]:
    return {
        "login": login,
        "id": _number(login),
        "type": "User",
        "site_admin": False,
        "url": f"{base_url}/users/{login}",
        "html_url": f"{base_url}/{login}",
    }


def _repository(repository: DemoRepository, base_url: str) -> dict[str, Any]:
    full_name = repository.full_name
    owner, _, name = full_name.partition("/")
    open_issues = sum(issue.repo == full_name and issue.state == "open" for issue in ISSUES)
    return {
        "id": _number(full_name),
        "name": name,
        "full_name": full_name,
        "owner": _owner(owner, base_url),
        "private": False,
        "visibility": "public",
        "description": repository.description,
        "fork": False,
        "archived": False,
        "url": f"{base_url}/repos/{full_name}",
        "html_url": f"{base_url}/{full_name}",
        "default_branch": repository.default_branch,
        "language": repository.language,
        "topics": list(repository.topics),
        "stargazers_count": repository.stars,
        "watchers_count": repository.stars,
        "forks_count": 0,
        "open_issues_count": open_issues,
        "size": sum(map(len, repository.files.values())) // 1024,
        "created_at": repository.pushed_at,
        "updated_at": repository.pushed_at,
        "pushed_at": repository.pushed_at,
    }


def _contents(repository: DemoRepository, parts: list[str], query: Mapping[str, str], base_url: str) -> Answer:
    ref = query.get("ref", repository.default_branch)
    if ref != repository.default_branch:
        return 404, {"message": f"No commit found for the ref {ref}", "status": "404"}
    path = "/".join(part for part in parts if part)
    if path in repository.files:
        return 200, _file(repository, path, base_url, with_content=True)
    prefix = f"{path}/" if path else ""
    inner = [name.removeprefix(prefix) for name in repository.files if name.startswith(prefix)]
    if not inner:
        return _NOT_FOUND
    folders = sorted({name.partition("/")[0] for name in inner if "/" in name})
    files = sorted(name for name in inner if "/" not in name)
    return 200, [
        *(_entry(repository, prefix + name, "dir", base_url) for name in folders),
        *(_file(repository, prefix + name, base_url, with_content=False) for name in files),
    ]


def _entry(repository: DemoRepository, path: str, kind: str, base_url: str) -> dict[str, Any]:
    return {
        "type": kind,
        "name": path.rpartition("/")[2],
        "path": path,
        "size": 0,
        "sha": hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest(),
        "url": f"{base_url}/repos/{repository.full_name}/contents/{path}?ref={repository.default_branch}",
        "html_url": f"{base_url}/{repository.full_name}/blob/{repository.default_branch}/{path}",
    }


def _file(repository: DemoRepository, path: str, base_url: str, *, with_content: bool) -> dict[str, Any]:
    raw = repository.files[path]
    blob = b"blob %d\0%s" % (len(raw), raw)
    entry = _entry(repository, path, "file", base_url)
    entry |= {"size": len(raw), "sha": hashlib.sha1(blob, usedforsecurity=False).hexdigest()}
    if not with_content:
        return entry
    if len(raw) > 1_000_000:
        return entry | {"encoding": "none", "content": ""}
    return entry | {"encoding": "base64", "content": base64.encodebytes(raw).decode("ascii")}


def _search(query: Mapping[str, str], base_url: str) -> Answer:
    text = query.get("q", "").strip()
    if not text:
        return 422, {"message": "Validation Failed", "errors": [{"resource": "Search", "field": "q"}], "status": "422"}
    per_page = min(100, max(1, int(query.get("per_page", "30"))))
    page = max(1, int(query.get("page", "1")))
    found = [issue for issue in ISSUES if all(_matches(issue, word) for word in text.lower().split())]
    items = [_issue(issue, base_url) for issue in found[(page - 1) * per_page : page * per_page]]
    return 200, {"total_count": len(found), "incomplete_results": False, "items": items}


def _matches(issue: DemoIssue, word: str) -> bool:
    name, colon, value = word.partition(":")
    if colon:
        match name:
            case "repo":
                return issue.repo.lower() == value
            case "is" | "state" | "type":
                return value in (issue.state, "pr" if issue.is_pull_request else "issue")
            case "label":
                return value.strip('"') in issue.labels
            case "author":
                return issue.author.lower() == value.removeprefix("@")
            case _:
                pass  # not a qualifier: a word with a colon in it
    return word.strip('"') in f"{issue.title}\n{issue.body}".lower()


def _issue(issue: DemoIssue, base_url: str) -> dict[str, Any]:
    kind = "pull" if issue.is_pull_request else "issues"
    body: dict[str, Any] = {
        "id": _number(f"{issue.repo}#{issue.number}"),
        "number": issue.number,
        "title": issue.title,
        "body": issue.body,
        "state": issue.state,
        "user": _owner(issue.author, base_url),
        "labels": [{"id": _number(name), "name": name, "color": "ededed"} for name in issue.labels],
        "comments": issue.comments,
        "created_at": issue.created_at,
        "updated_at": issue.created_at,
        "closed_at": None if issue.state == "open" else issue.created_at,
        "url": f"{base_url}/repos/{issue.repo}/issues/{issue.number}",
        "repository_url": f"{base_url}/repos/{issue.repo}",
        "html_url": f"{base_url}/{issue.repo}/{kind}/{issue.number}",
        "score": 1.0,
    }
    if issue.is_pull_request:
        body["pull_request"] = {"url": f"{base_url}/repos/{issue.repo}/pulls/{issue.number}"}
    return body


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m local.demo_github", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    server = DemoGithub(parser.parse_args().port)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        threading.Thread(target=server.shutdown).start()  # from another thread than the one that serves

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"GitHub's slice on {server.url}", flush=True)
    with server:
        server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
