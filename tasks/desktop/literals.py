"""What a line must contain, literally, for a pattern to be found in it: pure text work, no pattern is run here.

ripgrep and Python read regular expressions differently, so ripgrep is never given one of a caller's. It is given these
texts instead, and lists the files that contain one of them; the lines are then found by Python in these files alone.
So both ways have the same answers by construction, as long as a pattern cannot be found in a line without one of its
texts. When in doubt there is no text, and every file is read.
"""

import re
from collections.abc import Sequence

LONGEST_BYTES = 256
"""A longer text is cut: its beginning is as necessary as the whole."""
_SHORTEST_IN_REGEX_BYTES = 2
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_BRACES = re.compile(r"\{\d*,?\d*\}")
_GROUP_START = re.compile(r"\((?:\?(?::|P<\w+>|<?[=!]))?")
_ESCAPED_PUNCTUATION = re.compile(r"\\[^A-Za-z0-9]", re.DOTALL)
_SINGLE_ESCAPE = re.compile(r"\\[AbBdDsSwWZtnrfva]")
_SPECIAL = frozenset(".^$*+?{}[]|()\\")
_FORMS_OF_I = "[i\u0130\u0131]"
"""Python, ignoring case, takes the Turkish letters for an i; ripgrep does not. In all other letters they agree."""


def required(pattern: str, *, regex: bool, ignore_case: bool) -> tuple[str, ...]:
    """Texts of which at least one is in every line that the pattern is found in; empty when none is sure.

    With `ignore_case` they are ASCII in small letters, and are meant in any case.
    """
    branches = _branches(pattern) if regex else [[pattern]]
    if branches is None:
        return ()
    best = [max((_usable(run, ignore_case) for run in runs), key=_bytes, default="") for runs in branches]
    shortest = _SHORTEST_IN_REGEX_BYTES if regex else 1
    return tuple(best) if all(_bytes(text) >= shortest for text in best) else ()


def any_case(text: str) -> str:
    """A regular expression, of ripgrep's kind, that finds what Python finds for `text` when it ignores case."""
    return "(?i)" + "".join(_any_case_of(character) for character in text)


def _any_case_of(character: str) -> str:
    if character == "i":
        return _FORMS_OF_I
    return character if character.isalnum() else f"\\x{{{ord(character):x}}}"


def _bytes(text: str) -> int:
    return len(text.encode())


def _usable(run: str, ignore_case: bool) -> str:
    """The longest piece of the run that means the same to everybody, as a text and as bytes."""
    if ignore_case:
        pieces: Sequence[str] = re.findall(r"[\x01-\x7f]+", run.translate(_SMALL))
    else:
        # U+FFFD stands for bytes that are no UTF-8; half a surrogate pair has no bytes.
        pieces = re.findall("[^\0\ufffd\ud800-\udfff]+", run)
    longest = max(pieces, key=_bytes, default="")
    return longest.encode()[:LONGEST_BYTES].decode("utf-8", "ignore")


_SMALL = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _branches(pattern: str) -> list[list[str]] | None:
    """For each top alternative of the expression, the texts that it cannot be found without; None: not understood."""
    branches: list[list[str]] = [[]]
    run = ""
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character not in _SPECIAL:
            run += character
            at += 1
        elif escaped := _ESCAPED_PUNCTUATION.match(pattern, at):
            run += escaped.group()[1]
            at = escaped.end()
        else:
            if character in "*?{":
                run = run[:-1]  # what stands before it may be missing
            branches[-1].append(run)
            run = ""
            if character == "|":
                branches.append([])
            end = _end_of_special(pattern, at)
            if end is None:
                return None
            at = end
    branches[-1].append(run)
    return branches


def _end_of_special(pattern: str, at: int) -> int | None:
    character = pattern[at]
    if character == "(":
        return _end_of_group(pattern, at)
    if character in ").":
        return at + 1 if character == "." else None
    expression = {"[": _CLASS, "{": _BRACES, "\\": _SINGLE_ESCAPE}.get(character)
    if expression is None:
        return at + 1  # one of * + ? ^ $ | ] }
    found = expression.match(pattern, at)
    if found is not None:
        return found.end()
    return at + 1 if character == "{" else None


def _end_of_group(pattern: str, at: int) -> int | None:
    """Where the group ends that starts here; nothing in it is taken as necessary."""
    depth = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "(":
            start = _GROUP_START.match(pattern, at)
            if start is None or pattern.startswith("?", start.end()):
                return None  # flags, comments, conditions: the rest may mean anything
            depth += 1
            at = start.end()
            continue
        if character == ")":
            depth -= 1
            if depth == 0:
                return at + 1
        step = _step(pattern, at)
        if step is None:
            return None
        at = step
    return None


def _step(pattern: str, at: int) -> int | None:
    if pattern[at] == "[":
        found = _CLASS.match(pattern, at)
        return None if found is None else found.end()
    return at + 2 if pattern[at] == "\\" else at + 1
