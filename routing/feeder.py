"""The loop that publishes to RabbitMQ what the ledger's Redis releases; gateways, router pools and beat have one each.

A call is durable in the ledger before anybody is told so; that its task is in RabbitMQ comes after. What could not be
published, or was not confirmed, is taken back and released again; what a feeder that was killed had released is
published again by the sweep. A task that is published twice runs nothing twice: the second claim is refused.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, cast

from redis.exceptions import RedisError

from routing.rabbitmq import Published, RabbitMq
from store import heartbeat, keys
from store.background import Background
from store.catalogue import Catalogue
from store.configuration import Configuration
from store.connection import Broker, open_connection
from store.outbox import Outbox, Released
from toolswarm.errors import BrokerUnavailable, ConfigurationError

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
"""All queues are looked at so often; between that bells say which."""
_LONGEST_PAUSE_S = 3.0
_LEAST_BOUND = 16
_BATCH = 200


class Feeder:
    """Feeds the queues of all tools and of all workers' sessions."""

    def __init__(self, configuration: Configuration, broker: Broker) -> None:
        self._url = configuration.store.broker_url
        self._broker = broker
        self._outbox = Outbox(broker)
        self._catalogue = Catalogue(broker)
        self._rabbitmq = RabbitMq(configuration.broker)
        self._bounds: dict[str, int] = {}
        self._due: set[str] = set()
        self._wake = asyncio.Event()
        self._loops = (
            Background(self._feed_forever, "feeder"),
            Background(self._listen_forever, "feeder-listen"),
        )

    async def start(self) -> None:
        """Feed in the background; bears being called twice."""
        for loop in self._loops:
            loop.start()

    async def stop(self) -> None:
        """Stop feeding; bears being called twice."""
        await asyncio.gather(*(loop.stop() for loop in self._loops))
        await asyncio.to_thread(self._rabbitmq.close)

    def nudge(self, queue: str) -> None:
        """There is something in this queue."""
        self._due.add(queue)
        self._wake.set()

    async def run_once(self) -> int:
        """Publish what may be published of the queues that are due; returns how many tasks were.

        Raises:
            BrokerUnavailable: RabbitMQ or the ledger's Redis does not answer; nothing is lost.
        """
        due, self._due = self._due, set()
        try:
            await asyncio.to_thread(self._rabbitmq.connect)  # nothing is released into nowhere
            released = await asyncio.gather(*(self._release(queue) for queue in due))
        except BaseException:
            self._due |= due
            raise
        tasks = [task for of_queue in released for task in of_queue]
        if not tasks:
            return 0
        publishing = asyncio.ensure_future(asyncio.to_thread(self._rabbitmq.publish, tasks))
        try:
            published = await asyncio.shield(publishing)
        except asyncio.CancelledError:
            await self._settle(await publishing)  # a feeder that is told to stop ends what it has begun
            raise
        except ConfigurationError:
            await self._outbox.take_back(tasks)
            raise
        await self._settle(published)
        return len(tasks) - len(published.refused)

    async def look(self) -> None:
        """Learn which queues there are and how many slots they have; all of them are due."""
        tools, workers = await asyncio.gather(self._catalogue.operations(), heartbeat.workers(self._broker))
        bounds = {keys.tool_queue(operation.tool): 0 for operation in tools.values()}
        for worker in workers:
            if worker.tool != keys.INTAKE_QUEUE:
                queue = keys.tool_queue(worker.tool)
                bounds[queue] = bounds.get(queue, 0) + 2 * worker.slots
                bounds[keys.own_queue(worker.tool, worker.name)] = 2 * worker.slots
        self._bounds = {queue: max(_LEAST_BOUND, bound) for queue, bound in bounds.items()}
        self._due |= self._bounds.keys()

    async def _release(self, queue: str) -> list[Released]:
        return await self._outbox.release(queue, most=_BATCH, bound=self._bounds.get(queue, _LEAST_BOUND))

    async def _settle(self, published: Published) -> None:
        if published.refused:
            await self._outbox.take_back(published.refused)
        if published.nowhere:  # the sweep ends them as `session_lost`, or publishes them again
            logger.warning("%d tasks found no queue: their workers are gone", len(published.nowhere))
        if published.error:
            raise BrokerUnavailable(published.error)

    async def _feed_forever(self) -> None:
        loop = asyncio.get_running_loop()
        look_at, pause_s = loop.time(), 0.0
        while True:
            try:
                if loop.time() >= look_at:
                    look_at = loop.time() + _LOOK_S
                    await self.look()
                await self.run_once()
                pause_s = 0.0
            except (BrokerUnavailable, ConfigurationError) as error:
                logger.warning("tasks wait: %s", error)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2 or 0.2)
                await asyncio.sleep(pause_s)
                continue
            self._wake.clear()
            if self._due:
                continue
            try:
                async with asyncio.timeout(max(0.0, look_at - loop.time())):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _listen_forever(self) -> None:
        pause_s = 0.05
        while True:
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError) as error:
                logger.warning("the bells were lost (%s): listening again", type(error).__name__)
            await asyncio.sleep(pause_s)
            pause_s = min(1.0, pause_s * 2)

    async def _listen(self) -> None:
        connection = open_connection(self._url, 5.0)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            while True:
                bells = self._bells()
                if not bells:
                    await asyncio.sleep(_LOOK_S / 4)
                    continue
                await connection.send_command("BRPOP", *bells, _LOOK_S)
                rung: Any = await cast("Any", connection).read_response(timeout=5.0)
                if rung is not None:
                    self.nudge(rung[0].decode().removeprefix(keys.bell_key("")))
        finally:
            await connection.disconnect(nowait=True)

    def _bells(self) -> Sequence[str]:
        return [keys.bell_key(queue) for queue in self._bounds]
