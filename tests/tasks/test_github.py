import base64
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import pytest

from local.demo_github import DemoGithub
from store.configuration import Configuration
from store.sections import Secret
from store.tool_settings import Github as GithubSettings
from tasks.github import TOOL
from tasks.github.client import Clients
from tasks.github.contents import Contents
from tasks.github.repositories import Repository
from tasks.github.search import FoundIssues
from tasks.operation import Postponed
from tests.servers.sshd import free_port
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed

Server = TypeVar("Server", bound=ThreadingHTTPServer)
TOKEN = "ghp_do_not_show_this"


@pytest.fixture
def server() -> Generator[DemoGithub, None, None]:
    with _serving(DemoGithub(0)) as served:
        yield served


@contextmanager
def _serving(server: Server) -> Generator[Server, None, None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def clients(server: DemoGithub) -> Clients:
    return _clients(server.url)


def _clients(url: str, *, owner: str = "acme", timeout_s: float = 5.0) -> Clients:
    settings = GithubSettings(base_url=url, token=Secret(TOKEN), default_owner=owner, timeout_s=timeout_s)
    opened = TOOL.open(Configuration(github=settings))
    assert isinstance(opened, Clients)
    return opened


def _get_repo(clients: Clients, repo: str, run: FakeRun | None = None) -> Repository:
    result = TOOL.operations["get_repo"].function(clients, run or FakeRun(), repo=repo)
    assert isinstance(result, Repository)
    return result


def _get_contents(clients: Clients, **arguments: Any) -> Contents:
    result = TOOL.operations["get_contents"].function(clients, FakeRun(), **arguments)
    assert isinstance(result, Contents)
    return result


def _search(clients: Clients, query: str, limit: int = 20) -> FoundIssues:
    result = TOOL.operations["search_issues"].function(clients, FakeRun(), query=query, limit=limit)
    assert isinstance(result, FoundIssues)
    return result


def test_a_repository_is_described_with_one_request(clients: Clients, server: DemoGithub) -> None:
    run = FakeRun()

    repository = _get_repo(clients, "acme/weather", run)

    assert (repository.repo, repository.default_branch, repository.language) == ("acme/weather", "main", "Python")
    assert repository.untrusted
    assert server.requests == ["/repos/acme/weather"]
    assert run.places == [server.url.removeprefix("http://")]


def test_the_owner_is_filled_in_and_shown(clients: Clients) -> None:
    assert _get_repo(clients, "weather").repo == "acme/weather"


def test_without_a_default_owner_a_bare_name_is_refused(server: DemoGithub) -> None:
    with pytest.raises(OperationFailed, match=r"github\.default_owner") as caught:
        _get_repo(_clients(server.url, owner=""), "weather")

    assert caught.value.before_effect


def test_a_file_comes_with_one_request_and_marked_untrusted(clients: Clients, server: DemoGithub) -> None:
    contents = _get_contents(clients, repo="acme/weather", path="src/cities.json", ref="main")

    assert contents.content == '{"berlin": [52.5, 13.4], "köln": [50.9, 7.0]}\n'
    assert (contents.kind, contents.encoding, contents.untrusted) == ("file", "utf-8", True)
    assert server.requests == ["/repos/acme/weather/contents/src/cities.json?ref=main"]


def test_a_file_that_is_no_text_comes_as_base64(clients: Clients) -> None:
    contents = _get_contents(clients, repo="acme/weather", path="logo.png")

    assert contents.encoding == "base64"
    assert base64.b64decode(contents.content or "").startswith(b"\x89PNG")


@pytest.mark.parametrize("path", ["", "."])
def test_a_folder_is_listed_with_one_request(clients: Clients, server: DemoGithub, path: str) -> None:
    contents = _get_contents(clients, repo="acme/weather", path=path)

    entries = contents.entries or []
    assert [(entry.path, entry.kind) for entry in entries][:3] == [
        ("src", "dir"),
        ("tests", "dir"),
        ("README.md", "file"),
    ]
    assert len(server.requests) == 1


def test_issues_are_found_with_one_request_whatever_they_lack(clients: Clients, server: DemoGithub) -> None:
    found = _search(clients, "crash repo:acme/weather", limit=2)

    assert [(issue.number, issue.is_pull_request, issue.repo) for issue in found.issues] == [
        (1, False, "acme/weather"),
        (3, True, "acme/weather"),
    ]
    assert (found.total, found.untrusted) == (2, True)
    assert len(server.requests) == 1


def test_no_more_issues_come_than_were_asked_for(clients: Clients) -> None:
    found = _search(clients, "is:open", limit=1)

    assert (len(found.issues), found.total) == (1, 3)


@pytest.mark.parametrize("repo", ["acme/none", "nobody/weather"])
def test_what_is_not_there_is_not_found(clients: Clients, repo: str) -> None:
    with pytest.raises(OperationFailed) as caught:
        _get_repo(clients, repo)

    error = caught.value
    assert (error.failure_code, error.failure_retryable, error.before_effect) == ("not_found", False, True)


def test_a_missing_file_or_ref_is_not_found(clients: Clients) -> None:
    for arguments in ({"path": "no/file"}, {"path": "README.md", "ref": "no-branch"}):
        with pytest.raises(OperationFailed) as caught:
            _get_contents(clients, repo="weather", **arguments)
        assert caught.value.failure_code == "not_found"


@pytest.mark.parametrize(
    "repo",
    [
        *("alice/../acme/tmpl", "alice/de%6do", "alice/demo?x=", "alice/demo#x", "me/..", "../x", "a/b/c", "", "/"),
        *("a\\b/c", "a/b\n", "a/ b", "-a/b", "a/.", "acme/", "/weather", "a\0/b", "https://github.com/a/b"),
    ],
)
def test_a_repository_name_that_could_lead_elsewhere_is_never_sent(
    clients: Clients, server: DemoGithub, repo: str
) -> None:
    with pytest.raises(OperationFailed) as caught:
        _get_repo(clients, repo)

    assert (caught.value.failure_code, caught.value.before_effect) == ("path_refused", True)
    assert server.requests == []


@pytest.mark.parametrize(
    "path",
    [
        *("a/../../../../acme/tmpl/contents/README.md", "../../../acme/tmpl/contents/pwn", "..", "a//b", "/a", "a/"),
        *("a/./b", "%2e%2e/x", "a%2fb", "a\\b", "a\nb", "a\0b", "x" * 5000),
    ],
)
def test_a_path_that_could_lead_elsewhere_is_never_sent(clients: Clients, server: DemoGithub, path: str) -> None:
    with pytest.raises(OperationFailed) as caught:
        _get_contents(clients, repo="weather", path=path)

    assert caught.value.failure_code == "path_refused"
    assert server.requests == []


@pytest.mark.parametrize("ref", ["../../../acme/tmpl", "--upload-pack=x", "a b", "", "a//b", "x?y", "a\rb"])
def test_a_ref_that_could_lead_elsewhere_is_never_sent(clients: Clients, server: DemoGithub, ref: str) -> None:
    with pytest.raises(OperationFailed) as caught:
        _get_contents(clients, repo="weather", path="README.md", ref=ref)

    assert caught.value.failure_code == "path_refused"
    assert server.requests == []


@pytest.mark.parametrize("query", ["", "  ", "x" * 257, "a\nb"])
def test_a_query_out_of_githubs_limits_is_never_sent(clients: Clients, server: DemoGithub, query: str) -> None:
    with pytest.raises(OperationFailed) as caught:
        _search(clients, query)

    assert caught.value.failure_code == "query_refused"
    assert server.requests == []


class Faulty(ThreadingHTTPServer):
    """Answers everything in one way, and counts."""

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.status = status
        self.body = body
        self.headers = headers
        self.count = 0
        self.delay = threading.Event()
        self.waits = False
        super().__init__(("127.0.0.1", 0), _FaultyHandler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _FaultyHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Faulty)
        server.count += 1
        if server.waits:
            server.delay.wait(10)
            return
        self.send_response(server.status)
        for name, value in server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(server.body)))
        self.end_headers()
        self.wfile.write(server.body)

    def log_message(self, format: str, *args: Any) -> None: ...


