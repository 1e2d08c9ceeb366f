"""From `key=value` words to the arguments of a call.

`key=value` is text, unless the operation's schema wants something else and the text is that in JSON; `key:=json` is
JSON as it stands; `key=@file` is the text of a file; a single `-` reads an object from standard input.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec

from toolswarm.errors import InvalidRequest
from toolswarm.messages import Operation

_WORD = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<sign>:=|=)(?P<value>.*)", re.DOTALL)

Schema = dict[str, Any]


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """One argument as it was typed; `plain` text may still become what the schema wants."""

    name: str
    value: Any
    plain: bool


def read_arguments(
    words: Sequence[str], stdin: TextIO, operations: Callable[[], Sequence[Operation]]
) -> dict[str, Any]:
    """The arguments that the words mean; `operations` is asked only when some text could be more than text.

    Raises:
        InvalidRequest: a word is no assignment, a file cannot be read, JSON is malformed, a name comes twice.
    """
    if list(words) == ["-"]:
        return _from_stdin(stdin)
    assignments = [_parse(word) for word in words]
    names = [each.name for each in assignments]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InvalidRequest(f"given more than once: {', '.join(sorted(twice))}")
    schemas = (
        [each.parameters for each in operations()]
        if any(_may_be_more(each) for each in assignments)
        else list[Schema]()
    )
    return {each.name: _settle(each, schemas) for each in assignments}


def _parse(word: str) -> Assignment:
    match = _WORD.fullmatch(word)
    if match is None:
        raise InvalidRequest(f"{word!r} is not an argument: write key=value, key:=json or key=@file")
    name, value = match["name"], match["value"]
    if match["sign"] == ":=":
        try:
            return Assignment(name=name, value=msgspec.json.decode(value), plain=False)
        except msgspec.DecodeError as error:
            raise InvalidRequest(f"{name}: not valid JSON ({error})") from error
    if value.startswith("@"):
        return Assignment(name=name, value=_read(name, Path(value[1:])), plain=False)
    return Assignment(name=name, value=value, plain=True)


def _read(name: str, file: Path) -> str:
    try:
        # newline="" keeps the line ends as they are: a file is handed on, not interpreted.
        with file.open(encoding="utf-8", newline="") as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidRequest(f"{name}: cannot read {file}: {why}") from error


def _from_stdin(stdin: TextIO) -> dict[str, Any]:
    try:
        return msgspec.json.decode(stdin.read(), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"standard input is not a JSON object of arguments ({error})") from error


def _may_be_more(assignment: Assignment) -> bool:
    return assignment.plain and not isinstance(_as_json(assignment.value), str)


def _settle(assignment: Assignment, schemas: Sequence[Schema]) -> Any:
    if not _may_be_more(assignment):
        return assignment.value
    wanted: set[str] = set()
    for schema in schemas:
        properties: dict[str, Schema] = schema.get("properties", {})
        if assignment.name in properties:
            wanted |= _kinds(properties[assignment.name], schema, frozenset())
    if not wanted or "string" in wanted:
        return assignment.value
    value = _as_json(assignment.value)
    return value if _kinds_of_value(value) & wanted else assignment.value


def _as_json(text: str) -> Any:
    """The value that the text spells in JSON, or the text itself."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _kinds(schema: Schema, root: Schema, seen: frozenset[str]) -> set[str]:
    """The JSON types that a schema allows; empty when it does not say."""
    reference: str | None = schema.get("$ref")
    if reference is not None:
        target: Schema | None = root.get("$defs", {}).get(reference.rpartition("/")[2])
        return set() if target is None or reference in seen else _kinds(target, root, seen | {reference})
    named: str | list[str] = schema.get("type", [])
    kinds = {named} if isinstance(named, str) else set(named)
    for value in [*schema.get("enum", []), *([schema["const"]] if "const" in schema else [])]:
        kinds |= _kinds_of_value(value)
    for word in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(word, []):
            kinds |= _kinds(part, root, seen)
    return kinds


def _kinds_of_value(value: Any) -> set[str]:
    match value:
        case None:
            return {"null"}
        case bool():
            return {"boolean"}
        case int():
            return {"integer", "number"}
        case float():
            return {"number"}
        case str():
            return {"string"}
        case list():
            return {"array"}
        case _:
            return {"object"}
