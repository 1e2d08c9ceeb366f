"""Smart search is a function of its words: each sentence has one query, and no sentence leaves a pinned scope."""

import re
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.github.query_rule import Kind
from tasks.github.query_scope import Scope
from tasks.github.smart_query import SmartQuery, smart_query
from tests.servers.github_query import parse
from toolswarm.errors import OperationFailed

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PIN = Scope(repo="acme/weather")
SCOPES = "repo user org repository owner organization enterprise"


def _query(text: str, kind: Kind = Kind.ISSUES, *, scope: Scope | None = None, raw: bool = False) -> SmartQuery:
    return smart_query(text, kind, now=NOW, scope=scope, raw=raw)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        (
            "open bugs about login in the last month by alice",
            "login is:issue is:open label:bug author:alice created:>=2026-10-22",
        ),
        ("my open PRs awaiting review", "is:pr is:open author:@me review:required"),
        ("open issues and PRs", "is:open"),
        ("open and closed issues about docs", "docs is:issue"),
        ("pull requests assigned to @bob updated this week", "is:pr assignee:bob updated:2026-11-16..2026-11-22"),
        (
            "unassigned open bugs in the parser with more than 10 comments",
            "parser is:issue is:open label:bug no:assignee comments:>10",
        ),
        ("open login issues", "login is:issue is:open"),
        ("an open bug", "is:issue is:open label:bug"),
        ("draft PRs older than 30 days", "is:pr draft:true created:<=2026-10-23"),
        ("PRs by dependabot[bot] since 2026-01-01", "is:pr author:app/dependabot created:>=2026-01-01"),
        ("issues opened by me in March 2025", "is:issue author:@me created:2025-03-01..2025-03-31"),
        ("open issues mentioning @carol, not closed", "is:issue is:open mentions:carol"),
        ("PRs not merged yet", "is:pr is:unmerged"),
        ("feature requests after 2026-01-31", "is:issue label:enhancement created:>=2026-02-01"),
        ("issues closed between 2026-01-01 and 2026-02-15", "is:issue closed:2026-01-01..2026-02-15"),
        ("show me all issues that are open and labeled bug", "is:issue is:open label:bug"),
        ('issues about "pull requests" labeled "needs triage"', '"pull requests" is:issue label:"needs triage"'),
        ("help wanted issues with no comments", 'is:issue label:"help wanted" comments:0'),
        ("open issues with crash in the title", "crash is:issue is:open in:title"),
        ("issues reviewed by alice before yesterday", "is:issue reviewed-by:alice created:<=2026-11-20"),
        ("crash in repo acme/weather", "crash repo:acme/weather"),
        ("open bugs repo:a/b", "repo:a/b is:issue is:open label:bug"),
    ],
)
def test_a_sentence_about_issues_becomes_qualifiers(text: str, query: str) -> None:
    assert _query(text).query == query


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("stand by mode", "stand by mode"),
        ("issues with stand by mode", "stand by mode is:issue"),
        ("bugs by design", "by design is:issue label:bug"),
        ("how to close a door", "how to close a door"),
        ("closed PRs merged last week", "is:pr merged:>=2026-11-15"),
        ("issues from the last year before March", "is:issue created:2025-11-22..2026-02-28"),
        ("open source issues", "open source is:issue"),
        ("closed captions issues", "closed captions is:issue"),
        ("issue with login", "issue with login"),
        ("errors caused by proxy", "errors caused by proxy"),
        ("issues caused by proxy", "caused by proxy is:issue"),
        ("last month button disabled", "last month button disabled"),
        ("issues with the last month button", "last month button is:issue"),
        ("crash in title bar", "crash in title bar"),
        ("bugs before submit", "before submit is:issue label:bug"),
        ("what broke last week", "what broke last week"),
        ("crash (again)", "crash (again)"),
        ("https://example.org/a?b=c fails", "https://example.org/a?b=c fails"),
    ],
)
def test_words_that_only_look_like_qualifiers_stay_words(text: str, query: str) -> None:
    assert _query(text).query == query


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("python web framework repos with more than 1k stars", "web framework language:python stars:>1000"),
        ("go repos updated this year", "language:go pushed:2026-01-01..2026-11-22"),
        ("repos by alice written in rust under MIT license", "language:rust user:alice license:mit"),
        ("archived repos of @acme about weather", "weather user:acme archived:true"),
        ("template repos tagged weather", "template:true topic:weather"),
        ("where to go on holiday", "where to go on holiday"),
    ],
)
def test_a_sentence_about_repositories_becomes_qualifiers(text: str, query: str) -> None:
    assert _query(text, Kind.REPOSITORIES).query == query


