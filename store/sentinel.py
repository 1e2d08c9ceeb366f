"""Connections to Redis behind Sentinel (store/sentinel_url.py): each new one asks the sentinels for the master.

Every connection asks anew, and refuses a server that is not the master (any more), so whoever reconnects after a
failover comes to the new one. What an old master had not replicated when it was lost is lost: see docs/brokers.md.
"""
# mypy: disable-error-code="no-untyped-call"
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (redis-py leaves its connections untyped)

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import redis
from redis.asyncio.connection import Connection as AsyncConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from store.sentinel_url import SentinelUrl

_ASK_S = 1.0
"""A sentinel that has not answered by then is asked last the next time."""
_LOST = (RedisError, OSError, EOFError, TimeoutError)


class Sentinels:
    """The sentinels of one service, those that answered last first."""

    def __init__(self, url: SentinelUrl) -> None:
        self._service = url.service
        self._order = url.sentinels
        self._login: dict[str, Any] = {
            "username": url.sentinel_username,
            "password": url.sentinel_password,
            "protocol": 2,
            "socket_timeout": _ASK_S,
            "socket_connect_timeout": _ASK_S,
        }

    async def master(self) -> tuple[str, int]:
        """The address of the master.

        Raises:
            redis.ConnectionError: no sentinel knows one.
        """
        for host, port in self._order:
            connection = AsyncConnection(host=host, port=port, **self._login)
            try:
                await connection.connect()
                await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
                answer: Any = await connection.read_response()
            except _LOST:
                answer = None
            finally:
                await connection.disconnect(nowait=True)
            if answer:
                return self._found((host, port), answer)
            self._ask_last((host, port))
        raise self._unknown()

    def master_now(self) -> tuple[str, int]:
        """The same, for Celery's thread.

        Raises:
            redis.ConnectionError: no sentinel knows one.
        """
        for host, port in self._order:
            connection: Any = redis.Connection(host=host, port=port, **self._login)
            try:
                connection.connect()
                connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
                answer = connection.read_response()
            except _LOST:
                answer = None
            finally:
                connection.disconnect()
            if answer:
                return self._found((host, port), answer)
            self._ask_last((host, port))
        raise self._unknown()

    def _found(self, sentinel: tuple[str, int], answer: Any) -> tuple[str, int]:
        self._order = (sentinel, *(other for other in self._order if other != sentinel))
        return answer[0].decode(), int(answer[1])

    def _ask_last(self, sentinel: tuple[str, int]) -> None:
        self._order = (*(other for other in self._order if other != sentinel), sentinel)

    def _unknown(self) -> RedisConnectionError:
        return RedisConnectionError(f"no sentinel knows the master of {self._service}")


@lru_cache
def sentinels_of(url: SentinelUrl) -> Sentinels:
    """One for each service and process: what was learned about who answers is shared."""
    return Sentinels(url)


class MasterConnection(AsyncConnection):
    """A connection to whoever is the master when it is made."""

    def __init__(self, *, sentinels: Sentinels, **settings: Any) -> None:
        self._sentinels = sentinels
        super().__init__(**settings)

    async def _connect(self) -> None:
        self.host, self.port = await self._sentinels.master()
        await super()._connect()

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """See that it is the master, after all else that a connection begins with.

        Raises:
            redis.ConnectionError: it is not (any more).
        """
        await super().on_connect_check_health(check_health)
        await self.send_command("ROLE", check_health=False)
        _refuse_replica(await self.read_response())


class MasterConnectionNow(redis.Connection):
    """The same, for Celery's thread."""

    def __init__(self, *, sentinels: Sentinels, **settings: Any) -> None:
        self._sentinels = sentinels
        super().__init__(**settings)

    def _connect(self) -> Any:
        self.host, self.port = self._sentinels.master_now()
        return super()._connect()

    def on_connect_check_health(self, check_health: bool = True) -> None:
        """See that it is the master, after all else that a connection begins with.

        Raises:
            redis.ConnectionError: it is not (any more).
        """
        super().on_connect_check_health(check_health)
        self.send_command("ROLE", check_health=False)
        _refuse_replica(self.read_response())


def kombu_options(url: SentinelUrl) -> dict[str, Any]:
    """What workers/transport.py needs beside the broker URL: Celery hides what is called a password."""
    return {
        "addresses": [list(address) for address in url.sentinels],
        "service": url.service,
        "username": url.sentinel_username,
        "password": url.sentinel_password,
    }


def from_kombu_options(options: dict[str, Any]) -> Sentinels:
    """The sentinels that `kombu_options` described."""
    addresses: Iterable[Any] = options["addresses"]
    return sentinels_of(
        SentinelUrl(
            sentinels=tuple((str(host), int(port)) for host, port in addresses),
            service=options["service"],
            sentinel_username=options["username"],
            sentinel_password=options["password"],
        )
    )


def _refuse_replica(role: Any) -> None:
    if role[0] not in (b"master", "master"):
        raise RedisConnectionError("the sentinels name a server that is not the master: a failover is on its way")
