"""What can be asked of the result cache, and what it answers. Times are Unix seconds, sizes are bytes."""

from typing import Any, Literal

import msgspec

from toolswarm.messages import ErrorInfo, SubmitBody

CacheAction = Literal["stats", "get", "invalidate", "warm"]


class CacheRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is meant: a call for `get`, tags for `invalidate`, perhaps a tool for `stats` and `warm`."""

    call: SubmitBody | None = None
    """For `get`: the call whose remembered result is looked for."""
    tags: tuple[str, ...] = ()
    """For `invalidate`: what has changed, e.g. `repo:acme/web`."""
    tool: str | None = None
    """For `stats` and `warm`: only this tool."""
    limit: int = 20
    """The most popular calls that are shown, or warmed."""


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is remembered of one call."""

    operation: str
    """In full: `github.get_repo`."""
    remembered: bool = False
    """Whether there is an answer."""
    why: str = ""
    """Why there is none."""
    stale: bool = False
    """Whether it is past its time, and only used while another run is on its way, or fails."""
    age_s: float = 0.0
    fresh_s: float = 0.0
    """How long it is still fresh."""
    ttl_s: float = 0.0
    """How long answers like it are fresh."""
    tags: tuple[str, ...] = ()
    """What makes it void when it is invalidated."""
    place: str | None = None
    """Where it was made: a host name, `api.github.com`."""
    value: Any = None
    error: ErrorInfo | None = None
    """Instead of a value: what was looked for is known not to be there."""


class PopularRead(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call of the caller's that is asked for often."""

    operation: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """Without what the operation declares secret; long texts are cut."""
    per_minute: float
    """How often it is asked for; what is long ago counts less."""
    cost_s: float
    """How long a run takes."""
    ttl_s: float
    fresh_s: float
    """How long the remembered result is still fresh."""
    asked_ago_s: float
    warmed_ago_s: float | None = None
    """When it was last refreshed before anybody asked."""


class CacheStats(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The cache at one instant."""

    at: float
    counts: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    """What this gateway process did with its cache so far, e.g. `hit`, `miss`."""
    server: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    """The cache Redis, e.g. the memory that it uses; empty when it does not answer."""
    warmed: dict[str, dict[str, int]] = msgspec.field(default_factory=dict[str, dict[str, int]])
    """Tool -> what came of refreshes that nobody asked for, e.g. `warmed`, `failed`."""


class CachePage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer: what the action has found or done."""

    stats: CacheStats | None = None
    popular: tuple[PopularRead, ...] = ()
    """For `stats`: what is asked for often; for `warm`: what is being refreshed."""
    entry: CacheEntry | None = None
    invalidated: tuple[str, ...] = ()
    """The tags under which nothing older is used from now on."""
