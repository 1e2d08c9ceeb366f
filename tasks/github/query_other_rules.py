"""Rules of smart search for repositories, code and users, in the order in which they are tried."""

import re
from collections.abc import Callable

from tasks.github.query_date_rules import date_rules
from tasks.github.query_issue_rules import ISSUE_HEAD, ISSUE_RULES, REPOSITORY
from tasks.github.query_rule import BARRIER, END, PHRASE_END, WORD, Kind, Rule, Situation, always, rule, with_head
from tasks.github.query_value_rules import LOGIN, count_rules, language_rules, login
from tasks.github.query_words import qualifier

_REPOSITORY_HEAD = r"(?:repos|repositories|projects|libraries|packages|frameworks|repo|repository|project|library)"
_CODE_HEAD = r"(?:code|files|file|functions|function|classes|class|scripts|script|sources|usages|examples)"
_USER_HEAD = r"(?:users|people|developers|programmers|engineers|accounts|organi[sz]ations|orgs)"
_LICENSES = {
    "agpl": "agpl-3.0",
    "apache": "apache-2.0",
    "apache 2.0": "apache-2.0",
    "apache-2.0": "apache-2.0",
    "bsd": "bsd-3-clause",
    "gpl": "gpl",
    "gpl-3.0": "gpl-3.0",
    "gplv3": "gpl-3.0",
    "isc": "isc",
    "lgpl": "lgpl",
    "mit": "mit",
    "mpl-2.0": "mpl-2.0",
    "unlicense": "unlicense",
}
_LICENSE = "(?P<license>" + "|".join(sorted(map(re.escape, _LICENSES), key=len, reverse=True)) + ")"
_PLACES = {"name": "name", "description": "description", "readme": "readme", "topics": "topics"}
_KINDS_OF_REPOSITORY = {
    "public": "is:public",
    "private": "is:private",
    "archived": "archived:true",
    "unarchived": "archived:false",
    "template": "template:true",
    "mirrored": "mirror:true",
}
_ADJECTIVE = "(?:" + "|".join(_KINDS_OF_REPOSITORY) + ")"


def _license(match: re.Match[str], _situation: Situation) -> list[str] | None:
    return [f"license:{_LICENSES[' '.join(match.group('license').lower().split())]}"]


def _owner(match: re.Match[str], situation: Situation) -> list[str] | None:
    given = match.group("login")
    who = login(given)
    if who is None or who.startswith("app/") or not (given.startswith("@") or situation.has_head):
        return None
    return [f"user:{who}"]


def _named(key: str) -> Callable[[re.Match[str], Situation], list[str] | None]:
    def emit(match: re.Match[str], situation: Situation) -> list[str] | None:
        found = qualifier(key, situation.plain(match.group("value")).strip('"'))
        return [found] if found else None

    return emit


def _location(match: re.Match[str], situation: Situation) -> list[str] | None:
    """A place is written with a capital, or in quotes."""
    value = situation.plain(match.group("value"))
    found = qualifier("location", value.strip('"'))
    return [found] if found and situation.has_head and (value[0].isupper() or value[0] == '"') else None


def _kind_of_repository(match: re.Match[str], _situation: Situation) -> list[str] | None:
    return [_KINDS_OF_REPOSITORY[match.group("kind").lower()]]


def _after_a_rule(match: re.Match[str], situation: Situation) -> list[str] | None:
    return [] if situation.before(match) == BARRIER else None


def _repository_place(match: re.Match[str], _situation: Situation) -> list[str] | None:
    return [f"in:{_PLACES[match.group('place').lower()]}"]


