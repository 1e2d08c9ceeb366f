"""What answers about local files depend on.

They are not remembered unless an operator says so (`[cache.ttl_s]`): programs that are no calls change files too, and
only the worker that reads a file can see that it is still the same one, as `read_cache.py` does at each read. An answer
in the cache Redis would be given without that look. What is declared here makes our own writes void what an operator
has chosen to remember; a session's program that goes on by itself is not noticed.
"""

from collections.abc import Mapping
from typing import Any

from tasks.desktop.desk import Desk
from tasks.operation import Run

ROOT = ("desktop:{root}",)
"""All of a root folder: a listing or a search depends on everything in it, and a command may change anything."""


def tag_values(desk: Desk, run: Run, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tenant's root by its path: tenants that share one void each other's answers."""
    return {"root": str(desk.root(run.call.tenant).root)}