@pytest.mark.parametrize(
    ("kind", "text", "query"),
    [
        (Kind.CODE, "parse_config in python files", "parse_config language:python"),
        (Kind.CODE, "retry logic in *.go", "retry logic extension:go"),
        (Kind.CODE, "TODO in files named Makefile", "TODO filename:Makefile"),
        (Kind.CODE, "handler under src/api/", "handler path:src/api/"),
        (Kind.USERS, 'orgs in "San Francisco"', 'location:"San Francisco" type:org'),
        (
            Kind.USERS,
            "python developers in Berlin with more than 100 followers",
            "language:python followers:>100 location:Berlin type:user",
        ),
    ],
)
def test_sentences_about_code_and_people_become_qualifiers(kind: Kind, text: str, query: str) -> None:
    assert _query(text, kind).query == query


def test_the_answer_says_which_rules_were_applied_and_which_words_were_dropped() -> None:
    found = _query("open bugs about login by alice")

    assert [(one.rule, one.words, one.became) for one in found.applied] == [
        ("author", "by alice", ["author:alice"]),
        ("state", "open", ["is:open"]),
        ("bugs", "bugs", ["is:issue", "label:bug"]),
    ]
    assert found.dropped == ["about"]


@pytest.mark.parametrize(
    "query",
    [
        "login is:open label:bug open bugs by alice",
        'is:pr  author:bob   "stand by" last week',
        "crash OR freeze open bugs",
        "-label:bug open issues",
    ],
)
def test_githubs_own_language_passes_unchanged(query: str) -> None:
    found = _query(query)

    assert (found.query, found.applied, found.dropped) == (query, [], [])


def test_raw_sends_word_for_word() -> None:
    assert _query("open bugs by alice", raw=True).query == "open bugs by alice"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", Kind.ISSUES),
        ("  ", Kind.ISSUES),
        ('"', Kind.ISSUES),
        ("x" * 257, Kind.ISSUES),
        ("a b " * 600, Kind.ISSUES),
        ("a\nb", Kind.ISSUES),
        ("re\u200bpo:evil/x", Kind.ISSUES),
        ("a AND b AND c AND d AND e AND f AND g", Kind.ISSUES),
        ("language:python", Kind.CODE),
    ],
)
def test_what_github_would_refuse_is_refused_here(text: str, kind: Kind) -> None:
    with pytest.raises(OperationFailed) as caught:
        _query(text, kind)

    assert (caught.value.failure_code, caught.value.before_effect) == ("query_refused", True)


def test_a_quote_that_nothing_closes_is_dropped_and_told() -> None:
    found = _query('5" screen is broken')

    assert (found.query, found.dropped) == ("5 screen is broken", ['"'])


@pytest.mark.parametrize(
    ("text", "query", "dropped"),
    [
        ("open bugs repo:evil/x", "repo:acme/weather is:issue is:open label:bug", ["repo:evil/x"]),
        ("open bugs in repo evil/x", "repo:acme/weather is:issue is:open label:bug", ["repo:evil/x"]),
        ("secrets OR keys", "repo:acme/weather secrets keys", ["OR"]),
        ("crash OR, freeze open issues", "repo:acme/weather crash freeze is:issue is:open", ["OR"]),
        ("-repo:acme/weather crash", "repo:acme/weather crash", ["-repo:acme/weather"]),
        ("REPO:evil/x ORG:evil user:evil crash", "repo:acme/weather crash", ["REPO:evil/x", "ORG:evil", "user:evil"]),
        ("repo：evil/x crash", "repo:acme/weather crash", ["repo：evil/x"]),
        ('"a"repo:evil/x crash', "repo:acme/weather crash", ['"a"repo:evil/x']),
        ('label:"x"repo:evil/x crash', "repo:acme/weather crash", ['label:"x"repo:evil/x']),
        ("foo() fails", "repo:acme/weather foo fails", ["foo()"]),
        ("call(repo fails", 'repo:acme/weather "call(repo" fails', ["call(repo"]),
        ("crash NOT", "repo:acme/weather crash NOT", []),
        ("repo:acme/weather crash", "repo:acme/weather crash", []),
        ('"repo:evil/x" crash', 'repo:acme/weather "repo:evil/x" crash', []),
        ("is:private keys", "repo:acme/weather is:private keys", []),
    ],
)
def test_a_pinned_scope_drops_what_leads_out_and_tells_it(text: str, query: str, dropped: list[str]) -> None:
    found = _query(text, scope=PIN)

    assert found.query == query
    assert [word for word in found.dropped if word in text or "evil" in word] == dropped