REPOSITORY_RULES: tuple[Rule, ...] = (
    *date_rules(Kind.REPOSITORIES),
    *count_rules({"stars?": "stars", "forks?": "forks", "followers?": "followers", "topics?": "topics"}),
    rule("license", rf"(?:under|with)\s+(?:an?\s+|the\s+)?{_LICENSE}(?:\s+licen[cs]es?)?{PHRASE_END}", _license),
    rule("license", rf"{_LICENSE}[\s-]licen[cs]ed{END}", _license),
    rule("not_archived", rf"(?:(?:that|which)\s+are\s+)?not\s+archived{PHRASE_END}", with_head("archived:false")),
    rule("good_first_issues", rf"with\s+good\s+first\s+issues{END}", always("good-first-issues:>0")),
    rule("help_wanted", rf"with\s+help\s+wanted(?:\s+issues)?{END}", always("help-wanted-issues:>0")),
    rule("topic", rf"(?:with\s+(?:the\s+)?topic|tagged(?:\s+with|\s+as)?)\s+(?P<value>{WORD}){END}", _named("topic")),
    rule("owner", rf"(?:(?:owned|made|written|published)\s+)?(?:by|of)\s+(?P<login>{LOGIN}){PHRASE_END}", _owner),
    rule("in", rf"in\s+(?:the|their|its)\s+(?P<place>name|description|readme|topics){PHRASE_END}", _repository_place),
    rule("kind", rf"(?P<kind>{_ADJECTIVE})(?=\s+(?:{WORD}\s+){{0,2}}(?:repos|repositories){END})", _kind_of_repository),
    *language_rules(_REPOSITORY_HEAD),
    rule("repositories", rf"(?:repos|repositories){END}", always()),
)
CODE_RULES: tuple[Rule, ...] = (
    REPOSITORY,
    rule("extension", rf"(?:in\s+)?\*?\.(?P<value>[A-Za-z0-9]{{1,10}})\s+files{END}", _named("extension")),
    rule("extension", rf"in\s+\*\.(?P<value>[A-Za-z0-9]{{1,10}}){PHRASE_END}", _named("extension")),
    rule("filename", rf"(?:in\s+)?(?:files?\s+)?(?:named|called)\s+(?P<value>{WORD}){END}", _named("filename")),
    rule("path", rf"(?:in|under)\s+(?:the\s+)?(?:path|folder|directory)\s+(?P<value>{WORD}){END}", _named("path")),
    rule("path", r"(?:in|under)\s+(?P<value>[\w.-]+(?:/[\w.-]+)*/)(?!\S)", _named("path")),
    *language_rules(_CODE_HEAD),
    rule("files", rf"(?:files|code){END}", _after_a_rule),
)
USER_RULES: tuple[Rule, ...] = (
    *date_rules(Kind.USERS),
    *count_rules({"followers?": "followers", "(?:public\\s+)?(?:repos|repositories)": "repos"}),
    rule("location", rf"(?:(?:who\s+)?(?:live|living|based|located)\s+)?in\s+(?P<value>{WORD}){PHRASE_END}", _location),
    rule("location", rf"from\s+(?P<value>{WORD}){PHRASE_END}", _location),
    rule("in", rf"in\s+(?:the|their)\s+(?P<place>name){PHRASE_END}", _repository_place),
    *language_rules(_USER_HEAD),
    rule("organizations", rf"(?:organi[sz]ations|orgs){END}", always("type:org")),
    rule("people", rf"(?:users|people|developers|programmers|engineers){END}", always("type:user")),
)
RULES: dict[Kind, tuple[Rule, ...]] = {
    Kind.ISSUES: ISSUE_RULES,
    Kind.CODE: CODE_RULES,
    Kind.REPOSITORIES: REPOSITORY_RULES,
    Kind.USERS: USER_RULES,
}
HEADS: dict[Kind, re.Pattern[str]] = {
    kind: re.compile(rf"(?<!\S)(?:{pattern})(?!\S)", re.IGNORECASE)
    for kind, pattern in {
        Kind.ISSUES: ISSUE_HEAD,
        Kind.CODE: _CODE_HEAD,
        Kind.REPOSITORIES: _REPOSITORY_HEAD,
        Kind.USERS: _USER_HEAD,
    }.items()
}
"""What a text names when it looks for that kind."""
