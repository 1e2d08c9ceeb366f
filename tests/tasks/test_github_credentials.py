"""Whose credential a call uses, and where it never shows."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from store.configuration import Configuration
from store.sections import Secret
from store.tool_settings import Github as GithubSettings
from store.tool_settings import GithubTenant
from tasks.github.client import Clients
from tasks.github.marker import mark
from tests.servers.github import ALICE_TOKEN, BOB_TOKEN, FakeGithub
from tests.servers.scripted_http import Heard, Say, scripted
from tests.servers.valkey import Valkey
from tests.tasks.github_calls import github_calls
from toolswarm.errors import ConfigurationError


@pytest.fixture(scope="module")
def app_key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    file = tmp_path_factory.mktemp("app") / "key.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return file, public.decode()


def _tokens_sent(github: FakeGithub) -> list[str]:
    return [each.credential for each in github.requests]


def test_each_tenant_has_its_own_token_and_owner(fake_github: FakeGithub) -> None:
    tenants = {
        "bobs": GithubTenant(token=Secret(BOB_TOKEN)),
        "weather": GithubTenant(default_owner="acme"),
    }
    with github_calls(fake_github.url, tenants=tenants, default_owner="alice") as calls:
        shared = calls.do("get_repo", calls.run(tenant="anyone"), repo="demo")
        own_owner = calls.do("get_repo", calls.run(tenant="weather"), repo="weather")
        bobs = calls.do("get_repo", calls.run(tenant="bobs"), repo="secret")

    assert (shared.repo, own_owner.repo, bobs.repo) == ("alice/demo", "acme/weather", "bob/secret")
    alice, bob = FakeGithub.fingerprint(ALICE_TOKEN), FakeGithub.fingerprint(BOB_TOKEN)
    assert _tokens_sent(fake_github) == [alice, alice, bob, bob]


def test_the_owner_of_a_token_is_asked_for_once(fake_github: FakeGithub) -> None:
    with github_calls(fake_github.url) as calls:
        for _ in range(3):
            assert calls.do("get_repo", repo="demo").repo == "alice/demo"

    assert fake_github.sent().count("GET /user") == 1


def test_without_a_token_only_whole_names_work(fake_github: FakeGithub) -> None:
    with github_calls(fake_github.url, token=Secret("")) as calls:
        found = calls.do("get_repo", repo="alice/demo")
        error = calls.failure("get_repo", repo="demo")

    assert found.repo == "alice/demo"
    assert (error.failure_code, error.before_effect) == ("no_default_owner", True)
    assert _tokens_sent(fake_github) == [""]


def _app(app_key: tuple[Path, str], app_id: str) -> dict[str, Any]:
    return {"token": Secret(""), "app_id": app_id, "private_key_file": str(app_key[0]), "installation_id": 5}


def _installed(fake_github: FakeGithub, app_key: tuple[Path, str]) -> dict[str, Any]:
    fake_github.app(77, app_key[1])
    fake_github.installation(5, app=77, account="acme")
    return _app(app_key, "77")


def test_an_installation_of_an_app_mints_one_token_for_many_calls(
    fake_github: FakeGithub, app_key: tuple[Path, str]
) -> None:
    with github_calls(fake_github.url, **_installed(fake_github, app_key)) as calls:
        names = {calls.do("get_repo", repo="acme/weather").repo for _ in range(4)}

    assert names == {"acme/weather"}
    assert fake_github.sent().count("POST /app/installations/5/access_tokens") == 1


def test_workers_share_an_apps_token_without_anyone_else_reading_it(
    fake_github: FakeGithub, app_key: tuple[Path, str], valkey: Valkey
) -> None:
    settings = _installed(fake_github, app_key)
    for _ in range(2):
        with github_calls(fake_github.url, cache_url=valkey.url, broker_url=valkey.url, **settings) as calls:
            calls.do("get_repo", repo="acme/weather")

    with valkey.client() as connected:
        client: Any = connected
        (key,) = client.keys("ts:app_token:*")
        sealed = client.get(key)
        assert 3000 <= client.ttl(key) <= 3300
    assert fake_github.sent().count("POST /app/installations/5/access_tokens") == 1
    assert all(token.encode() not in sealed for token in fake_github.world.tokens)
    assert sealed.startswith(b"gAAAA")


def test_a_token_near_its_end_is_renewed(app_key: tuple[Path, str]) -> None:
    def answer(heard: Heard) -> Say:
        if heard.verb == "GET":
            return Say(200, [])
        expires_at = datetime.now(UTC) + timedelta(seconds=200)
        return Say(201, {"token": "ghs_short", "expires_at": expires_at.isoformat()})

    settings = _app(app_key, "1")
    with scripted(answer) as server, github_calls(server.url, **settings) as calls:
        calls.do("list_commits", repo="a/b")
        calls.do("list_commits", repo="a/b")

    assert server.asked.count("POST /app/installations/5/access_tokens") == 2


def test_the_account_that_an_app_is_installed_in_is_the_default_owner(app_key: tuple[Path, str]) -> None:
    def answer(heard: Heard) -> Say:
        if heard.target == "/app/installations/5":
            assert heard.headers["authorization"].startswith("Bearer eyJ")
            return Say(200, {"id": 5, "account": {"login": "acme"}})
        if heard.verb == "GET":
            assert heard.headers["authorization"] == "Bearer ghs_long"
            return Say(200, [])
        expires_at = datetime.now(UTC) + timedelta(hours=1)
        return Say(201, {"token": "ghs_long", "expires_at": expires_at.isoformat()})

    settings = _app(app_key, "1")
    with scripted(answer) as server, github_calls(server.url, **settings) as calls:
        for _ in range(2):
            assert calls.do("list_commits", repo="weather").repo == "acme/weather"

    assert server.asked.count("GET /app/installations/5") == 1
    assert server.asked.count("POST /app/installations/5/access_tokens") == 1


def test_an_apps_token_that_was_revoked_is_minted_anew(
    fake_github: FakeGithub, app_key: tuple[Path, str], valkey: Valkey
) -> None:
    settings = _installed(fake_github, app_key)
    with github_calls(fake_github.url, cache_url=valkey.url, broker_url=valkey.url, **settings) as calls:
        calls.do("get_repo", repo="acme/weather")
        for token in [each for each in fake_github.world.tokens if each not in (ALICE_TOKEN, BOB_TOKEN)]:
            fake_github.revoke(token)

        error = calls.failure("get_repo", repo="acme/weather")
        found = calls.do("get_repo", repo="acme/weather")

    assert error.failure_code == "authentication"
    assert found.repo == "acme/weather"


def test_a_key_that_is_not_the_apps_is_an_error_that_says_what_to_do(
    fake_github: FakeGithub, app_key: tuple[Path, str]
) -> None:
    settings = _installed(fake_github, app_key) | {"app_id": "78"}

    with github_calls(fake_github.url, **settings) as calls:
        error = calls.failure("get_repo", repo="acme/weather")

    assert error.failure_code == "authentication"
    assert "app_id" in error.message
    assert error.before_effect


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"base_url": "api.github.com"}, "github.base_url"),
        ({"base_url": "file:///etc"}, "github.base_url"),
        ({"base_url": "https://evil:pass@api.github.com"}, "github.base_url"),
        ({"token": Secret("ghp_x\r\nHost: evil")}, "github.token"),
        ({"token": Secret("ghp_ x")}, "github.token"),
        ({"tenants": {"t": GithubTenant(token=Secret("x\n"))}}, "github.tenants.t.token"),
        ({"app_id": "1"}, "private_key_file"),
        ({"app_id": "1", "private_key_file": "/nowhere/key.pem", "installation_id": 1}, "private_key_file"),
        ({"app_id": "1", "private_key_file": __file__, "installation_id": 1}, "private_key_file"),
        ({"app_id": "1", "token": Secret("x"), "installation_id": 1}, "app_id"),
    ],
)
def test_a_wrong_credential_is_refused_at_the_start_without_showing_it(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Clients.open(Configuration(github=GithubSettings(**settings)))

    assert named in caught.value.message
    assert "evil" not in caught.value.message


def test_a_token_is_in_no_error_whatever_github_answers() -> None:
    body = {"message": f"your token {ALICE_TOKEN[:4]} is bad"}
    for status in (400, 401, 404, 422, 500):
        with scripted(lambda _, status=status: Say(status, body)) as server, github_calls(server.url) as calls:  # type: ignore[misc]
            error = calls.failure("get_commit", repo="a/b", ref="main")

        assert ALICE_TOKEN not in json.dumps([error.message, error.details]) + repr(error)


@pytest.mark.parametrize(
    "url", ["http://ghe.example/api/v3", "http://192.0.2.1", "http://127.0.0.1.example", "http://[2001:db8::1]"]
)
def test_a_token_is_not_sent_in_clear_to_another_machine(url: str) -> None:
    settings = GithubSettings(base_url=url, token=Secret(ALICE_TOKEN))

    with pytest.raises(ConfigurationError) as caught:
        Clients.open(Configuration(github=settings))

    assert "github.base_url" in str(caught.value)
    assert "github.allow_plain_http" in str(caught.value)
    assert ALICE_TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://127.0.0.1:1234", False),
        ("http://127.8.8.8", False),
        ("http://localhost:1234", False),
        ("http://[::1]:1234", False),
        ("https://ghe.example/api/v3", False),
        ("http://ghe.example/api/v3", True),
    ],
)
def test_this_machine_and_what_the_operator_allows_are_taken(url: str, allowed: bool) -> None:
    settings = GithubSettings(base_url=url, token=Secret(ALICE_TOKEN), allow_plain_http=allowed)

    opened = Clients.open(Configuration(github=settings))

    assert opened.host in url


def test_what_an_app_writes_is_by_its_bot(app_key: tuple[Path, str]) -> None:
    marks: list[str] = []

    def answer(heard: Heard) -> Say:
        if heard.target == "/app/installations/5":
            return Say(200, {"app_slug": "weather", "account": {"login": "acme"}})
        if heard.target.startswith("/app"):
            ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
            return Say(201, {"token": "ghs_x", "expires_at": ends})
        rows = [_issue(number, by, marks[0]) for number, by in ((3, "stranger"), (2, "weather[bot]"), (1, "acme"))]
        return Say(200, rows)

    with scripted(answer) as server, github_calls(server.url, **_app(app_key, "77")) as calls:
        run = calls.run()
        marks.append(mark(run))
        found = calls.probe("create_issue", run, repo="acme/weather", title="t")

    assert found.number == 2


def _issue(number: int, author: str, body: str) -> dict[str, Any]:
    return {
        "id": number,
        "number": number,
        "title": "t",
        "state": "open",
        "html_url": "http://x",
        "user": {"login": author},
        "body": body,
        "labels": [],
        "comments": 0,
        "created_at": "2099-01-01T00:00:00Z",
        "updated_at": "2099-01-01T00:00:00Z",
    }
