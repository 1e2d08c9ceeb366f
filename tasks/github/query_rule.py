"""What a rule of smart search is: a pattern of words, and the qualifiers that stand for them.

Rules see the free words of a query, one space between them, without punctuation at their ends. Quoted phrases and
qualifiers are a single private character each. What a rule has taken becomes a BARRIER (which is no white space), so
that no later rule joins words that were apart.
"""

import re
from collections.abc import Callable
from datetime import date
from enum import StrEnum

import msgspec

BARRIER = "\0"
BEGIN = r"(?<!\S)"
END = r"(?!\S)"
_OPENERS = (
    "about|with|without|in|on|at|from|for|by|and|or|but|that|which|who|whose|where|when|since|before|after|until|till"
    "|between|during|within|labell?ed|tagged|assigned|mentioning|involving|created|opened|closed|merged|updated"
    "|pushed|written|reviewed|commented|sorted|older|newer|having|containing|still|not|of|last|this|today|yesterday"
)
PHRASE_END = rf"(?=\s*(?:$|{BARRIER})|\s+(?:{_OPENERS})(?!\S))"
"""Nothing follows that could belong to what was said."""
WORD = rf"[^\s{BARRIER}]+"


class Kind(StrEnum):
    """What is searched."""

    ISSUES = "issues"
    CODE = "code"
    REPOSITORIES = "repositories"
    USERS = "users"


class AppliedRule(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule made of some words."""

    rule: str
    words: str
    """As they stood in the text."""
    became: list[str]
    """Qualifiers; none when the words only say what is the case anyway."""


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule knows besides its match."""

    today: date
    has_head: bool
    """Whether the text names what is looked for: `issues`, `repos`, …"""
    so_far: list[str]
    """Qualifiers of the rules before."""
    plain: Callable[[str], str]
    """Turns the stand-in of a quoted phrase into its text."""

    def before(self, match: re.Match[str]) -> str:
        """The word in front of the match; BARRIER when a rule has taken it, empty at the start."""
        words = match.string[: match.start()].split()
        return words[-1] if words else ""


class Rule(msgspec.Struct, frozen=True):
    """Words -> qualifiers; `emit` returns None when these words mean something else here."""

    name: str
    pattern: re.Pattern[str]
    emit: Callable[[re.Match[str], Situation], list[str] | None]


def rule(name: str, pattern: str, emit: Callable[[re.Match[str], Situation], list[str] | None]) -> Rule:
    """A rule whose pattern stands for whole words, in capitals or not."""
    return Rule(name, re.compile(BEGIN + pattern, re.IGNORECASE), emit)


def always(*qualifiers: str) -> Callable[[re.Match[str], Situation], list[str] | None]:
    """The qualifiers, whatever the situation."""

    def emit(_match: re.Match[str], _situation: Situation) -> list[str] | None:
        return list(qualifiers)

    return emit


def with_head(*qualifiers: str) -> Callable[[re.Match[str], Situation], list[str] | None]:
    """The qualifiers, when the text names what is looked for."""

    def emit(_match: re.Match[str], situation: Situation) -> list[str] | None:
        return list(qualifiers) if situation.has_head else None

    return emit


def applied(rule: Rule, text: str, situation: Situation) -> tuple[str, list[AppliedRule]]:
    """The text with what the rule takes replaced by barriers, and what it made of it."""
    done: list[AppliedRule] = []
    position = 0
    while match := rule.pattern.search(text, position):
        became = rule.emit(match, situation)
        if became is None or not match.group().strip():
            position = match.end() + 1
            if position > len(text):
                break
            continue
        done.append(AppliedRule(rule=rule.name, words=situation.plain(match.group().strip()), became=became))
        situation.so_far.extend(became)
        text = f"{text[: match.start()]}{BARRIER}{text[match.end() :]}"
        position = match.start() + 1
    return text, done
