"""What operations are called over MCP: names that every model's interface takes (letters, digits, `_` and `-`)."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from toolswarm.messages import Operation

LONGEST = 64
"""What OpenAI and Anthropic take of a function's name; MCP itself would take 128."""

_REFUSED = re.compile(r"[^A-Za-z0-9_-]")
Style = Literal["full", "short"]


def names(operations: Iterable[Operation], style: Style) -> dict[str, Operation]:
    """Name -> operation, in the order of the full names.

    `full` is `tool_operation`, as in the OpenAPI document; `short` is the operation alone, where only one has it.
    """
    known = sorted(operations, key=lambda operation: operation.full_name)
    count = Counter(operation.name for operation in known)
    named: dict[str, Operation] = {}
    for operation in known:
        short = style == "short" and count[operation.name] == 1
        wanted = operation.name if short else f"{operation.tool}_{operation.name}"
        named[_free(_fitting(wanted), named)] = operation
    return named


def _fitting(name: str) -> str:
    fitting = _REFUSED.sub("_", name)
    if len(fitting) <= LONGEST and fitting == name:
        return name
    # What was changed or cut is told apart by its digest, so that two names never become one by accident.
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{fitting[: LONGEST - 7]}_{digest}"


def _free(name: str, taken: Mapping[str, object]) -> str:
    free, number = name, 2
    while free in taken:
        free, number = f"{name[: LONGEST - 4]}_{number}", number + 1
    return free
