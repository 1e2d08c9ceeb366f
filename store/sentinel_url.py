"""The URL of Redis behind Sentinel: the sentinels, the service, and how to log in.

`redis+sentinel://user:password@host:26379,host:26379/service/db`; kombu's spelling works too:
`sentinel://host:26379;sentinel://host:26379/db?master_name=service`. The login is the master's; the sentinels' own,
when they have one, is `?sentinel_username=…&sentinel_password=…`.
"""

from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec

from toolswarm.errors import ConfigurationError

SCHEMES = ("redis+sentinel", "sentinel")
_PORT = 26379
_FORM = "redis+sentinel://host:26379,host:26379/service"


class SentinelUrl(msgspec.Struct, frozen=True, kw_only=True):
    """What such a URL says."""

    sentinels: tuple[tuple[str, int], ...]
    service: str
    database: int = 0
    username: str | None = None
    password: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None

    def shown(self) -> str:
        """The URL without logins."""
        hosts = ",".join(f"{_bracketed(host)}:{port}" for host, port in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.service}/{self.database}"

    def of_server(self, scheme: str, host: str, port: int) -> str:
        """The URL of one server of the service."""
        login = ""
        if self.password:
            login = f"{quote(self.username or '', safe='')}:{quote(self.password, safe='')}@"
        return f"{scheme}://{login}{_bracketed(host)}:{port}/{self.database}"


def is_sentinel(url: str) -> bool:
    """Whether the URL names sentinels."""
    return url.partition("://")[0] in SCHEMES


def parse(url: str) -> SentinelUrl:
    """Take the URL apart.

    Raises:
        ConfigurationError: it names no sentinel or no service; the password is not in the message.
    """
    whole = url.replace(";sentinel://", ";").replace(";redis+sentinel://", ";").replace(";", ",")
    parts = urlsplit(whole)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    logins, _, _ = parts.netloc.rpartition("@")
    username, _, password = logins.rpartition(",")[2].rpartition("@")[2].partition(":")
    hosts = [one.rpartition("@")[2] for one in parts.netloc.split(",") if one.rpartition("@")[2]]
    path = [unquote(part) for part in parts.path.split("/") if part]
    service = query.get("master_name") or (path.pop(0) if path else "")
    database = query.get("db") or (path[0] if path else "0")
    if not hosts or not service or not database.isdigit():
        raise ConfigurationError(
            f"store: a URL of Redis behind Sentinel has the form {_FORM} (and /0 for the database)"
        )
    return SentinelUrl(
        sentinels=tuple(_address(host) for host in hosts),
        service=service,
        database=int(database),
        username=unquote(username) or None,
        password=unquote(password) or None,
        sentinel_username=query.get("sentinel_username"),
        sentinel_password=query.get("sentinel_password"),
    )


def _address(host: str) -> tuple[str, int]:
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if colon and not port.isdigit():
        raise ConfigurationError(f"store: {host!r} is no sentinel's address; the form is {_FORM}")
    return (name if colon else host).strip("[]"), int(port) if colon else _PORT


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
