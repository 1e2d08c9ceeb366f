"""The fake GitHub pages and searches as GitHub does."""

from collections.abc import Generator

import pytest

from tests.servers.github import ALICE_TOKEN, FakeGithub
from tests.servers.github_asking import Api
from tests.servers.github_query import moment_fits, number_fits, parse

DEMO = "/repos/alice/demo"


@pytest.fixture
def api(fake_github: FakeGithub) -> Generator[Api, None, None]:
    with Api(fake_github, ALICE_TOKEN) as asked:
        yield asked


def test_links_lead_through_all_pages_by_the_repositorys_number(fake_github: FakeGithub, api: Api) -> None:
    for number in range(4):
        fake_github.issue("alice/demo", f"Issue {number}")
    seen = list[int]()
    url = f"{DEMO}/issues?per_page=2&direction=asc"

    while url:
        answer = api("GET", url)
        seen += [each["number"] for each in answer.json()]
        url = answer.links.get("next", {}).get("url", "").removeprefix(fake_github.url)

    assert seen == [1, 2, 3, 4, 5]
    assert [each.path.split("/")[1] for each in fake_github.requests] == ["repos", "repositories", "repositories"]
    assert {each.repository for each in fake_github.requests} == {"alice/demo"}


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("login", [1]),
        ("is:issue is:open label:bug author:bob", [1]),
        ("author:@me", [2, 3]),
        ("-author:bob repo:alice/demo", [2, 3]),
        ("is:pr draft:false head:feature", [3]),
        ('"crashes on login" in:body', [1]),
        ('"crashes on login" in:title', []),
        ("no:label is:issue", [2]),
        ('label:"good first issue",bug', [1]),
        ("created:<2020-01-01", []),
        ("created:2000-01-01..* user:alice", [1, 2, 3]),
        ("comments:>=1", [2]),
        ("commenter:bob involves:alice", [2]),
        ("repo:alice/demo repo:acme/tmpl assignee:bob", [2]),
        ("is:closed", []),
    ],
)
def test_qualifiers_are_applied_to_issues(fake_github: FakeGithub, api: Api, query: str, numbers: list[int]) -> None:
    fake_github.push("alice/demo", {"new.py": "1\n"}, branch="feature")
    fake_github.issue("alice/demo", "Slow", assignees=["bob"])
    fake_github.comment("alice/demo", 2, "Indeed", author="bob")
    fake_github.pull("alice/demo", "A feature", head="feature")

    found = api("GET", "/search/issues", params={"q": query}).json()

    assert sorted(each["number"] for each in found["items"]) == numbers


@pytest.mark.parametrize(
    ("kind", "query", "names"),
    [
        ("repositories", "demo language:python stars:>5", ["alice/demo"]),
        ("repositories", "user:acme is:private", ["acme/weather"]),
        ("repositories", "template:true", ["acme/tmpl"]),
        ("repositories", "stars:0..6 topic:demo", []),
        ("code", "hello repo:alice/demo path:src", ["src/app.py"]),
        ("code", "read extension:md", ["docs/guide.md"]),
        ("code", "guide in:path", ["docs/guide.md"]),
        ("code", "Template -filename:main", ["README.md"]),
        ("users", "liddell in:name", ["alice"]),
        ("users", "a type:org", ["acme"]),
    ],
)
def test_qualifiers_are_applied_to_all_else(api: Api, kind: str, query: str, names: list[str]) -> None:
    found = api("GET", f"/search/{kind}", params={"q": query}).json()["items"]

    field = {"repositories": "full_name", "code": "path", "users": "login"}[kind]
    assert [each[field] for each in found] == names


def test_a_search_for_code_shows_the_places_when_asked(api: Api) -> None:
    accept = {"Accept": "application/vnd.github.text-match+json"}

    (hit,) = api("GET", "/search/code?q=hello", headers=accept).json()["items"]

    assert hit["text_matches"][0]["fragment"] == "print('hello')"
    assert hit["text_matches"][0]["matches"] == [{"text": "hello", "indices": [7, 12]}]
    assert "text_matches" not in api("GET", "/search/code?q=hello").json()["items"][0]


@pytest.mark.parametrize(
    "query",
    ["", "x" * 257, "a OR b OR c OR d OR e OR f OR g", "x repo:bob/secret", "x user:nobody-of-this-name"],
)
def test_a_search_beyond_the_limits_is_refused(api: Api, query: str) -> None:
    assert api("GET", "/search/issues", params={"q": query}).status_code == 422


def test_a_search_finds_what_is_new_only_after_a_while(fake_github: FakeGithub, api: Api) -> None:
    fake_github.world.index_lag_s = 60

    before = api("GET", "/search/issues?q=login").json()["total_count"]
    fake_github.advance(61)

    assert (before, api("GET", "/search/issues?q=login").json()["total_count"]) == (0, 1)


def test_the_parts_of_a_query_are_told_apart() -> None:
    terms = parse('-label:"two words" a:b "is:open x" NOT is:OPEN', frozenset({"label", "is"})).terms

    assert [(each.name, each.value, each.negated) for each in terms] == [
        ("label", "two words", True),
        ("", "a:b", False),
        ("", "is:open x", False),
        ("is", "OPEN", False),
    ]
    day = 1_577_836_800.0  # 2020-01-01
    assert moment_fits("2020-01-01", day + 80_000)
    assert not moment_fits(">2020-01-01", day + 80_000)
    assert number_fits("5..*", 5)
    assert not number_fits("many", 5)
