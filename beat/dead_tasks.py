"""What RabbitMQ put aside: tasks that came back from workers too often. Each gets an end, or another chance."""

import asyncio
import logging

from routing.rabbitmq import RabbitMq
from store.configuration import Configuration
from store.connection import Broker
from store.outbox import Outbox
from toolswarm.errors import BrokerUnavailable
from toolswarm.ids import is_call_id

logger = logging.getLogger(__name__)
_BATCH = 100


class DeadTasks:
    """Reads the queue `toolswarm.dead`.

    A task is put aside when workers took it and were gone, or gave it back, before they had claimed its call: what is
    lost after the claim is counted by the ledger. Most often the ledger was away, or the call has ended since.
    """

    def __init__(self, configuration: Configuration, broker: Broker) -> None:
        self._outbox = Outbox(broker)
        self._rabbitmq = RabbitMq(configuration.broker)
        self._most = configuration.store.max_attempts

    async def run_once(self) -> int:
        """See to all that is there; returns how many tasks that were.

        Raises:
            BrokerUnavailable: the ledger does not answer; the tasks stay where they are.
        """
        for seen in range(_BATCH):
            try:
                task = await asyncio.to_thread(self._rabbitmq.take_dead)
            except BrokerUnavailable as error:  # the sweep must not wait for RabbitMQ
                logger.warning("cannot look at dead tasks: %s", error)
                return seen
            if task is None:
                return seen
            answer = "gone"
            if is_call_id(task.call_id):
                answer = await self._outbox.undelivered(task.call_id, most=self._most)
            logger.warning("task %.64s came back to %s too often: %s", task.call_id, task.queue, answer)
            await asyncio.to_thread(self._rabbitmq.forget_dead, task)
        return _BATCH
