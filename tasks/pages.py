"""The page of a tool for people, made from its declarations: what each operation does, takes, returns and promises.

`python -m tasks pages` writes `docs/tools/*.md`; a test fails when they are not what the declarations say.
"""

import ast
import inspect
import json
import shlex
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from tasks.operation import OperationDeclaration, Tool
from toolswarm.messages import Effect, Operation

_EFFECTS = {
    Effect.READ: "changes nothing; may be repeated, cached and moved to another tool",
    Effect.IDEMPOTENT: "may be run again: the second run leaves what the first one left",
    Effect.VERIFIABLE: "never repeated blindly: after a lost attempt the next one looks first whether it happened",
    Effect.ONCE: "never run twice: when the worker is lost in the middle, the outcome is `unknown`",
}


def page(tool: Tool) -> str:
    """The whole page of one tool, in Markdown."""
    module = sys.modules[tool.open.__module__]
    package = sys.modules[module.__name__.rpartition(".")[0]]
    described = {declaration.name: declaration.describe(tool.name) for declaration in tool.operations.values()}
    lines = [f"# The tool `{tool.name}`", "", *_paragraphs(package.__doc__ or ""), ""]
    lines += ["| operation | what it does | effect |", "|---|---|---|"]
    for operation in described.values():
        lines.append(f"| [`{operation.full_name}`](#{operation.name}) | {operation.title} | {_effect(operation)} |")
    for declaration in tool.operations.values():
        lines += ["", *_section(declaration, described[declaration.name])]
    return "\n".join(lines) + "\n"


def _paragraphs(docstring: str) -> list[str]:
    first, _, rest = inspect.cleandoc(docstring).partition("\n")
    return [first.partition(": ")[2][:1].upper() + first.partition(": ")[2][1:] or first, *rest.splitlines()]


def _effect(operation: Operation) -> str:
    return f"{operation.effect.value}, may overwrite or remove" if operation.destructive else operation.effect.value


def _section(declaration: OperationDeclaration, operation: Operation) -> Iterator[str]:
    yield f"## {operation.name}"
    yield ""
    yield from operation.description.splitlines()
    yield ""
    yield f"Effect: **{operation.effect.value}** ({_EFFECTS[operation.effect]})."
    if operation.destructive:
        yield "It may overwrite or remove what was there."
    yield f"One attempt takes at most {operation.time_limit_s:g} s."
    if operation.session_argument:
        yield f"The call goes to the worker that `{operation.session_argument}` names."
    yield ""
    yield "```sh"
    yield _example(operation)
    yield "```"
    yield ""
    properties: dict[str, Any] = operation.parameters.get("properties", {})
    if properties:
        yield "| argument | type | default | |"
        yield "|---|---|---|---|"
        required = operation.parameters.get("required", [])
        definitions = operation.parameters.get("$defs", {})
        for name, schema in properties.items():
            filled = operation.from_context.get(name)
            default = "**required**" if name in required else f"`{json.dumps(schema.get('default'))}`"
            where = f" Taken from the context's `{filled}` when left out." if filled else ""
            what = cell(schema.get("description", "") + where)
            yield f"| `{name}` | {cell(_type(schema, definitions))} | {default} | {what} |"
        yield ""
    yield from _result(declaration)


def _example(operation: Operation) -> str:
    words = ["toolswarm", "call", operation.full_name]
    properties: dict[str, Any] = operation.parameters.get("properties", {})
    for name in operation.parameters.get("required", []):
        schema = properties[name]
        example = next(iter(schema.get("examples", [])), None)
        if example is None:
            example = "…"
        text = f"{name}={example}" if isinstance(example, str) else f"{name}:={json.dumps(example, ensure_ascii=False)}"
        words.append(shlex.quote(text))
    return " ".join(words)


def _type(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " \\| ".join(_type(one, definitions) for one in schema["anyOf"])
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        inner: dict[str, Any] = definitions.get(name, {})
        if "enum" in inner:
            return _type(inner, definitions)
        fields = ", ".join(f"`{field}`" for field in inner.get("properties", {}))
        return f"object ({fields})"
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}), definitions)}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'], definitions)}"
    least, most = schema.get("minimum"), schema.get("maximum")
    if most is not None:
        return f"{kind}, {least if least is not None else ''}…{most}"
    return kind


def cell(text: str) -> str:
    """A text as one cell of a Markdown table."""
    return " ".join(text.replace("\\|", "|").replace("|", "\\|").split())


def _result(declaration: OperationDeclaration) -> Iterator[str]:
    returned = get_type_hints(declaration.function).get("return")
    told: list[type[msgspec.Struct]] = []
    waiting = list(_structs(returned))
    while waiting:
        struct = waiting.pop(0)
        if struct not in told:
            told.append(struct)
            waiting += [inner for hint in get_type_hints(struct).values() for inner in _structs(hint)]
    for struct in told:
        first = "Returns" if struct is told[0] else f"`{struct.__name__}`:"
        summary = inspect.cleandoc(struct.__doc__ or "").replace("\n", " ")
        yield f"{first} {summary[:1].lower() + summary[1:] if first == 'Returns' else summary}"
        yield ""
        notes = field_notes(struct)
        hints = get_type_hints(struct)
        for name in struct.__struct_fields__:
            yield f"- `{name}` ({type_in_words(hints[name])}){': ' + notes[name] if name in notes else ''}"
        yield ""


def _structs(hint: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield hint
    for inner in get_args(hint):
        yield from _structs(inner)


def type_in_words(hint: Any) -> str:
    """A type as people read it."""
    arguments = get_args(hint)
    if hint is type(None):
        return "null"
    if not arguments:
        return {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}.get(
            getattr(hint, "__name__", ""), getattr(hint, "__name__", str(hint))
        )
    origin = getattr(hint, "__origin__", None)
    if origin in (list, tuple):
        return f"list of {type_in_words(arguments[0])}"
    if origin is dict:
        return f"object of {type_in_words(arguments[1])}"
    if isinstance(arguments[0], str):
        return " | ".join(f"`{value}`" for value in arguments)
    return " | ".join(type_in_words(argument) for argument in arguments)


@cache
def field_notes(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Field -> the string that stands below it in the source."""
    notes: dict[str, str] = {}
    for kind in reversed(struct.__mro__):
        if kind is msgspec.Struct or not issubclass(kind, msgspec.Struct):
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
        body = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)).body
        for field, note in pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(note, ast.Expr)
                and isinstance(note.value, ast.Constant)
            ):
                notes[field.target.id] = " ".join(str(note.value.value).split())
    return notes


def write_pages(folder: Path, tools: dict[str, Tool]) -> list[Path]:
    """Write the page of each tool; returns the files."""
    written: list[Path] = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, tool in tools.items():
        file = folder / f"{name}.md"
        file.write_text(page(tool), encoding="utf-8")
        written.append(file)
    return written
