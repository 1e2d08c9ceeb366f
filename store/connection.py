"""One process's way to one Redis: a few connections, and every command of one loop turn in one round trip.

Commands that wait while a batch is on its way leave together with the next one, so the cost of a round trip is shared
under load and nothing is delayed without it. A lost connection fails the commands on it with BrokerUnavailable; each
script of ours may be repeated, so callers that must get through pass `retry_for_s`.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar, cast
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio.connection import Connection, UnixDomainSocketConnection
from redis.credentials import CredentialProvider
from redis.exceptions import (
    MasterDownError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from store.scripts import SCRIPTS
from store.sentinel import MasterConnection, sentinels_of
from store.sentinel_url import SentinelUrl, is_sentinel, parse
from toolswarm.errors import BrokerUnavailable, ConfigurationError

Argument = str | bytes | int | float
_BATCH = 512
_REFUSES_FOR_NOW = ("OOM", "READONLY", "LOADING", "MISCONF", "BUSY", "NOREPLICAS", "MASTERDOWN", "TRYAGAIN")
"""Error prefixes of a server that is there and does not take the command now: as good as away, and as passing."""
_PASSING = (ReadOnlyError, MasterDownError, TryAgainError)
"""The same, where redis-py takes the prefix off and says it by the type."""
_LOST = (RedisError, OSError, EOFError, TimeoutError)


class _Command:
    __slots__ = ("arguments", "future", "script")

    def __init__(self, arguments: tuple[Argument, ...], script: str | None) -> None:
        self.arguments = arguments
        self.script = script
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Broker:
    """Commands and scripts on one Redis, for one event loop."""

    def __init__(
        self, url: str, *, timeout_s: float = 5.0, connections: int = 2, script_retry_for_s: float = 0.0
    ) -> None:
        self._url = url
        self._script_retry_for_s = script_retry_for_s
        self._timeout_s = timeout_s
        self._most_connections = connections
        self._idle: list[Connection | UnixDomainSocketConnection] = []
        self._waiting: deque[_Command] = deque()
        self._batches: set[asyncio.Task[None]] = set()
        self._kicked = False
        self._closed = False

    async def command(self, *arguments: Argument, retry_for_s: float = 0.0) -> Any:
        """Run one command.

        Raises:
            BrokerUnavailable: no answer, within `retry_for_s` when that is given (only for commands safe to repeat).
        """
        return await self._run(arguments, None, retry_for_s)

    async def script(
        self, name: str, keys: Sequence[str], arguments: Sequence[Argument], *, retry_for_s: float | None = None
    ) -> Any:
        """Run one of our scripts; replies are bytes, numbers, or lists of these.

        Raises:
            BrokerUnavailable: no answer within `retry_for_s` (left out: what this Broker was made with).
        """
        if not retry_for_s:
            retry_for_s = self._script_retry_for_s
        whole = ("EVALSHA", SCRIPTS[name].sha, len(keys), *keys, *arguments)
        return await self._run(whole, name, retry_for_s)

    async def close(self) -> None:
        """Wait for what is on its way, then close the connections; bears being called twice."""
        self._closed = True
        if self._batches:
            await asyncio.wait(self._batches, timeout=self._timeout_s)
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.disconnect(nowait=True)

    async def _run(self, arguments: tuple[Argument, ...], script: str | None, retry_for_s: float) -> Any:
        loop = asyncio.get_running_loop()
        give_up_at, pause_s = loop.time() + retry_for_s, 0.05
        while True:
            command = _Command(arguments, script)
            self._waiting.append(command)
            self._kick()
            try:
                return await command.future
            except BrokerUnavailable:
                if loop.time() + pause_s > give_up_at or self._closed:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(1.0, pause_s * 2)

    def _kick(self) -> None:
        if not self._kicked and len(self._batches) < self._most_connections:
            self._kicked = True
            asyncio.get_running_loop().call_soon(self._send_next)

    def _send_next(self) -> None:
        self._kicked = False
        if not self._waiting:
            return
        batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        task = asyncio.get_running_loop().create_task(self._exchange(batch))
        self._batches.add(task)
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        if self._waiting:
            self._kick()

    async def _exchange(self, batch: list[_Command]) -> None:
        connection: Connection | UnixDomainSocketConnection | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = self._idle.pop() if self._idle else open_connection(self._url, self._timeout_s)
                await self._ask(connection, batch)
            self._idle.append(connection)
        except _LOST as error:
            if connection is not None:
                await connection.disconnect(nowait=True)
            refused = unavailable(error)
            for command in batch:
                if not command.future.done():
                    command.future.set_exception(refused)
                    command.future.exception()  # a caller that was cancelled never looks: no warning at exit
        except asyncio.CancelledError:
            if connection is not None:
                await connection.disconnect(nowait=True)
            for command in batch:
                command.future.cancel()
            raise

    async def _ask(self, connection: Connection | UnixDomainSocketConnection, batch: list[_Command]) -> None:
        if not connection.is_connected:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        packed = connection.pack_commands([command.arguments for command in batch])
        await connection.send_packed_command(packed)
        unknown: list[_Command] = []
        demoted = False
        for command in batch:
            try:
                reply = await cast("Any", connection).read_response()
            except NoScriptError:
                unknown.append(command)  # the server restarted without its script cache: nothing was run
                continue
            except ResponseError as error:
                if not command.future.done():
                    command.future.set_exception(unavailable(error) if _is_passing(error) else error)
                # Another server may be the master by now; this one would go on to answer so.
                demoted = demoted or isinstance(error, _PASSING) or str(error).startswith("NOREPLICAS")
                continue
            if not command.future.done():
                command.future.set_result(reply)
        if unknown:
            for name in {command.script for command in unknown if command.script}:
                await connection.send_command("SCRIPT", "LOAD", SCRIPTS[name].source)
                await connection.read_response()
            await self._ask(connection, unknown)
        if demoted and isinstance(connection, MasterConnection):
            await connection.disconnect(nowait=True)  # the next use asks the sentinels who the master is


def _is_passing(error: ResponseError) -> bool:
    said = str(error)
    return isinstance(error, _PASSING) or said.startswith(_REFUSES_FOR_NOW) or "used memory > 'maxmemory'" in said


def unavailable(error: BaseException) -> BrokerUnavailable:
    """The error for callers: what happened in words, without the address or a password."""
    refused = BrokerUnavailable(f"the broker does not answer ({type(error).__name__})", retry_after_s=1)
    refused.__cause__ = error
    return refused


def open_connection(url: str, timeout_s: float) -> Connection | UnixDomainSocketConnection:
    """A connection that is not connected yet: RESP2, no retries of its own, every wait bounded.

    Raises:
        ConfigurationError: the URL is not `redis://`, `unix://` or one of Redis behind Sentinel.
    """
    if is_sentinel(url):
        return _master_connection(parse(url), timeout_s)
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    shared: dict[str, Any] = {
        "db": int((query.get("db") or [parts.path.strip("/") if parts.scheme == "redis" else "0"])[0] or 0),
        "username": parts.username and unquote(parts.username),
        "password": parts.password and unquote(parts.password),
        "protocol": 2,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "health_check_interval": 0,
        "client_name": "toolswarm",
    }
    if parts.scheme == "unix":
        shared.pop("socket_connect_timeout")
        return UnixDomainSocketConnection(path=parts.path, **shared)
    if parts.scheme == "redis":
        return Connection(host=parts.hostname or "127.0.0.1", port=parts.port or 6379, socket_keepalive=True, **shared)
    raise ConfigurationError(
        "store: a Redis URL starts with redis://, unix:// or redis+sentinel://", scheme=parts.scheme
    )


def _master_connection(url: SentinelUrl, timeout_s: float) -> Connection:
    return MasterConnection(
        sentinels=sentinels_of(url),
        db=url.database,
        username=url.username,
        password=url.password,
        protocol=2,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        socket_keepalive=True,
        health_check_interval=0,
        client_name="toolswarm",
    )


class SocketLogin(CredentialProvider):
    """User and password for the unix socket that Celery speaks to; set by `celery_url`.

    In a socket's address kombu would tell them to everybody who asks a worker how it is: Flower, `inspect stats`.
    """

    login: ClassVar[tuple[str, str]]

    def get_credentials(self) -> tuple[str, str]:
        """User and password."""
        return self.login


def celery_url(url: str, transport: str = "redis") -> str:
    """The same server as kombu spells it: `redis+socket:///path?virtual_host=0` for a unix socket.

    Of Redis behind Sentinel it names the first sentinel; workers/transport.py asks for the master (`kombu_options`).
    """
    if is_sentinel(url):
        behind = parse(url)
        return behind.of_server(transport, *behind.sentinels[0])
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return parts._replace(scheme=transport).geturl()
    database = (parse_qs(parts.query).get("db") or ["0"])[0]
    spelled = f"{transport}+socket://{parts.path}?virtual_host={database}"
    if not parts.password:
        return spelled
    SocketLogin.login = (unquote(parts.username or "default"), unquote(parts.password))
    return f"{spelled}&credential_provider={SocketLogin.__module__}.{SocketLogin.__name__}"


def text(reply: Any) -> str:
    """A reply that is known to be bytes, as text."""
    return cast("bytes", reply).decode()