@pytest.mark.parametrize("text", ["x repo:evil/x", "x OR y", "(x", "user:evil x", 'x "y'])
def test_raw_within_a_pinned_scope_refuses_what_leads_out(text: str) -> None:
    with pytest.raises(OperationFailed, match="leave it out") as caught:
        _query(text, scope=PIN, raw=True)

    assert caught.value.failure_code == "query_refused"


_VOCABULARY = """
    open closed merged draft bugs bug issues PRs pull requests by alice @bob me last week month in the since
    2026-01-01 before March older than 3 days between and or OR AND NOT ( ) (x y) " "a "b" repo: repo:evil/x
    -repo:evil/x org:evil user:evil "repo:evil/x" x"repo:evil/x" "a"repo:evil/x (repo:evil/x) label:bug label:"x
    labeled named with more 10 comments stars repo evil/x OR, OR) OR. |repo:evil/x \\" \\"repo:evil/x is:open
    in:title no about python written repos files under src/ Berlin REPO:Evil/x ｒｅｐｏ:evil/x owner:evil :evil/x
    repo :
"""
WORDS = st.sampled_from(_VOCABULARY.split())
TEXTS = st.one_of(
    st.lists(WORDS, min_size=1, max_size=14).map(" ".join),
    st.lists(st.one_of(WORDS, st.text(max_size=6), st.just(" ")), min_size=1, max_size=14).map("".join),
)
KINDS = st.sampled_from(list(Kind))
MANY = settings(max_examples=600, deadline=None, derandomize=True)


def _or_refused(text: str, kind: Kind, *, scope: Scope | None = None, raw: bool = False) -> SmartQuery | None:
    try:
        return _query(text, kind, scope=scope, raw=raw)
    except OperationFailed as error:
        if error.failure_code != "query_refused":
            raise
        return None


@MANY
@given(text=TEXTS, kind=KINDS, raw=st.booleans())
def test_no_text_yields_a_query_that_leaves_the_pinned_scope(text: str, kind: Kind, raw: bool) -> None:
    found = _or_refused(text, kind, scope=PIN, raw=raw)

    if found is None:
        return
    assert found.query.startswith("repo:acme/weather")
    terms = parse(found.query, frozenset(SCOPES.split())).terms
    named = [(term.name, term.value.lower(), term.negated) for term in terms if term.name]
    assert named == [("repo", "acme/weather", False)]
    bare = unicodedata.normalize("NFKC", re.sub(r'"[^"]*"', " ", found.query)).casefold()
    assert len(re.findall(rf"({SCOPES.replace(' ', '|')})\s*:", bare)) == 1
    assert '"' not in bare
    assert not {"(", ")", "|"} & set(bare)
    assert "or" not in bare.split()


@MANY
@given(text=TEXTS, kind=KINDS, pinned=st.booleans())
def test_a_query_that_came_out_goes_in_again_unchanged(text: str, kind: Kind, pinned: bool) -> None:
    scope = PIN if pinned else None
    found = _or_refused(text, kind, scope=scope)

    if found is not None:
        assert _query(found.query, kind, scope=scope).query == found.query


@MANY
@given(text=TEXTS, kind=KINDS)
def test_phrases_in_quotes_are_kept(text: str, kind: Kind) -> None:
    found = _or_refused(f'"stand by  open bugs" {text}', kind)

    if found is not None:
        assert found.query.startswith('"stand by  open bugs"')


@MANY
@given(text=TEXTS)
def test_a_text_with_a_qualifier_is_sent_as_it_is(text: str) -> None:
    whole = f"{text} is:open"
    found = _or_refused(whole, Kind.ISSUES)

    if found is not None and whole.count('"') == 0:
        assert found.query == whole.strip()
