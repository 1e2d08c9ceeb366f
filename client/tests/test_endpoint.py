"""The swarm is found without configuration, and the key goes nowhere else."""

import json
from pathlib import Path

import pytest

from toolswarm.endpoint import DEFAULT_URL, Endpoint, find_endpoint
from toolswarm.errors import ConfigurationError


def swarm_at(folder: Path, url: str = "http://127.0.0.1:8123", key: str | None = "file-key") -> None:
    state = folder / ".toolswarm"
    state.mkdir()
    (state / "endpoint.json").write_text(json.dumps({"url": url, "broker": "unix:///x", "pid": 1}))
    if key is not None:
        (state / "api_key").write_text(key + "\n")


def test_the_argument_wins_over_environment_and_file(tmp_path: Path) -> None:
    swarm_at(tmp_path)

    found = find_endpoint("http://a:1", "k", environ={"TOOLSWARM_URL": "http://b:2"}, folder=tmp_path)

    assert (found.url, found.api_key) == ("http://a:1", "k")


def test_the_nearest_endpoint_file_upwards_gives_url_and_key(tmp_path: Path) -> None:
    swarm_at(tmp_path)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)

    found = find_endpoint(None, None, environ={}, folder=deep)

    assert (found.url, found.api_key) == ("http://127.0.0.1:8123", "file-key")


def test_the_key_file_is_not_used_for_a_url_from_elsewhere(tmp_path: Path) -> None:
    swarm_at(tmp_path)

    found = find_endpoint(None, None, environ={"TOOLSWARM_URL": "http://elsewhere:1"}, folder=tmp_path)

    assert found.api_key == ""


def test_without_anything_the_default_address_is_taken(tmp_path: Path) -> None:
    found = find_endpoint(None, None, environ={}, folder=tmp_path)

    assert (found.url, found.api_key) == (DEFAULT_URL, "")


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        ({"TOOLSWARM_API_KEY": "one", "MCP_API_KEY": "two"}, "one"),
        ({"MCP_API_KEY": "two"}, "two"),
        ({"TOOLSWARM_API_KEY_FILE": "secret.txt", "MCP_API_KEY": "two"}, "three"),
        ({"MCP_API_KEY_FILE": "secret.txt"}, "three"),
    ],
)
def test_the_key_comes_from_the_strongest_variable(environ: dict[str, str], key: str, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("three\n")
    given = {name: str(tmp_path / text) if name.endswith("_FILE") else text for name, text in environ.items()}

    found = find_endpoint(None, None, environ=given, folder=tmp_path)

    assert found.api_key == key


def test_an_endpoint_file_that_names_another_machine_is_refused(tmp_path: Path) -> None:
    swarm_at(tmp_path, url="https://evil.example")

    with pytest.raises(ConfigurationError, match="another machine"):
        find_endpoint(None, "secret", environ={}, folder=tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"url": 3}', "{}"])
def test_a_malformed_endpoint_file_is_named(content: str, tmp_path: Path) -> None:
    swarm_at(tmp_path)
    (tmp_path / ".toolswarm" / "endpoint.json").write_text(content)

    with pytest.raises(ConfigurationError, match=r"endpoint\.json"):
        find_endpoint(None, None, environ={}, folder=tmp_path)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("amqp://host", "carries tasks, not requests"),
        ("ftp://host", "starts with http"),
        ("127.0.0.1:8080", "starts with http"),
        ("http://", "names no host"),
        ("http://[::1", "malformed"),
        ("http://host:port", "malformed"),
    ],
)
def test_a_wrong_url_is_refused_with_the_reason(url: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=why):
        find_endpoint(url, None, environ={}, folder=tmp_path)


def test_a_key_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="MCP_API_KEY_FILE"):
        find_endpoint(None, None, environ={"MCP_API_KEY_FILE": str(tmp_path / "none")}, folder=tmp_path)


def test_neither_key_nor_password_is_shown() -> None:
    endpoint = Endpoint(url="redis://user:hunter2@host:1/0?password=hunter2", api_key="hunter2", origin="here")

    assert "hunter2" not in repr(endpoint)
