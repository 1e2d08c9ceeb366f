"""How long answers of GitHub are remembered, what they depend on, and what makes them out of date."""

from collections.abc import Mapping
from typing import Any

from tasks.github.client import Clients
from tasks.operation import Run
from toolswarm.messages import Remember

REMEMBER = Remember(ttl_s=30, stale_if_error_s=300, negative_ttl_s=5)
"""Others change things there, too: an answer is seldom asked for again later, and soon enough wrong."""
REPO = ("repo:{repo}",)
REPOSITORIES = ("repos",)
SEARCHES = ("searches",)
CHANGES = (*REPO, *REPOSITORIES, *SEARCHES)
"""Of a write: what its repository answers, and what lists and searches may show of it."""


def tag_values(clients: Clients, run: Run, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The repositories by their full names, which GitHub reads in lower case as well; of a batch all of them."""
    parts = arguments.get("operations") or ()
    asked = [_named(arguments), *(_named(part.arguments) or run.call.context.repo for part in parts)]
    with clients.for_call(run) as github:
        return {"repo": sorted({github.full_name(repo).lower() for repo in asked if isinstance(repo, str)})}


def _named(arguments: Mapping[str, Any]) -> Any:
    """The repository that the arguments are about, also one that they make: that it was not there may be remembered."""
    name, owner = arguments.get("name"), arguments.get("owner")
    return arguments.get("repo") or (f"{owner}/{name}" if name and owner else name)
