"""The flags that commands share."""

import sys
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from toolswarm.cli.arguments import read_arguments
from toolswarm.client import Calls
from toolswarm.errors import InvalidRequest
from toolswarm.messages import CacheMode, Context, Priority
from toolswarm.options import DEFAULT_TIMEOUT_S, OptionChanges

Words = Annotated[str, Parameter(allow_leading_hyphen=True, name="key=value")]
Json = Annotated[bool, Parameter(name="--json", negative="")]
Follow = Annotated[bool, Parameter(name="--follow", negative="")]
Url = Annotated[str | None, Parameter(name="--url")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CallFlags:
    """What can be said of a call beside its arguments."""

    timeout_s: Annotated[float, Parameter(name=["--timeout", "--wait"])] = DEFAULT_TIMEOUT_S
    """Seconds to wait for the end."""
    priority: Priority = Priority.NORMAL
    """Who goes first: interactive, normal or background."""
    repo: str | None = None
    """The repository you work in, owner/name."""
    host: str | None = None
    """The name of a configured remote host."""
    idempotency_key: str | None = None
    """Two calls with one key and the same content are one call."""
    deadline_s: Annotated[float | None, Parameter(name="--deadline")] = None
    """Seconds after which the call is over, run or not."""
    no_cache: Annotated[bool, Parameter(negative="")] = False
    """Neither use nor fill remembered results."""
    refresh: Annotated[bool, Parameter(negative="")] = False
    """Do not use what is remembered, and remember the new result."""
    json: Json = False
    """Print one JSON document."""
    url: Url = None
    """The swarm, when it should not be found by itself."""

    def options(self) -> OptionChanges:
        """The same as options of the client."""
        if self.no_cache and self.refresh:
            raise InvalidRequest("--no-cache and --refresh exclude each other")
        cache = CacheMode.SKIP if self.no_cache else CacheMode.REFRESH if self.refresh else CacheMode.USE
        return {
            "timeout_s": self.timeout_s,
            "priority": self.priority,
            "context": Context(repo=self.repo, host=self.host),
            "idempotency_key": self.idempotency_key,
            "deadline_s": self.deadline_s,
            "cache": cache,
        }


def arguments_of(swarm: Calls, operation: str, words: tuple[str, ...]) -> dict[str, Any]:
    """The arguments that the words on the command line mean for the operation."""
    return read_arguments(words, sys.stdin, lambda: swarm.tools(operation))
