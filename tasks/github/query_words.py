"""The words of a search query: how GitHub's language splits them, what is a qualifier, and how a value is quoted."""

import re
import unicodedata

_TOKEN = re.compile(r'(?:[^\s"]|"[^"]*")+')
_QUOTED = re.compile(r'"[^"]*"')
_QUALIFIER = re.compile(r"-?([A-Za-z-]+):(\S.*)", re.DOTALL)
_PLAIN_VALUE = re.compile(r"[\w@*<>=.+#/-]+")
_SCOPE_WORD = re.compile(r"(?:repo|repository|user|org|organization|owner|enterprise)\s*:")
SCOPE_KEYS = frozenset(("repo", "repository", "user", "org", "organization", "owner", "enterprise"))
_KEY_WORDS = """
    is type state reason in author assignee mentions team commenter involves linked label milestone project status
    head base language comments interactions reactions draft review reviewed-by review-requested
    user-review-requested team-review-requested created updated closed merged archived locked no sha sort app has
    parent-issue size followers forks stars pushed topic topics license mirror template fork good-first-issues
    help-wanted-issues path filename extension fullname repos location
"""
KEYS = SCOPE_KEYS | frozenset(_KEY_WORDS.split())
OPERATORS = frozenset(("AND", "OR", "NOT"))


def split(query: str) -> list[str]:
    """The terms of a query: what is in quotes stays in one. A quote that nothing closes ends its word."""
    if query.count('"') % 2:
        before, _, after = query.rpartition('"')
        query = f"{before} {after}"
    return _TOKEN.findall(query)


def outside_quotes(token: str) -> str:
    """What of a term is not within quotes, as GitHub might read it: compatibility forms folded, small letters."""
    return unicodedata.normalize("NFKC", _QUOTED.sub(" ", token)).casefold()


def qualifier_key(token: str) -> str | None:
    """The key of a term such as `-label:"x y"`; None when it is a word or a phrase."""
    match = _QUALIFIER.fullmatch(token)
    if match is None or match.group(1).lower() not in KEYS:
        return None
    return match.group(1).lower()


def names_a_scope(token: str) -> bool:
    """Whether any reading of the term could name a repository or an owner; rather too often than too seldom."""
    outside = outside_quotes(token)
    return _SCOPE_WORD.search(outside) is not None or outside.strip().startswith(":")


def qualifier(key: str, value: str) -> str | None:
    """`key:value`, in quotes where needed; None for a value that could not be kept within quotes."""
    if _PLAIN_VALUE.fullmatch(value):
        return f"{key}:{value}"
    if not value.strip() or '"' in value or "\\" in value:
        return None
    return f'{key}:"{value}"'
