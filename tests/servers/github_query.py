"""What a search query means: words, and qualifiers with their values, as far as the fake applies them."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.servers.github_git import moment

LONGEST = 256
MOST_OPERATORS = 5
DAY_S = 86_400
_TOKEN = re.compile(r'(-?)(?:([A-Za-z-]+):)?((?:"[^"]*"?|[^\s"]+)+)')
_OPERATORS = ("AND", "OR", "NOT")


@dataclass(frozen=True, kw_only=True)
class Term:
    """One qualifier, or (with an empty name) a word or phrase."""

    name: str
    value: str
    negated: bool


@dataclass(frozen=True, kw_only=True)
class Query:
    """A query taken apart."""

    terms: tuple[Term, ...]

    def values(self, name: str) -> list[str]:
        """The values of a qualifier, lower case, negated ones left out."""
        return [term.value.lower() for term in self.terms if term.name == name and not term.negated]

    @property
    def words(self) -> list[Term]:
        """What is no qualifier."""
        return [term for term in self.terms if not term.name]


def parse(text: str, known: frozenset[str]) -> Query:
    """Take a query apart; what has an unknown name before a colon is a word."""
    terms = list[Term]()
    for found in _TOKEN.finditer(text):
        minus, name, value = found[1], (found[2] or "").lower(), found[3]
        if not minus and not name and value in _OPERATORS:
            continue
        if name and name not in known:
            name, value = "", f"{name}:{value}"
        terms.append(Term(name=name, value=value.replace('"', ""), negated=bool(minus)))
    return Query(terms=tuple(terms))


def operators(text: str) -> int:
    """How many AND, OR and NOT stand in a query."""
    return sum(word in _OPERATORS for word in re.sub(r'"[^"]*"', "", text).split())


def number_fits(value: str, actual: float) -> bool:
    """`>5`, `>=5`, `<5`, `<=5`, `5..9`, `5..*`, `5`."""
    return _fits(value, actual, float, 0.0)


def moment_fits(value: str, actual: float | None) -> bool:
    """The same for dates; a day alone lasts a day."""
    return actual is not None and _fits(value, actual, moment, DAY_S - 1.0)


def _fits(value: str, actual: float, read: Callable[[str], float], day_s: float) -> bool:
    try:
        if ".." in value:
            low, _, high = value.partition("..")
            return (low == "*" or actual >= read(low)) and (high == "*" or actual <= read(high) + _last(high, day_s))
        for sign in (">=", "<=", ">", "<"):
            if value.startswith(sign):
                limit = read(value.removeprefix(sign))
                last = limit + _last(value, day_s)
                return {">=": actual >= limit, "<=": actual <= last, ">": actual > last, "<": actual < limit}[sign]
        return read(value) <= actual <= read(value) + _last(value, day_s)
    except ValueError:
        return False


def _last(value: str, day_s: float) -> float:
    """Seconds from the moment that is written to the end of what it means."""
    return 0.0 if "T" in value else day_s
