import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.github import names
from toolswarm.errors import OperationFailed


def _nobody() -> str:
    raise AssertionError("the owner was given")


def _full(repo: str, web_host: str = "github.com") -> str:
    return names.full_repository_name(repo, lambda: "acme", web_host=web_host)


@pytest.mark.parametrize(
    "repo",
    [
        *("acme/weather", "https://github.com/acme/weather", "https://github.com/acme/weather.git"),
        *("HTTPS://GitHub.com/acme/weather/", "http://www.github.com/acme/weather", "git@github.com:acme/weather.git"),
        *("ssh://git@github.com/acme/weather.git", "weather"),
    ],
)
def test_a_name_and_a_url_say_the_same(repo: str) -> None:
    assert _full(repo) == "acme/weather"


def test_the_default_owner_is_asked_for_only_when_none_is_given() -> None:
    assert names.full_repository_name("a/b", _nobody, web_host="github.com") == "a/b"


@pytest.mark.parametrize(
    "repo",
    [
        *("https://evil.example/acme/weather", "https://github.com.evil.example/acme/weather"),
        *("https://github.com@evil.example/acme/weather", "https://user:token@github.com/acme/weather"),
        *("https://github.com:444/acme/weather", "https://github.com/acme", "https://github.com/acme/a/tree/main"),
        *("https://github.com/acme/weather?x=1", "https://github.com/acme/weather#x", "https://github.com//weather"),
        *("https://github.com/acme/..", "https://github.com/../weather", "git@evil.example:acme/weather.git"),
        *("file:///etc/passwd", "ftp://github.com/a/b", "github.com/acme/weather", "https://github.com/a%2fb/c"),
    ],
)
def test_a_url_of_another_host_or_form_is_refused(repo: str) -> None:
    with pytest.raises(OperationFailed) as caught:
        _full(repo)

    assert (caught.value.failure_code, caught.value.before_effect) == ("path_refused", True)


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("https://api.github.com", "github.com"),
        ("https://ghe.example:8443/api/v3", "ghe.example:8443"),
        ("https://api.acme.ghe.com", "acme.ghe.com"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
    ],
)
def test_the_web_host_follows_from_the_api(base_url: str, host: str) -> None:
    assert names.web_host_of(base_url) == host


@pytest.mark.parametrize(
    "branch", ["main", "feature/fix-1", "release/v1.2.x", "user@host", "über", "a-b_c.d", "a#1", "50%"]
)
def test_names_of_branches_are_taken(branch: str) -> None:
    assert names.checked_branch(branch) == branch


@pytest.mark.parametrize(
    "branch",
    [
        *("../../../acme/tmpl", "a/../b", "refs/heads/x", "refs/heads/-x", "-x", "--upload-pack=x", "HEAD", "@"),
        *("a b", "a~1", "a^", "a:b", "a*", "a[b", "a\\b", "a?b", "a%2fb", "a//b", "/a", "a/", "a.lock/b"),
        *("a.", ".a", "a/.b", "a@{1}", "a\nb", "a\0b", "", "a..b"),
    ],
)
def test_what_git_or_a_url_would_read_otherwise_is_no_branch(branch: str) -> None:
    with pytest.raises(OperationFailed) as caught:
        names.checked_branch(branch)

    assert caught.value.failure_code == "path_refused"


@pytest.mark.parametrize("sha", ["", "main", "abc123", "g" * 40, "a" * 39, "a" * 41, "../" + "a" * 37, "a" * 40 + "\n"])
def test_only_a_whole_hash_is_a_hash(sha: str) -> None:
    with pytest.raises(OperationFailed):
        names.checked_sha(sha)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "x.git", "x.wiki", "ü", "a" * 101, "a?b", "../x"])
def test_a_new_repository_has_a_plain_name(name: str) -> None:
    with pytest.raises(OperationFailed):
        names.checked_new_name(name)


@given(st.text(max_size=60) | st.from_regex(r"(https?://)?[a-z.@:/%]{0,30}/[a-z./%]{0,20}"))
def test_whatever_is_taken_has_two_plain_parts(repo: str) -> None:
    try:
        owner, name = _full(repo).split("/")
    except OperationFailed as error:
        assert error.failure_code == "path_refused"  # noqa: PT017 - either is right
        return

    assert set(owner + name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    assert name not in ("", ".", "..")
    assert "." not in owner
