"""From where MCP may be used: no web page reaches a server on its visitor's own machine by a name of its own."""

import ipaddress
from urllib.parse import urlsplit

from store.configuration import Gateway
from toolswarm.errors import PermissionDenied

_LOCAL = ("localhost:*", "127.0.0.1:*", "[::1]:*", "localhost", "127.0.0.1", "[::1]")


class Hosts:
    """Which values of `Host` and `Origin` are let in."""

    def __init__(self, gateway: Gateway) -> None:
        self._hosts = tuple(map(str.lower, gateway.allowed_hosts)) or (_LOCAL if _is_loopback(gateway.host) else ())
        self._origins = tuple(map(str.lower, gateway.allowed_origins))

    def check(self, host: str | None, origin: str | None) -> None:
        """Return when the request may pass.

        Raises:
            PermissionDenied: its `Host` or `Origin` is another one's.
        """
        host, origin = (host or "").lower(), (origin or "").lower()
        if self._hosts and not _among(host, self._hosts):
            raise PermissionDenied("Host: not a name of this gateway; gateway.allowed_hosts has those that are")
        if not origin or origin in self._origins:
            return
        of_page = urlsplit(origin).netloc
        if of_page != host and not (self._hosts and _among(of_page, self._hosts)):
            raise PermissionDenied("Origin: this page may not use MCP; gateway.allowed_origins has those that may")


def _among(host: str, allowed: tuple[str, ...]) -> bool:
    return host in allowed or any(one.endswith(":*") and host.startswith(one[:-1]) for one in allowed)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
