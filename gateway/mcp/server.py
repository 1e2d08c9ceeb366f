"""The MCP server, assembled: which method leads to which handler, on the SDK's low-level `Server`."""

import hashlib
from importlib.metadata import version
from typing import Any

from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.subscriptions import ListenHandler
from mcp_types import CallToolRequestParams, ListToolsResult, PaginatedRequestParams, SetLevelRequestParams

from gateway.bounds import BoundedFront
from gateway.drain import Drain
from gateway.mcp.calling import Calling, caller_of
from gateway.mcp.listening import CatalogueBus
from gateway.mcp.listing import Listing, Listings
from gateway.mcp.logs import Logs
from gateway.mcp.resources import Resources
from gateway.mcp.tasks_extension import Tasks
from gateway.mcp.waiting import Waiting
from store.configuration import Gateway, Mcp
from store.mcp_records import McpRecords

NAME = "toolswarm"
INSTRUCTIONS = (
    "Tools run in a queue: a call may wait, and says how long the line is when you ask for progress. Send "
    '`_meta["toolswarm/idempotencyKey"]` with what must not happen twice: the same key gives the same result again. '
    "An error that begins with outcome_unknown means that the call may have happened: look before you repeat it."
)
_MOST_LISTENERS = 4096

Context = ServerRequestContext[Any, Any]


class McpFace:
    """The server with all that it is made of."""

    def __init__(
        self, front: BoundedFront, records: McpRecords, *, gateway: Gateway, settings: Mcp, drain: Drain
    ) -> None:
        self._records = records
        server_info = {"name": NAME, "version": version("toolswarm")}
        self.listings = Listings(style=settings.names, ttl_s=settings.list_ttl_s, server=server_info)
        self.waiting = Waiting(front, records, drain, slice_s=gateway.max_wait_s)
        tasks = Tasks(front, records, self.listing, answer_bytes=settings.answer_bytes)
        resources = Resources(front)
        logs = Logs()
        self._calling = Calling(front, self.waiting, self.listing, settings, hold=tasks.hold, logs=logs)
        self.bus = CatalogueBus(records, self.listings)
        self._listen = ListenHandler(self.bus, max_subscriptions=_MOST_LISTENERS)
        hint = CacheHint(ttl_ms=int(settings.list_ttl_s * 1000), scope="private")
        self.server: Server[Any] = Server(
            NAME,
            version=server_info["version"],
            title="Toolswarm",
            instructions=INSTRUCTIONS,
            on_list_tools=self._list_tools,
            on_call_tool=self.call_tool,
            on_list_resources=resources.list_all,
            on_list_resource_templates=resources.templates,
            on_read_resource=resources.read,
            on_subscriptions_listen=self._listen,
            # Without it the SDK makes the whole list anew for each call, to look for arguments in headers.
            get_tool_input_schema=lambda name: self.listings.last.headered_schema(name),
            cache_hints={
                "server/discover": hint,
                "tools/list": hint,
                "resources/list": hint,
                "resources/templates/list": hint,
                "resources/read": CacheHint(ttl_ms=0, scope="private"),
            },
        )
        tasks.register(self.server)
        self.server.add_request_handler("logging/setLevel", SetLevelRequestParams, logs.set_level)
        # First: it lists as the outermost what comes before validation. The SDK's own tracing is left out.
        self.server.middleware[:] = [self._listed, _sealing(gateway)]

    async def close(self) -> None:
        """End the streams of those who listen, and what is owed to those who have left."""
        self._listen.close()
        await self.waiting.close()

    async def listing(self) -> Listing:
        """The catalogue as MCP shows it now."""
        return self.listings.of(await self._records.operations())

    async def _listed(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """`tools/list` as it lies ready, where the endpoint has not answered it already."""
        if ctx.method == "tools/list" and not (ctx.params or {}).get("cursor"):
            listing = await self.listing()
            return listing.result(ctx.protocol_version)
        return await call_next(ctx)

    async def _list_tools(self, context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        """What comes after the last page: the whole list is one page."""
        return ListToolsResult(tools=[])

    async def call_tool(self, context: Context, params: CallToolRequestParams) -> Any:
        """`tools/call`."""
        return await self._calling(context, params)


def _sealing(gateway: Gateway) -> RequestStateBoundary:
    """What an operation noted when it asked goes to the client and back sealed, for its principal and request alone."""
    secret = hashlib.sha256(b"toolswarm mcp request state\x00" + gateway.api_key.reveal().encode()).digest()
    security = RequestStateSecurity(keys=[secret], bind_principal=_principal)
    return RequestStateBoundary(security, default_audience=NAME)


def _principal(context: Context) -> str:
    caller = caller_of(context)
    return f"{caller.tenant}\x00{caller.principal}"
