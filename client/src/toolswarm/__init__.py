"""Toolswarm's client: call the tools of a swarm, wait for results, and know what happened."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolswarm.async_client import AsyncCallHandle as AsyncCallHandle
    from toolswarm.async_client import AsyncClient as AsyncClient
    from toolswarm.client import Client as Client
    from toolswarm.errors import CallCancelled as CallCancelled
    from toolswarm.errors import CallExpired as CallExpired
    from toolswarm.errors import CallFailed as CallFailed
    from toolswarm.errors import GatewayUnreachable as GatewayUnreachable
    from toolswarm.errors import OutcomeUnknown as OutcomeUnknown
    from toolswarm.errors import RequestRefused as RequestRefused
    from toolswarm.errors import ToolswarmError as ToolswarmError
    from toolswarm.errors import WaitTimedOut as WaitTimedOut
    from toolswarm.handle import CallHandle as CallHandle
    from toolswarm.messages import CacheMode as CacheMode
    from toolswarm.messages import Context as Context
    from toolswarm.messages import Priority as Priority
    from toolswarm.messages import ToolResult as ToolResult
    from toolswarm.states import State as State

# A name is imported when it is first used: `import toolswarm` must cost nothing, httpx and Celery cost 0.2 s each.
_HOMES = {
    "AsyncCallHandle": "async_client",
    "AsyncClient": "async_client",
    "CacheMode": "messages",
    "CallCancelled": "errors",
    "CallExpired": "errors",
    "CallFailed": "errors",
    "CallHandle": "handle",
    "Client": "client",
    "Context": "messages",
    "GatewayUnreachable": "errors",
    "OutcomeUnknown": "errors",
    "Priority": "messages",
    "RequestRefused": "errors",
    "State": "states",
    "ToolResult": "messages",
    "ToolswarmError": "errors",
    "WaitTimedOut": "errors",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
