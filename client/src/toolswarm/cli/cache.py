"""`cache`: what is remembered, what is asked for often, and what may be done about it."""

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from toolswarm.cache_messages import CacheEntry, CachePage, CacheRequest, CacheStats, PopularRead
from toolswarm.cli.arguments import read_arguments
from toolswarm.cli.exits import FAILED, OK
from toolswarm.cli.flags import Json, Url
from toolswarm.cli.output import pretty, print_json, print_line, print_table, print_value
from toolswarm.client import Client
from toolswarm.errors import InvalidRequest
from toolswarm.messages import Context, SubmitBody

Action = Literal["stats", "get", "invalidate", "warm"]
Words = Annotated[str, Parameter(allow_leading_hyphen=True)]


def cache(
    action: Action = "stats",
    /,
    *words: Words,
    tool: str | None = None,
    repo: str | None = None,
    host: str | None = None,
    limit: int = 20,
    json: Json = False,
    url: Url = None,
) -> int:
    """Look at the result cache, invalidate tags, or refresh what is popular.

    Args:
        action: stats, get OPERATION key=value…, invalidate TAG…, or warm.
        words: For get: an operation and its arguments, as for call. For invalidate: tags, e.g. repo:acme/web.
        tool: For stats and warm: only this tool.
        repo: For get: the repository you work in, owner/name.
        host: For get: the name of a configured remote host.
        limit: How many popular calls are shown, or warmed.
        json: Print one JSON document.
        url: The swarm, when it should not be found by itself.
    """
    if words and action in ("stats", "warm"):
        raise InvalidRequest(f"cache {action}: takes no words; choose with --tool")
    with Client(url) as client:
        request = CacheRequest(tool=tool, limit=limit)
        if action == "invalidate":
            if not words:
                raise InvalidRequest("cache invalidate: name a tag, e.g. repo:acme/web")
            request = CacheRequest(tags=words)
        elif action == "get":
            if not words:
                raise InvalidRequest("cache get: name an operation, and its arguments as for call")
            arguments = read_arguments(words[1:], sys.stdin, lambda: client.tools(words[0]))
            body = SubmitBody(operation=words[0], arguments=arguments, context=Context(repo=repo, host=host))
            request = CacheRequest(call=body)
        page = client.cache(action, request)
    if json:
        print_json(page)
    else:
        _print(action, page)
    return FAILED if page.entry is not None and not page.entry.remembered else OK


def _print(action: Action, page: CachePage) -> None:
    if page.stats is not None:
        _print_stats(page.stats)
        print_line("")
    if page.entry is not None:
        _print_entry(page.entry)
    elif action == "invalidate":
        print_line(f"nothing older is used any more: {', '.join(page.invalidated)}")
    elif page.popular:
        if action == "warm":
            print_line(f"{len(page.popular)} being refreshed:")
        print_table(
            ("OPERATION", "PER MINUTE", "RUN", "TTL", "FRESH", "ASKED", "WARMED", "ARGUMENTS"),
            [_popular(each) for each in page.popular],
        )
    else:
        print_line("nothing is asked for often" if action == "stats" else "nothing to refresh")


def _print_stats(stats: CacheStats) -> None:
    counts = ", ".join(f"{count} {name}" for name, count in sorted(stats.counts.items()))
    print_line(f"gateway  {counts or 'nothing asked yet'}")
    if stats.server:
        server = ", ".join(f"{name} {value}" for name, value in sorted(stats.server.items()))
        print_line(f"server   {server}")
    else:
        print_line("server   the cache does not answer: calls run without it")
    for tool, came in sorted(stats.warmed.items()):
        print_line(f"warming  {tool}: {', '.join(f'{count} {name}' for name, count in sorted(came.items()))}")


def _print_entry(entry: CacheEntry) -> None:
    if not entry.remembered:
        print_line(f"{entry.operation}: nothing is remembered: {entry.why}")
        return
    left = f"stale for {-entry.fresh_s:.1f} s" if entry.stale else f"fresh for {entry.fresh_s:.1f} s"
    print_line(f"{entry.operation}: remembered, {entry.age_s:.1f} s old, {left}")
    if entry.tags:
        print_line(f"tags: {', '.join(entry.tags)}")
    if entry.error is not None:
        print_line(f"{entry.error.code}: {entry.error.message}")
    else:
        print_value(entry.value)


def _popular(each: PopularRead) -> tuple[str, ...]:
    return (
        each.operation,
        f"{each.per_minute:.1f}",
        f"{each.cost_s * 1000:.0f} ms",
        f"{each.ttl_s:g} s",
        f"{each.fresh_s:.1f} s" if each.fresh_s > 0 else "–",
        f"{each.asked_ago_s:.0f} s ago",
        "–" if each.warmed_ago_s is None else f"{each.warmed_ago_s:.0f} s ago",
        " ".join(pretty(each.arguments).split()),
    )