PRIMARY = b'{"message": "API rate limit exceeded for user ID 1."}'
SECONDARY = b'{"message": "You have exceeded a secondary rate limit. Please wait a few minutes."}'
FORBIDDEN = b'{"message": "Resource not accessible by personal access token"}'
Headers = Callable[[float], Mapping[str, str]]


def _reset(after_s: float) -> Headers:
    return lambda now: {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(now + after_s))}


def _nothing(_now: float) -> Mapping[str, str]:
    return {}


def _at_a_date(now: float) -> Mapping[str, str]:
    return {"Retry-After": formatdate(now + 90, usegmt=True)}


def _retry_after(value: str) -> Headers:
    return lambda _: {"Retry-After": value}


@pytest.mark.parametrize(
    ("status", "body", "headers", "wait_s"),
    [
        (403, PRIMARY, _reset(120), 120),
        (403, PRIMARY, _reset(-50), 60),
        (403, PRIMARY, _reset(31_536_000), 3600),
        (403, SECONDARY, _nothing, 60),
        (403, SECONDARY, _retry_after("7"), 7),
        (429, b"{}", _nothing, 60),
        (429, b"{}", _retry_after("30"), 30),
        (429, b"{}", _retry_after("86400"), 3600),
        (429, b"{}", _retry_after("-1"), 60),
        (429, b"{}", _retry_after("soon"), 60),
        (429, b"{}", _at_a_date, 90),
    ],
)
def test_a_rate_limit_postpones_the_call_and_holds_nobody_up(
    status: int, body: bytes, headers: Headers, wait_s: float
) -> None:
    began = time.time()
    with _serving(Faulty(status, body, headers(began))) as server, pytest.raises(Postponed) as caught:
        _get_repo(_clients(server.url), "a/b")

    postponed = caught.value
    assert (postponed.failure_code, postponed.details["status"]) == ("rate_limited", status)
    assert postponed.delay_s == pytest.approx(wait_s, abs=4)
    assert postponed.details["retry_at"] - began == pytest.approx(wait_s, abs=4)
    assert time.time() - began < 2
    assert server.count == 1


