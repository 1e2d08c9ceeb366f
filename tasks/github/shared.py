"""What all calls of one worker process share: connections of each thread, budgets, remembered answers.

Budgets lie in the broker's Redis and answers in the cache's. Operations run in threads and reach both through
`run.wait`, on the worker's loop. Either may be away: then calls go on without it (GitHub itself still counts), and it
is asked again a second later.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
import requests
from requests.adapters import HTTPAdapter

from store.budgets import Budgets, Known, Lesson, Limits, Outcome, Refusal, Standing, Wish
from store.configuration import Configuration
from store.connection import Broker
from tasks.github.limits import Limited
from tasks.operation import Run
from toolswarm.errors import BrokerUnavailable

logger = logging.getLogger(__name__)

_TIMEOUT_S = 1.0
_LEFT_ALONE_S = 1.0
_UNCOUNTED = ""
"""The request when the budgets could not be asked."""
T = TypeVar("T")


class _Side:
    """One of the two Redis servers, which may be away."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._url = url
        self._loop: asyncio.AbstractEventLoop | None = None
        self._broker: Broker | None = None
        self._away_until = 0.0

    def broker(self) -> Broker:
        """The connection of the running loop."""
        loop = asyncio.get_running_loop()
        if self._broker is None or self._loop is not loop:
            self._loop, self._broker = loop, Broker(self._url, timeout_s=_TIMEOUT_S)
        return self._broker

    async def close(self) -> None:
        """Close the connection, on the loop that it was made for."""
        if self._broker is not None and self._loop is asyncio.get_running_loop():
            await self._broker.close()
        self._broker = None

    async def ask(self, question: Coroutine[Any, Any, T], otherwise: T) -> T:
        """The answer, or `otherwise` while the server is away."""
        if time.monotonic() < self._away_until:
            question.close()
            return otherwise
        try:
            return await question
        except BrokerUnavailable as error:
            if not self._away_until:
                logger.warning("github: calls go on without the %s: %s", self.name, error.message)
            self._away_until = time.monotonic() + _LEFT_ALONE_S
            return otherwise


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How a request ended."""

    lesson: Lesson | None
    """What the answer says of its rate bucket."""
    limit: Limited | None
    """The rate limit that the answer speaks of."""
    well: bool
    remembered: tuple[str, bytes] | None
    """What is to be kept in the cache's Redis, and under which key."""


class Shared:
    """Made once for each worker process; connects when it is first used."""

    def __init__(self, configuration: Configuration) -> None:
        settings = configuration.github
        self._budgets = _Side("budgets", configuration.store.broker_url)
        self._answers = _Side("remembered answers", configuration.store.cache_url)
        self._remember_s = settings.remember_s
        limits = settings.limits
        self._limits = Limits(
            at_once=limits.at_once,
            points_per_minute=limits.points_per_minute,
            writes_per_minute=limits.writes_per_minute,
            writes_per_hour=limits.writes_per_hour,
        )
        self._of_thread = threading.local()

    @property
    def session(self) -> requests.Session:
        """This thread's connections: kept open, never repeating anything, and no file of passwords is read."""
        session: requests.Session | None = getattr(self._of_thread, "session", None)
        if session is None:
            session = self._of_thread.session = requests.Session()
            session.auth = _no_netrc
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=0, pool_connections=2, pool_maxsize=2))
        return session

    def take(self, run: Run, wish: Wish | None, answer_key: str | None) -> tuple[str | Refusal, bytes | None]:
        """A granted request (or for how long to wait) and what is remembered under the key, in one go."""

        async def ask() -> tuple[str | Refusal, bytes | None]:
            granted, remembered = await asyncio.gather(self._take(wish), self._recall(answer_key))
            return granted, remembered

        return run.wait(ask())

    def report(self, run: Run, wish: Wish, request: str, end: End) -> Standing:
        """Say how a granted request ended, and how the credential stands then; keeps the answer in the same go."""
        limit = end.limit
        alone = Standing(strikes=0, blocked_s=limit.wait_s if limit else 0.0)
        outcome: Outcome = "ok" if end.well else "none"
        if limit is not None:
            outcome = "bucket" if limit.primary else "credential"

        async def tell() -> Standing:
            told = Budgets(self._budgets.broker(), self._limits).report(
                wish,
                request,
                lesson=end.lesson,
                outcome=outcome,
                blocked_s=alone.blocked_s,
                doubles=limit is not None and not limit.told,
            )
            if end.remembered is None:
                return await self._budgets.ask(told, alone)
            standing, _ = await asyncio.gather(
                self._budgets.ask(told, alone), self._put(*end.remembered, self._remember_s)
            )
            return standing

        return run.wait(tell())

    def remember(self, run: Run, key: str, value: bytes, *, seconds: int) -> None:
        """Keep a value in the cache's Redis."""
        run.wait(self._put(key, value, seconds))

    def recall(self, run: Run, key: str) -> bytes | None:
        """What `remember` has kept; None when it is gone."""

        async def get() -> bytes | None:
            found: bytes | None = await self._answers.ask(self._answers.broker().command("GET", key), None)
            return found

        return run.wait(get())

    def known(self, run: Run, credential: str, buckets: tuple[str, ...]) -> dict[str, Known]:
        """What the budgets know of these buckets."""

        async def look() -> dict[str, Known]:
            budgets = Budgets(self._budgets.broker(), self._limits)
            found = [await self._budgets.ask(budgets.known(credential, bucket), None) for bucket in buckets]
            return {bucket: known for bucket, known in zip(buckets, found, strict=True) if known is not None}

        return run.wait(look())

    async def close(self) -> None:
        """Close what is open on the running loop; bears being called twice."""
        await self._budgets.close()
        await self._answers.close()

    async def _take(self, wish: Wish | None) -> str | Refusal:
        if wish is None:
            return _UNCOUNTED
        budgets = Budgets(self._budgets.broker(), self._limits)
        return await self._budgets.ask(budgets.take(wish), _UNCOUNTED)

    async def _put(self, key: str, value: bytes, seconds: int) -> None:
        await self._answers.ask(self._answers.broker().command("SET", key, value, "EX", seconds), None)

    async def _recall(self, key: str | None) -> bytes | None:
        if key is None:
            return None
        broker = self._answers.broker()
        found: bytes | None = await self._answers.ask(broker.command("GETEX", key, "EX", self._remember_s), None)
        return found


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
