"""What a name means in a list of operations, for the way through the broker, which sends the whole list."""

import difflib
from collections.abc import Sequence

from toolswarm.errors import UnknownOperation
from toolswarm.messages import Operation


def choose(operations: Sequence[Operation], name: str | None) -> list[Operation]:
    """The operations that `name` means: a full name, a bare name, an alias or a tool; all of them for None.

    Raises:
        UnknownOperation: none; `details["nearest"]` has the nearest names.
    """
    if name is None:
        return list(operations)
    full = [each for each in operations if each.full_name == name]
    found = full or [each for each in operations if name in (each.tool, each.name, *each.aliases)]
    if found:
        return found
    known = {each.full_name for each in operations} | {each.name for each in operations}
    nearest = difflib.get_close_matches(name, sorted(known), n=3)
    advice = f"; did you mean {nearest[0]}?" if nearest else ""
    raise UnknownOperation(f"there is no operation {name}{advice}", operation=name, nearest=nearest)
