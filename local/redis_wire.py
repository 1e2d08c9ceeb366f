"""A few words of the Redis protocol (RESP 2), enough to ask a server how it is.

The supervisor asks each server several times a second from its first moment on; redis-py would make it start 0.3 s
later and hold 15 MB more, for a handful of commands.
"""

import asyncio
import ssl
from contextlib import AsyncExitStack
from typing import TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from store.sentinel_url import SCHEMES as SENTINEL_SCHEMES
from store.sentinel_url import is_sentinel, parse
from toolswarm.errors import BrokerUnavailable, ConfigurationError

Reply: TypeAlias = "bytes | int | list[Reply] | None"

_SCHEMES = ("unix", "redis", "rediss")


class RedisRefused(BrokerUnavailable):
    """The server answered a command with an error."""


async def ask(url: str, *commands: tuple[str, ...], timeout_s: float = 1.0) -> list[Reply]:
    """Send the commands over a fresh connection and return the replies.

    Raises:
        BrokerUnavailable: the server cannot be reached, is silent, or (`RedisRefused`) refuses a command.
        ConfigurationError: the address is not one of Redis.
    """
    if is_sentinel(url):
        url = await _url_of_master(url, timeout_s)
    setup = _setup_commands(url)
    try:
        async with asyncio.timeout(timeout_s), AsyncExitStack() as stack:
            reader, writer = await _connect(url)
            stack.callback(writer.close)
            writer.write(b"".join(map(_encode, (*setup, *commands))))
            replies = [await _read(reader) for _ in (*setup, *commands)]
    except TimeoutError as error:
        raise BrokerUnavailable(f"no answer within {timeout_s:g} s") from error
    except (OSError, EOFError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "the connection was closed"
        raise BrokerUnavailable(reason) from error
    for reply in replies:
        if isinstance(reply, RedisRefused):
            raise reply
    return [reply for reply in replies[len(setup) :] if not isinstance(reply, RedisRefused)]


async def _url_of_master(url: str, timeout_s: float) -> str:
    behind = parse(url)
    for host, port in behind.sentinels:
        login = msgspec.structs.replace(
            behind, username=behind.sentinel_username, password=behind.sentinel_password, database=0
        )
        try:
            (found,) = await ask(
                login.of_server("redis", host, port),
                ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", behind.service),
                timeout_s=timeout_s / len(behind.sentinels),
            )
        except BrokerUnavailable:
            continue
        match found:
            case [bytes(master), bytes(its_port)]:
                return behind.of_server("redis", master.decode(), int(its_port))
            case _:
                continue
    raise BrokerUnavailable(f"no sentinel knows the master of {behind.service}")


def _setup_commands(url: str) -> list[tuple[str, ...]]:
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ConfigurationError(
            f"{parts.scheme}:// is not an address of Redis; known: {', '.join(_SCHEMES + SENTINEL_SCHEMES)}"
        )
    commands: list[tuple[str, ...]] = []
    if parts.password:
        user = (unquote(parts.username),) if parts.username else ()
        commands.append(("AUTH", *user, unquote(parts.password)))
    query = parse_qs(parts.query)
    database = query.get("db", [""])[0] or ("" if parts.scheme == "unix" else parts.path.strip("/"))
    if database and database != "0":
        commands.append(("SELECT", database))
    return commands


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return await asyncio.open_unix_connection(unquote(parts.path))
    security = ssl.create_default_context() if parts.scheme == "rediss" else None
    return await asyncio.open_connection(parts.hostname or "127.0.0.1", parts.port or 6379, ssl=security)


def _encode(command: tuple[str, ...]) -> bytes:
    words = [word.encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


async def _read(reader: asyncio.StreamReader) -> "Reply | RedisRefused":
    line = await reader.readuntil(b"\r\n")
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest
    if kind == b"-":
        return RedisRefused(rest.decode(errors="replace"))
    if kind == b":":
        return int(rest)
    if kind == b"$":
        if rest == b"-1":
            return None
        return (await reader.readexactly(int(rest) + 2))[:-2]
    if kind == b"*":
        if rest == b"-1":
            return None
        items: list[Reply] = []
        for _ in range(int(rest)):
            item = await _read(reader)
            if isinstance(item, RedisRefused):
                raise item
            items.append(item)
        return items
    raise EOFError("not the Redis protocol")
