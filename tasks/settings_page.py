"""The page of all settings, made from the sections of the configuration."""

import inspect
import json
from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from store.configuration import Configuration
from store.sections import Secret
from tasks.pages import cell, field_notes, type_in_words

_HEAD = """# Configuration

`toolswarm.toml` in the working folder (or the file named by `TOOLSWARM_CONFIG`), then the environment over it:
`TOOLSWARM_SECTION__KEY`. `MCP_API_KEY` and `GITHUB_TOKEN` work too, each also as `NAME_FILE`. An unknown key is refused
with the nearest known name. With no configuration at all, everything runs. This page is made from the source by
`make docs`.
"""


def settings_page() -> str:
    """The whole page, in Markdown."""
    lines = [_HEAD]
    for name, struct in _sections("", Configuration):
        lines += [f"## `{name}`", "", " ".join(inspect.cleandoc(struct.__doc__ or "").split()), ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        lines += [*_rows(struct), ""]
    return "\n".join(lines)


def _sections(path: str, struct: type[msgspec.Struct]) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    for name, hint in get_type_hints(struct).items():
        inner, kind = _section_in(hint)
        if inner is None:
            continue
        here = f"{path}.{name}" if path else name
        here += {"table": "", "tables": ".NAME", "list": ""}[kind]
        if any(not _is_section(one) for one in get_type_hints(inner).values()):
            yield (f"[[{here}]]" if kind == "list" else f"[{here}]"), inner
        yield from _sections(here, inner)


def _section_in(hint: Any) -> tuple[type[msgspec.Struct] | None, str]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint, "table"
    arguments = get_args(hint)
    last = arguments[1] if get_origin(hint) is dict else arguments[0] if get_origin(hint) is tuple else None
    if isinstance(last, type) and issubclass(last, msgspec.Struct):
        return last, "tables" if get_origin(hint) is dict else "list"
    return None, ""


def _is_section(hint: Any) -> bool:
    return _section_in(hint)[0] is not None


def _rows(struct: type[msgspec.Struct]) -> Iterator[str]:
    notes, hints = field_notes(struct), get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        if _is_section(hints[field.name]):
            continue
        kind = "secret" if hints[field.name] is Secret else type_in_words(hints[field.name])
        yield f"| `{field.name}` | {cell(kind)} | {_default(field)} | {cell(notes.get(field.name, ''))} |"


def _default(field: Any) -> str:
    if field.default is not msgspec.NODEFAULT:
        value = field.default
    elif field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    else:
        return "**required**"
    if isinstance(value, Secret):
        return "none"
    return f"`{json.dumps(msgspec.to_builtins(value), ensure_ascii=False)}`"
