"""The page of all error codes, made from the source: where each is raised, and in what words.

Codes of the tree in `toolswarm.errors` come with their class; those of operations from every `code="…"` in the source
of the tools and of the workers. A test fails when docs/errors.md is not what the source says.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from toolswarm import errors

ROOT = Path(__file__).parents[1]
_FOLDERS = ("tasks", "workers", "store")
_LUA_VERDICT = re.compile(
    r"'(?:failed|expired|cancelled|unknown)', now,?\s*(?:verdict\([^']*'\w+', now,\s*)?'(\w+)',\s*'([^']*)'"
)
_NOT_TOLD = ("Outcome", "GiveBack")
"""What a worker notes of a task for Celery: no error of a call."""
_HEAD = """# Errors

A call that did not succeed has an `error` with a `code` (stable: programs may compare it), a `message` (for people and
models: it says what to do), `retryable` (the same call may succeed later) and `details`. Over HTTP a refused request is
a problem document (RFC 9457) with the same members. This page is made from the source by `make docs`.

## Requests that are refused, and calls that cannot be followed

| code | may pass | what happened |
|---|---|---|
"""
_OPERATIONS = """
## Calls that failed

What an operation, or the worker that ran it, said. `…` stands for what the message names.

| code | said by | in these words |
|---|---|---|
"""


class Said(NamedTuple):
    """One place that raises an error with this code."""

    code: str
    place: str
    words: str


def error_page() -> str:
    """The whole page, in Markdown."""
    rows = [
        f"| `{kind.code}` | {'yes' if kind.retryable else 'no'} | {_first_sentence(kind)} |"
        for kind in _classes(errors.ToolswarmError)
        if kind.code not in ("error", "request_refused")
    ]
    found: dict[str, list[Said]] = {}
    for said in sorted(_said()):
        found.setdefault(said.code, []).append(said)
    for code, places in found.items():
        where = ", ".join(sorted({said.place for said in places}))
        words = max((said.words for said in places), key=len)
        rows_of = f"| `{code}` | {where} | {words} |"
        found[code] = [Said(code, where, rows_of)]
    return _HEAD + "\n".join(rows) + "\n" + _OPERATIONS + "\n".join(one[0].words for one in found.values()) + "\n"


def _classes(kind: type[errors.ToolswarmError]) -> Iterator[type[errors.ToolswarmError]]:
    yield kind
    for inner in kind.__subclasses__():
        if inner.__module__ == errors.__name__:
            yield from _classes(inner)


def _first_sentence(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split()).replace("|", "\\|")


def _said() -> Iterator[Said]:
    for folder in _FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            place = file.relative_to(ROOT).parts[1] if len(file.relative_to(ROOT).parts) > 2 else folder
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    yield from _of_call(node, place)
    for file in sorted((ROOT / "store/scripts").glob("*.lua")):
        text = re.sub(r"\n\s*", " ", file.read_text(encoding="utf-8"))
        for code, words in _LUA_VERDICT.findall(text):
            yield Said(code, "ledger", _cell(words))


def _of_call(node: ast.Call, place: str) -> Iterator[Said]:
    if isinstance(node.func, ast.Name) and node.func.id in _NOT_TOLD:
        return
    for keyword in node.keywords:
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
            message = next((one.value for one in node.keywords if one.arg == "message"), None)
            words = _words(message if message is not None else node.args[0] if node.args else None)
            yield Said(keyword.value.value, place, words)


def _words(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _cell(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
        return _cell("".join(str(part) for part in parts))
    return ""


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
