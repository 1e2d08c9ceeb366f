"""What a caller may ask of the result cache: how it stands, what is remembered, that it be voided or refreshed.

A caller sees only what is remembered for itself, and its own popular calls. Tags name what has changed outside (a
repository, a host), so they void what others remember of it, too: that costs them a run, and shows them nothing.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from cache import Cache
from cache.popularity import Popular, Popularity, refresh, time_to_refresh_s
from store import keys
from store.connection import text
from store.dead import redact
from toolswarm.cache_messages import CacheEntry, CachePage, CacheRequest, CacheStats, PopularRead
from toolswarm.errors import BrokerUnavailable, InvalidRequest, ToolswarmError
from toolswarm.ids import new_call_id
from toolswarm.messages import Effect, Operation, SubmitBody, ToolCall, ToolResult

ACTIONS = ("stats", "get", "invalidate", "warm")
MOST_TAGS = 100
MAX_TAG_CHARACTERS = 300
_MOST_POPULAR = 512

Resolve = Callable[[SubmitBody], Awaitable[tuple[Operation, dict[str, Any]]]]
"""The operation that a request means, and its arguments, checked."""
Submit = Callable[[SubmitBody, str, str], Awaitable[ToolResult]]
"""Submits a call for a tenant and a principal."""


class CacheDesk:
    """The four actions, each for one caller."""

    def __init__(
        self,
        cache: Cache,
        popularity: Popularity,
        *,
        operations: Callable[[], Awaitable[Sequence[Operation]]],
        resolve: Resolve,
        submit: Submit,
        per_minute: int,
    ) -> None:
        self._cache = cache
        self._popularity = popularity
        self._operations = operations
        self._resolve = resolve
        self._submit = submit
        self._per_minute = per_minute

    async def act(self, action: str, request: CacheRequest, *, tenant: str, principal: str) -> CachePage:
        """Do it.

        Raises:
            InvalidRequest: there is no such action, or it needs something that is not there.
            BrokerUnavailable: the invalidation could be told to nobody, or the cache's Redis is needed and away.
        """
        if action not in ACTIONS:
            raise InvalidRequest(f"the cache takes {', '.join(ACTIONS)}, not {action[:20]!r}", field="action")
        if not 1 <= request.limit <= _MOST_POPULAR:
            raise InvalidRequest(f"limit: must be 1 to {_MOST_POPULAR}", field="limit")
        if action == "get":
            return CachePage(entry=await self._get(request, tenant, principal))
        if action == "invalidate":
            return CachePage(invalidated=await self._invalidate(request.tags))
        if action == "warm":
            return CachePage(popular=await self._warm(request, tenant, principal))
        return await self._stats(request, tenant, principal)

    async def _get(self, request: CacheRequest, tenant: str, principal: str) -> CacheEntry:
        if request.call is None:
            raise InvalidRequest("call: say which call's result is meant", field="call")
        operation, arguments = await self._resolve(request.call)
        call = ToolCall(
            id=new_call_id(),
            operation=operation.full_name,
            arguments=arguments,
            context=request.call.context,
            tenant=tenant,
            principal=principal,
        )
        rules = self._cache.rules(operation)
        if rules is None:
            return CacheEntry(operation=operation.full_name, why="results of this operation are not remembered")
        found = await self._cache.get(self._cache.name(operation, call))
        if found is None:
            why = "it was not asked for, has expired or was invalidated"
            return CacheEntry(operation=operation.full_name, why=why, ttl_s=rules.ttl_s)
        answer = found.answer
        return CacheEntry(
            operation=operation.full_name,
            remembered=True,
            stale=found.stale,
            age_s=found.age_s,
            fresh_s=found.fresh_s,
            ttl_s=found.ttl_s,
            tags=tuple(found.tags),
            place=answer.place,
            value=None if answer.value is None else msgspec.json.decode(answer.value),
            error=answer.error,
        )

    async def _invalidate(self, tags: tuple[str, ...]) -> tuple[str, ...]:
        if not 1 <= len(tags) <= MOST_TAGS:
            raise InvalidRequest(f"tags: name 1 to {MOST_TAGS}, e.g. repo:acme/web", field="tags")
        if not all(0 < len(tag) <= MAX_TAG_CHARACTERS for tag in tags):
            raise InvalidRequest(f"tags: each has 1 to {MAX_TAG_CHARACTERS} characters", field="tags")
        await self._cache.invalidate(tags)
        return tags

    async def _warm(self, request: CacheRequest, tenant: str, principal: str) -> tuple[PopularRead, ...]:
        operations = await self._known()
        begun: list[PopularRead] = []
        for tool in _tools(operations, request.tool):
            now, own = await self._own(tool, tenant, principal)
            wanted = own[: request.limit - len(begun)]
            granted = await self._popularity.claim(tool, wanted, per_minute=self._per_minute)
            chosen = [one for one in wanted if one.name in granted and _is_read(operations.get(one.call.operation))]
            begun += [_shown(one, operations, now) for one in chosen if await self._begin(one)]
        return tuple(begun)

    async def _begin(self, one: Popular) -> bool:
        body = refresh(one, deadline=time.time() + time_to_refresh_s(one))
        try:
            await self._submit(body, one.call.tenant, one.call.principal)
        except BrokerUnavailable:
            raise
        except ToolswarmError:
            return False  # its operation is gone, or its queue is full: it is not among those that are refreshed
        return True

    async def _stats(self, request: CacheRequest, tenant: str, principal: str) -> CachePage:
        operations = await self._known()
        tools = _tools(operations, request.tool)
        popular: list[tuple[float, Popular]] = []
        warmed: dict[str, dict[str, int]] = {}
        server = await self._cache.stats()
        if server:
            for tool in tools:
                now, own = await self._own(tool, tenant, principal)
                popular += [(now, one) for one in own]
                reply = await self._cache.server.command("HGETALL", keys.warm_counts_key(tool))
                if reply:
                    warmed[tool] = {text(reply[at]): int(reply[at + 1]) for at in range(0, len(reply), 2)}
        popular.sort(key=lambda each: -each[1].rate_per_s * each[1].cost_s)
        return CachePage(
            stats=CacheStats(at=time.time(), counts=dict(self._cache.counts), server=server, warmed=warmed),
            popular=tuple(_shown(one, operations, now) for now, one in popular[: request.limit]),
        )

    async def _own(self, tool: str, tenant: str, principal: str) -> tuple[float, list[Popular]]:
        now, popular = await self._popularity.top(tool, _MOST_POPULAR)
        return now, [one for one in popular if (one.call.tenant, one.call.principal) == (tenant, principal)]

    async def _known(self) -> dict[str, Operation]:
        return {one.full_name: one for one in await self._operations()}


def _is_read(operation: Operation | None) -> bool:
    """Whether it may be run although nobody asks: what was a read once may be something else by now."""
    return operation is not None and operation.effect is Effect.READ


def _tools(operations: Mapping[str, Operation], wanted: str | None) -> list[str]:
    tools = sorted({one.tool for one in operations.values()})
    if wanted is None:
        return tools
    if wanted not in tools:
        raise InvalidRequest(f"tool: there is no tool {wanted[:40]!r}; known: {', '.join(tools)}", field="tool")
    return [wanted]


def _shown(one: Popular, operations: Mapping[str, Operation], now: float) -> PopularRead:
    operation = operations.get(one.call.operation)
    # Of an operation that is gone nobody knows which arguments are secret.
    secret = tuple(one.call.arguments) if operation is None else operation.secret_arguments
    return PopularRead(
        operation=one.call.operation,
        arguments=redact(one.call.arguments, secret),
        per_minute=round(60 * one.rate_per_s, 3),
        cost_s=one.cost_s,
        ttl_s=one.ttl_s,
        fresh_s=max(0.0, one.fresh_until - now),
        asked_ago_s=max(0.0, now - one.asked_at),
        warmed_ago_s=now - one.claimed_at if one.claimed_at else None,
    )
