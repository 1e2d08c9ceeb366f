"""Rules of smart search that several kinds share: numbers, languages, people, and where the words are to be found."""

import re
from collections.abc import Mapping

from tasks.github.query_rule import BARRIER, END, PHRASE_END, Rule, Situation, rule
from tasks.github.query_words import qualifier

LOGIN = r"@?[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}(?:\[bot\])?"
_NO_LOGIN_WORDS = """
    a accident account all an and another any anybody anyone chance choice clicking code contrast convention day
    default definition design email everyone example extension far hand heart him her id inheritance itself law
    line me-too mail means mistake mode myself name nature nobody now number one ones others our ourselves pair
    passing phone position post products proxy reference request return row rule side size someone step surprise
    tab that the their them themselves then these they this those time turn type us using value variable virtue
    way you your yourself zero
"""
_NOT_LOGINS = frozenset(_NO_LOGIN_WORDS.split())
_LANGUAGES = """
    python javascript typescript java kotlin ruby php perl lua haskell scala elixir erlang clojure bash powershell
    html css zig nim ocaml fortran matlab groovy vue svelte dockerfile solidity cobol
"""
_NAMES = {
    "c++": "c++",
    "cpp": "c++",
    "c#": "c#",
    "csharp": "c#",
    "f#": "f#",
    "golang": "go",
    "js": "javascript",
    "ts": "typescript",
    "objective-c": "objective-c",
    **{name: name for name in _LANGUAGES.split()},
}
_WORDS_TOO = ("go", "c", "r", "d", "swift", "rust", "dart", "julia", "shell", "crystal", "scheme", "elm", "sql")
"""Languages that are words or letters as well: only right beside `repos` or `written in`."""
_ANY_LANGUAGE = "(?:" + "|".join(sorted(map(re.escape, (*_NAMES, *_WORDS_TOO)), key=len, reverse=True)) + ")"
_SURE_LANGUAGE = "(?:" + "|".join(sorted(map(re.escape, _NAMES), key=len, reverse=True)) + ")"
_WRITTEN = r"(?:(?:(?:that|which)\s+are\s+)?written\s+in|(?:who|that)\s+(?:write|know|code\s+in))"


def login(text: str) -> str | None:
    """A login as qualifiers take it; None when it is a word that is hardly one."""
    name = text.removeprefix("@")
    if name.lower() == "me":
        return "@me"
    if name.lower().endswith("[bot]"):
        return f"app/{name[:-5]}"
    return None if name.lower() in _NOT_LOGINS and not text.startswith("@") else name


def person_rule(name: str, before: str, key: str) -> Rule:
    """`assigned to alice`: counts with an `@`, or when the text names what is looked for."""

    def emit(match: re.Match[str], situation: Situation) -> list[str] | None:
        who = login(match.group("login"))
        if who is None or not (match.group("login").startswith("@") or who == "@me" or situation.has_head):
            return None
        return [f"{key}:{who}"]

    return rule(name, rf"{before}\s+(?P<login>{LOGIN}){PHRASE_END}", emit)


def count_rules(keys: Mapping[str, str]) -> tuple[Rule, ...]:
    """`more than 10 comments`, `at least 1k stars`, `no comments`; `keys` maps the word, a pattern, to the key."""
    rules: list[Rule] = []
    amount = r"(?P<number>\d{1,3}(?:,\d{3})+|\d{1,7})(?P<thousand>k)?"
    for what, key in keys.items():
        rules += [
            _count(f"{key}_over", rf"(?:more\s+than|over|above)\s+{amount}\s+{what}", f"{key}:>{{}}"),
            _count(f"{key}_at_least", rf"at\s+least\s+{amount}\s+{what}", f"{key}:>={{}}"),
            _count(f"{key}_at_least", rf"{amount}(?:\+|\s+or\s+more)\s+{what}", f"{key}:>={{}}"),
            _count(f"{key}_under", rf"(?:fewer\s+than|less\s+than|under|below)\s+{amount}\s+{what}", f"{key}:<{{}}"),
            _count(f"{key}_at_most", rf"at\s+most\s+{amount}\s+{what}", f"{key}:<={{}}"),
            _count(f"{key}_exactly", rf"exactly\s+{amount}\s+{what}", f"{key}:{{}}"),
            _count(f"{key}_none", rf"(?:no|without|zero)\s+(?:any\s+)?{what}", f"{key}:0"),
        ]
    return tuple(rules)


def _count(name: str, pattern: str, form: str) -> Rule:
    def emit(match: re.Match[str], situation: Situation) -> list[str] | None:
        if not situation.has_head and "number" not in match.groupdict():
            return None
        number = match.groupdict().get("number", "0").replace(",", "")
        return [form.format(int(number) * (1000 if match.groupdict().get("thousand") else 1))]

    return rule(name, rf"(?:(?:with|having|that\s+have|who\s+have|which\s+have)\s+)?{pattern}{END}", emit)


def language_rules(head: str) -> tuple[Rule, ...]:
    """`python repos`, `repos written in go`, `python web framework repos`; `head` names what is looked for."""

    def sure(match: re.Match[str], situation: Situation) -> list[str] | None:
        return [_language(match.group("language"))] if situation.has_head else None

    def anyway(match: re.Match[str], _situation: Situation) -> list[str] | None:
        return [_language(match.group("language"))]

    return (
        rule("language_written_in", _WRITTEN + rf"\s+(?P<language>{_ANY_LANGUAGE}){END}", anyway),
        rule("language_beside", rf"(?P<language>{_ANY_LANGUAGE})(?=\s+(?:{head}){END})", anyway),
        rule("language_in", rf"(?:in|using)\s+(?P<language>{_ANY_LANGUAGE}){PHRASE_END}", sure),
        rule("language", rf"(?P<language>{_SURE_LANGUAGE})(?=(?:\s+[^\s{BARRIER}]+){{1,3}}\s+(?:{head}){END})", anyway),
    )


def _language(name: str) -> str:
    found = qualifier("language", _NAMES.get(name.lower(), name.lower()))
    assert found is not None
    return found
