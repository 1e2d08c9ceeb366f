"""Keeps a search query within the repository or the owner that the caller named.

GitHub takes several `repo:` for "any of these", and `a OR b` with a qualifier beside it for "a, or b with the
qualifier": both would lead out. So the scope comes first, and nothing after it may name a scope or say OR.
"""

import re

import msgspec

from tasks.github.query_words import names_a_scope, outside_quotes, qualifier_key

_OR = frozenset(("or", "|", "||"))
_ONE_PHRASE = re.compile(r'-?(?:[A-Za-z-]+:)?"[^"]*"')
"""`"a b"` or `label:"a b"`, or one of these with a minus before it."""
_GROUPING = frozenset("()[]{}|")


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Where a search may look: one repository, or all of one owner's."""

    repo: str = ""
    """`owner/name`, checked."""
    owner: str = ""

    @property
    def term(self) -> str:
        """The qualifier; empty when the scope is not limited."""
        if self.repo:
            return f"repo:{self.repo}"
        return f"user:{self.owner}" if self.owner else ""


def confined(tokens: list[str], scope: Scope) -> tuple[list[str], list[str]]:
    """The terms that may stay beside the scope's own, and what was taken away."""
    kept: list[str] = []
    dropped: list[str] = []
    for token in tokens:
        harmless = None if _leads_out(token) else _ungrouped(token)
        if token.lower() == scope.term.lower():
            continue
        if harmless:
            kept.append(harmless)
        if harmless != token:
            dropped.append(token)
    return kept, dropped


def _leads_out(token: str) -> bool:
    if '"' in token and _ONE_PHRASE.fullmatch(token) is None:
        return True  # `a"b"OR"c"`: where GitHub ends the words of this is not ours to guess
    return names_a_scope(token) or outside_quotes(token).strip() in _OR or '\\"' in token


def _ungrouped(token: str) -> str | None:
    """The term without what groups alternatives: cut from the ends of a word, quoted in its middle."""
    if _GROUPING.isdisjoint(outside_quotes(token)):
        return token
    if qualifier_key(token) is not None:
        return None
    inner = token.strip("()[]{}|")
    if _GROUPING.isdisjoint(outside_quotes(inner)):
        # What is left may read in another way than the whole did.
        return None if not inner or _leads_out(inner) else inner
    return None if '"' in token or "\\" in token else f'"{token}"'
