"""`subscriptions/listen`: whoever listens is told when the list of tools has changed, at whatever replica he is.

Every replica looks at the catalogue in Redis itself, and only while somebody listens; nothing is sent between them.
"""

import asyncio
import logging
from collections.abc import Callable

from mcp.server.subscriptions import InMemorySubscriptionBus, ServerEvent, ToolsListChanged

from gateway.mcp.listing import Listings
from store.mcp_records import CATALOGUE_FRESH_S, McpRecords
from toolswarm.errors import Unavailable

LOOK_EVERY_S = 0.25

_log = logging.getLogger("gateway")


class CatalogueBus:
    """The SDK's SubscriptionBus, fed by looking."""

    def __init__(self, records: McpRecords, listings: Listings) -> None:
        self._records = records
        self._listings = listings
        self._bus = InMemorySubscriptionBus()
        self._listeners = 0
        self._seen = listings.last
        self._looking: asyncio.Task[None] | None = None

    async def publish(self, event: ServerEvent) -> None:
        """Tell everybody who listens here."""
        await self._bus.publish(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Listen; the first one starts the looking, the last one who leaves ends it."""
        unsubscribe = self._bus.subscribe(listener)
        self._listeners += 1
        if self._looking is None:
            self._seen = self._listings.last
            self._looking = asyncio.create_task(self._look_forever(), name="mcp-catalogue")
        left = False

        def leave() -> None:
            nonlocal left
            unsubscribe()
            if not left:
                left = True
                self._listeners -= 1
            if not self._listeners and self._looking is not None:
                self._looking.cancel()
                self._looking = None

        return leave

    async def run_once(self) -> None:
        """Look, and tell when the list is another one than before."""
        try:
            now = self._listings.of(await self._records.operations())
        except Unavailable as error:
            _log.debug("the catalogue cannot be read now: %s", error.message)
            return
        if now is not self._seen:
            self._seen = now
            await asyncio.sleep(CATALOGUE_FRESH_S)
            await self.publish(ToolsListChanged())

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.run_once()
