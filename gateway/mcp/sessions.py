"""Sessions of clients of 2025-11-25 and before: each belongs to its caller, and its broken streams can be resumed.

A client whose stream broke comes back with the id of the last event that it saw (`Last-Event-ID`) and is sent what came
after it. What is kept for that is bounded for all sessions of this process together; the oldest goes first.
"""

from collections import OrderedDict
from typing import Any

import msgspec
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.lowlevel import Server
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import JSONRPCMessage
from starlette.types import Receive, Scope, Send

from routing.front import Caller

RETRY_MS = 500
"""After this a client whose stream ended may come back."""
MOST_KEPT_BYTES = 67_108_864
"""Of all events: some hundred of the longest answers, and many thousand of the usual ones."""


class _Kept(msgspec.Struct, frozen=True):
    session: "SessionEvents"
    stream_id: str
    message: JSONRPCMessage | None
    size_bytes: int


class Events:
    """The last events of all sessions, by their ids."""

    def __init__(self, most_bytes: int = MOST_KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._size_bytes = 0
        self._last = 0

    def of_session(self) -> "SessionEvents":
        """The events of a new session."""
        return SessionEvents(self)

    def keep(self, session: "SessionEvents", stream_id: str, message: JSONRPCMessage | None) -> str:
        """Keep one more, and return its id."""
        size_bytes = 256 if message is None else 256 + len(message.model_dump_json(by_alias=True))
        self._last += 1
        self._kept[str(self._last)] = _Kept(session, stream_id, message, size_bytes)
        self._size_bytes += size_bytes
        while self._size_bytes > self._most_bytes and len(self._kept) > 1:
            self._size_bytes -= self._kept.popitem(last=False)[1].size_bytes
        return str(self._last)

    def after(self, session: "SessionEvents", event_id: str) -> tuple[str, list[EventMessage]] | None:
        """The stream of this event with what it carried later; None when the session has no such event any more."""
        seen = self._kept.get(event_id)
        if seen is None or seen.session is not session:  # ids are numbers: those of other sessions can be guessed
            return None
        later = [
            EventMessage(kept.message, number)
            for number, kept in self._kept.items()
            if kept.session is session
            and kept.stream_id == seen.stream_id
            and int(number) > int(event_id)
            and kept.message is not None
        ]
        return seen.stream_id, later


class SessionEvents(EventStore):
    """The SDK's store of events, of one session: streams are named by its client, and every client has a first one."""

    def __init__(self, events: Events) -> None:
        self._events = events

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Keep an event, and return its id."""
        return self._events.keep(self, stream_id, message)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Send what came after this event, and return its stream."""
        found = self._events.after(self, last_event_id)
        if found is None:
            return None
        for event in found[1]:
            await send_callback(event)
        return found[0]


class Sessions(StreamableHTTPSessionManager):
    """The SDK's transport with sessions."""

    def __init__(self, server: Server[Any], *, max_body_bytes: int) -> None:
        self._events = Events()
        super().__init__(server, max_request_body_size=max_body_bytes, retry_interval=RETRY_MS)

    @property
    def event_store(self) -> EventStore | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Asked for once for each new session: the SDK's own way is one store for all, whose streams would mix."""
        return self._events.of_session()

    @event_store.setter
    def event_store(self, _store: EventStore | None) -> None:
        """There is no other one."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
        """Serve a request of this caller, who alone may use the sessions that he began."""
        token = AccessToken(token="", client_id=caller.tenant, subject=caller.principal, scopes=[])
        scope["user"] = AuthenticatedUser(token)
        await self.handle_request(scope, receive, send)
