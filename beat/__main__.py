"""`python -m beat`: the sweep of the ledger and the warming of what is asked for often, by one leader.

With RabbitMQ every beat feeds it too, leader or not.
"""

import asyncio
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack

from beat.dead_tasks import DeadTasks
from beat.lock import Lock
from beat.schedule import Job, Schedule
from beat.sweep import Sweep
from beat.warm import Warmer
from cache.popularity import Popularity
from cache.seal import open_seal
from routing.feeder import Feeder
from routing.front import Front
from store.configuration import Configuration, load
from store.connection import Broker
from store.ledger import Ledger
from toolswarm.errors import ConfigurationError

logger = logging.getLogger(__name__)

SWEEP_EVERY_S = 0.5
"""A lost call is noticed within its lease and this."""

DEAD_TASKS_EVERY_S = 2.0


async def run(configuration: Configuration) -> None:
    """Run until SIGTERM or SIGINT."""
    store = configuration.store
    async with AsyncExitStack() as leaving:
        broker = Broker(store.broker_url, timeout_s=max(1.0, store.lease_s))
        leaving.push_async_callback(broker.close)
        ledger = Ledger(
            broker,
            retention_s=store.retention_s,
            call_deadline_s=store.call_deadline_s,
            max_attempts=store.max_attempts,
        )
        jobs = [
            Job(name="sweep", every_s=SWEEP_EVERY_S, run=Sweep(ledger).run_once),
            *await _feed(configuration, broker, leaving),
            *await _warm(configuration, broker, leaving),
        ]
        schedule = Schedule(Lock(broker, lease_s=store.lease_s), tuple(jobs))
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        await schedule.start()
        leaving.push_async_callback(schedule.stop)
        await stopped.wait()


async def _feed(configuration: Configuration, broker: Broker, leaving: AsyncExitStack) -> tuple[Job, ...]:
    if not configuration.broker.url:
        return ()
    feeder = Feeder(configuration, broker)
    await feeder.start()
    leaving.push_async_callback(feeder.stop)
    return (Job(name="dead tasks", every_s=DEAD_TASKS_EVERY_S, run=DeadTasks(configuration, broker).run_once),)


async def _warm(configuration: Configuration, broker: Broker, leaving: AsyncExitStack) -> tuple[Job, ...]:
    settings = configuration.cache
    if not settings.enabled or settings.warm_per_minute <= 0:
        return ()
    if not configuration.signing.private_key_file:
        logger.warning("nothing is warmed: signing.private_key_file is not set, and who submits calls signs them")
        return ()
    front = await Front.open(configuration)
    leaving.push_async_callback(front.close)
    connection = Broker(configuration.store.cache_url, timeout_s=max(1.0, settings.timeout_s))
    leaving.push_async_callback(connection.close)
    popularity = Popularity.open(settings, connection, open_seal(settings))
    warmer = Warmer(front, popularity, broker=broker, cache=connection, settings=settings)
    leaving.push_async_callback(warmer.stop)
    return (Job(name="warm", every_s=settings.warm_every_s, run=warmer.run_once),)


def main() -> int:
    """Read the configuration and run."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        configuration = load(os.environ)
        asyncio.run(run(configuration))
    except ConfigurationError as error:
        sys.stderr.write(f"beat: {error}\n")
        return 78
    return 0


if __name__ == "__main__":
    sys.exit(main())