@pytest.mark.parametrize(
    ("status", "body", "code", "retryable", "requests"),
    [
        (403, FORBIDDEN, "permission", False, 1),
        (401, b'{"message": "Bad credentials"}', "authentication", False, 1),
        (401, b"<html>no</html>", "authentication", False, 1),
        (404, b'{"message": "Not Found"}', "not_found", False, 1),
        (404, b"<html>no</html>", "not_found", False, 1),
        (422, b'{"message": "Validation Failed"}', "upstream_refused", False, 1),
        (502, b"<html>Bad Gateway</html>", "upstream_failed", True, 3),
        (500, b"", "upstream_failed", True, 3),
        (200, b"<html>a captive portal</html>", "upstream_failed", True, None),
        (200, b"[1, 2", "upstream_failed", True, None),
        (200, b"null", "upstream_failed", True, None),
        (200, b'{"full_name": 7}', "upstream_failed", True, None),
    ],
)
def test_every_other_answer_has_its_error(
    status: int, body: bytes, code: str, retryable: bool, requests: int | None
) -> None:
    with (
        _serving(Faulty(status, body, {"Content-Type": "application/json"})) as server,
        pytest.raises(OperationFailed) as caught,
    ):
        _get_repo(_clients(server.url), "a/b")

    error = caught.value
    assert (error.failure_code, error.failure_retryable, error.before_effect) == (code, retryable, True)
    assert requests in (None, server.count)
    assert TOKEN not in str(error.info())


def test_a_github_that_is_not_there_is_unreachable_before_the_effect() -> None:
    with pytest.raises(OperationFailed) as caught:
        _get_repo(_clients(f"http://127.0.0.1:{free_port()}"), "a/b")

    error = caught.value
    assert (error.failure_code, error.failure_retryable, error.before_effect) == ("upstream_unreachable", True, True)
    assert TOKEN not in str(error.info())


def test_a_github_that_says_nothing_is_given_up() -> None:
    with _serving(Faulty(200, b"", {})) as server:
        server.waits = True
        began = time.monotonic()

        with pytest.raises(OperationFailed) as caught:
            _get_repo(_clients(server.url, timeout_s=1), "a/b")

        server.delay.set()

    assert caught.value.failure_code == "upstream_unreachable"
    assert time.monotonic() - began < 5


def test_an_answer_whose_links_lead_to_another_host_sends_nothing_there(server: DemoGithub) -> None:
    body = f'{{"url": "{server.url}/repos/acme/weather"}}'.encode()
    with (
        _serving(Faulty(200, body, {"Content-Type": "application/json"})) as liar,
        pytest.raises(OperationFailed) as caught,
    ):
        _get_repo(_clients(liar.url), "a/b")

    assert caught.value.failure_code == "upstream_failed"
    assert server.requests == []


def test_hidden_characters_in_text_of_strangers_are_made_visible() -> None:
    title = "fix\\u200b me\\u202e \\ud83d\\ude80"
    item = (
        f'{{"number": 1, "title": "{title}", "body": "a\\u2066b", "state": "open", "comments": 0, "user": null,'
        '"labels": [], "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",'
        '"html_url": "http://x/a/b/issues/1", "repository_url": "http://x/repos/a/b"}'
    )
    body = f'{{"total_count": 1, "incomplete_results": true, "items": [{item}]}}'.encode()
    with _serving(Faulty(200, body, {"Content-Type": "application/json"})) as server:
        found = _search(_clients(server.url), "x")

    assert (found.issues[0].title, found.issues[0].excerpt) == ("fix[U+200B] me[U+202E] 🚀", "a[U+2066]b")
    assert (found.issues[0].author, found.incomplete) == (None, True)


def test_nothing_shows_the_token(clients: Clients, server: DemoGithub) -> None:
    with clients.for_call(FakeRun()) as github:
        repository = github.repository("acme/weather")
        assert repository.default_branch == "main"
        seen = [repr(held.__dict__) for held in (clients, github, github.client, github.client.requester, repository)]

    assert TOKEN not in "".join(seen)
    assert server.requests == ["/repos/acme/weather"]
