"""Smart search: a text in natural language becomes a query in GitHub's, by rules alone and the same way each time.

`open bugs about login in the last month by alice` → `login is:issue is:open label:bug author:alice created:>=…`.

- A text with a qualifier of GitHub's (other than a scope) or with AND, OR or NOT in capitals is GitHub's language
  already, and is sent as it is. So is a text in which no rule finds anything. Hence a query that came out of here goes
  in again unchanged.
- What is in quotes stays as it is.
- Where the scope is pinned it comes first, and nothing in the text leads out of it (see `query_scope`).
"""

from datetime import date, datetime

import msgspec

from tasks.github.query_dates import Period, both
from tasks.github.query_other_rules import HEADS, RULES
from tasks.github.query_rule import BARRIER, AppliedRule, Kind, Situation, applied
from tasks.github.query_scope import Scope, confined
from tasks.github.query_words import OPERATORS, SCOPE_KEYS, qualifier_key, split
from tasks.text import has_controls, has_hidden
from toolswarm.errors import OperationFailed

LONGEST_QUERY = 256
MOST_OPERATORS = 5
_FIRST_STAND_IN, _LAST_STAND_IN = 0xE000, 0xF8FF
_PUNCTUATION_BEFORE = "({"
_PUNCTUATION_AFTER = ")},;:!?."
_FILLER_WORDS = """
    a about all an and any are at be been but concerning find for from get give had has have how i in is list look
    looking me mentioning my of on or please regarding related search show that the their there these those to want was
    were when where which who with
"""
_FILLERS = frozenset(_FILLER_WORDS.split())
_ORDER = ("is", "draft", "label", "no", "author", "assignee", "mentions", "involves", "commenter", "in", "language")
_CONTRADICTIONS = (("is:open", "is:closed"), ("is:issue", "is:pr"), ("type:user", "type:org"))
_DATES = frozenset(("created", "updated", "closed", "merged", "pushed"))


class SmartQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent to GitHub, and how it came about."""

    query: str
    applied: list[AppliedRule] = []
    dropped: list[str] = []
    """Words that are not sent: fillers, and what would have led out of the scope."""


def smart_query(text: str, kind: Kind, *, now: datetime, scope: Scope | None = None, raw: bool = False) -> SmartQuery:
    """The query for a text; with `raw` the text itself, which then must not name another scope.

    Raises:
        OperationFailed: `query_refused`.
    """
    scope = scope or Scope()
    tokens = _checked_tokens(text)
    dropped = ['"'] * (text.count('"') % 2)
    if scope.term:
        tokens, led_out = confined(tokens, scope)
        dropped += led_out
    if raw and dropped:
        raise _refused(
            f"query has {dropped[0]!a}, which is open, or could lead out of what repo and owner say; leave it out"
        )
    rules: list[AppliedRule] = []
    if not raw and not any(map(_is_githubs, tokens)):
        while (found := _one_pass(tokens, kind, now.date())) is not None:
            tokens = found.tokens
            if scope.term:  # the rules may have brought something out of its disguise, or made a scope of words
                tokens, led_out = confined(tokens, scope)
                dropped += led_out
            rules += found.applied
            dropped += found.dropped
    untouched = not dropped and not rules and not scope.term
    query = text.strip() if untouched else " ".join([*filter(None, [scope.term]), *tokens])
    _check(query, kind)
    return SmartQuery(query=query, applied=rules, dropped=dropped)


class _Pass(msgspec.Struct, frozen=True, kw_only=True):
    tokens: list[str]
    applied: list[AppliedRule]
    dropped: list[str]


def _checked_tokens(text: str) -> list[str]:
    if has_controls(text) or has_hidden(text):
        raise _refused("query has control or hidden characters; leave them out")
    if len(text) > 4 * LONGEST_QUERY:
        raise _refused(f"query is longer than {LONGEST_QUERY} characters; search for fewer words")
    return split(text)


def _is_githubs(token: str) -> bool:
    key = qualifier_key(token)
    return token in OPERATORS or (key is not None and key not in SCOPE_KEYS)


def _one_pass(tokens: list[str], kind: Kind, today: date) -> _Pass | None:
    """The terms after each rule was tried once; None when none of them found anything."""
    text, stand_ins = _with_stand_ins(tokens)
    situation = Situation(
        today=today,
        has_head=HEADS[kind].search(text) is not None,
        so_far=[],
        plain=lambda words: _restored(words, stand_ins),
    )
    found: list[AppliedRule] = []
    for one in RULES[kind]:
        text, done = applied(one, text, situation)
        found += done
    if not found:
        return None
    words, dropped = _without_fillers(text)
    qualifiers = _agreed([term for one in found for term in one.became])
    return _Pass(
        tokens=[*(_restored(word, stand_ins) for word in words), *qualifiers],
        applied=found,
        dropped=[_restored(word, stand_ins) for word in dropped],
    )


def _with_stand_ins(tokens: list[str]) -> tuple[str, dict[str, str]]:
    stand_ins: dict[str, str] = {}
    words: list[str] = []
    for token in tokens:
        if '"' in token or qualifier_key(token) is not None or _has_private(token):
            stand_in = chr(_FIRST_STAND_IN + len(stand_ins))
            stand_ins[stand_in] = token
            words.append(stand_in)
        else:
            words.append(token.lstrip(_PUNCTUATION_BEFORE).rstrip(_PUNCTUATION_AFTER) or token)
    return " ".join(words), stand_ins


def _has_private(token: str) -> bool:
    return any(_FIRST_STAND_IN <= ord(character) <= _LAST_STAND_IN for character in token)


def _restored(words: str, stand_ins: dict[str, str]) -> str:
    return "".join(stand_ins.get(character, character) for character in words)


def _without_fillers(text: str) -> tuple[list[str], list[str]]:
    """The words that are left, and the fillers that stood at the ends of what the rules left between them."""
    kept: list[str] = []
    dropped: list[str] = []
    for part in text.split(BARRIER):
        words = part.split()
        while words and words[0].lower() in _FILLERS:
            dropped.append(words.pop(0))
        after: list[str] = []
        while words and words[-1].lower() in _FILLERS:
            after.insert(0, words.pop())
        kept += words
        dropped += after
    return kept, dropped


def _agreed(terms: list[str]) -> list[str]:
    """Each qualifier once and in order; two dates of one kind as one range; contradictions are no limit at all."""
    terms = list(dict.fromkeys(terms))
    for pair in _CONTRADICTIONS:
        if set(pair) <= set(terms):
            terms = [term for term in terms if term not in pair]
    if any(term.startswith("merged:") for term in terms):
        terms = [term for term in terms if term not in ("is:closed", "is:merged")]
    if any(term in terms for term in ("is:merged", "is:unmerged", "draft:true")):
        terms = [term for term in terms if term != "is:issue"]
    terms = _with_ranges(terms)
    return sorted(terms, key=_rank)


def _with_ranges(terms: list[str]) -> list[str]:
    periods: dict[str, Period] = {}
    others: list[str] = []
    for term in terms:
        key, _, value = term.partition(":")
        found = Period.of(value) if key in _DATES else None
        if found is None:
            others.append(term)
        elif key not in periods:
            periods[key] = found
        else:
            # No day lies in both: what was said first counts.
            periods[key] = both(periods[key], found) or periods[key]
    return others + [f"{key}:{found.value}" for key, found in periods.items()]


def _rank(term: str) -> tuple[int, str]:
    key, _, value = term.partition(":")
    if term in ("is:issue", "is:pr"):
        return (-1, "")
    return (_ORDER.index(key) if key in _ORDER else len(_ORDER) + (key in _DATES), "" if key in _ORDER else value)


def _check(query: str, kind: Kind) -> None:
    tokens = split(query)
    if not tokens:
        raise _refused("query is empty; say what to search for")
    if len(query) > LONGEST_QUERY:
        raise _refused(f"query is longer than {LONGEST_QUERY} characters as it would be sent; search for fewer words")
    if sum(token in OPERATORS for token in tokens) > MOST_OPERATORS:
        raise _refused(f"query has more than {MOST_OPERATORS} of AND, OR and NOT; GitHub takes no more")
    if kind is Kind.CODE and all(qualifier_key(token) is not None for token in tokens):
        raise _refused("query has qualifiers alone; searching code needs a word to look for")


def _refused(message: str) -> OperationFailed:
    return OperationFailed(message, code="query_refused", before_effect=True, argument="query")
