"""`fallback`: what is tried next when a tool cannot be had."""

from typing import Literal

from toolswarm.cli.exits import OK
from toolswarm.cli.flags import Json, Url
from toolswarm.cli.output import print_json, print_line, print_table
from toolswarm.client import Client
from toolswarm.errors import InvalidRequest
from toolswarm.messages import FallbackChains


def fallback(
    action: Literal["list", "set", "unset"] = "list",
    name: str | None = None,
    /,
    *chain: str,
    json: Json = False,
    url: Url = None,
) -> int:
    """Look at the fallback chains, or set one.

    Args:
        action: list, set NAME NEXT..., or unset NAME (as it is configured).
        name: A tool (droplet), or an operation (droplet.read_file).
        chain: What is tried next, in order: tools after a tool, operations after an operation; none: nothing.
        json: Print one JSON document.
        url: The swarm, when it should not be found by itself.
    """
    if action != "list" and name is None:
        raise InvalidRequest(f"fallback {action}: name a tool or an operation")
    with Client(url) as client:
        if name is None or action == "list":
            chains = client.fallback_chains()
        else:
            chains = client.set_fallback_chain(name, chain if action == "set" else None)
    if json:
        print_json(FallbackChains(fallbacks=chains))
    elif not chains:
        print_line("no fallback chain is set")
    else:
        print_table(
            ("WHEN NOT TO BE HAD", "IS TRIED"), [(one, ", ".join(to) or "nothing") for one, to in chains.items()]
        )
    return OK
