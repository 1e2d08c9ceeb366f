"""`python -m beat`: the sweep of the ledger, every half second, by one leader; and with RabbitMQ, a feeder."""

import asyncio
import logging
import os
import signal
import sys

from beat.dead_tasks import DeadTasks
from beat.lock import Lock
from beat.schedule import Job, Schedule
from beat.sweep import Sweep
from routing.feeder import Feeder
from store.configuration import Configuration, load
from store.connection import Broker
from store.ledger import Ledger
from toolswarm.errors import ConfigurationError

SWEEP_EVERY_S = 0.5
"""A lost call is noticed within its lease and this."""

DEAD_TASKS_EVERY_S = 2.0


async def run(configuration: Configuration) -> None:
    """Run until SIGTERM or SIGINT."""
    store = configuration.store
    broker = Broker(store.broker_url, timeout_s=max(1.0, store.lease_s))
    ledger = Ledger(
        broker,
        retention_s=store.retention_s,
        call_deadline_s=store.call_deadline_s,
        max_attempts=store.max_attempts,
    )
    jobs = [Job(name="sweep", every_s=SWEEP_EVERY_S, run=Sweep(ledger).run_once)]
    feeder: Feeder | None = None
    if configuration.broker.url:
        feeder = Feeder(configuration, broker)
        jobs.append(Job(name="dead tasks", every_s=DEAD_TASKS_EVERY_S, run=DeadTasks(configuration, broker).run_once))
    schedule = Schedule(Lock(broker, lease_s=store.lease_s), tuple(jobs))
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await schedule.start()
    if feeder:
        await feeder.start()
    await stopped.wait()
    if feeder:
        await feeder.stop()
    await schedule.stop()
    await broker.close()


def main() -> int:
    """Read the configuration and run."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        configuration = load(os.environ)
    except ConfigurationError as error:
        sys.stderr.write(f"beat: {error}\n")
        return 78
    asyncio.run(run(configuration))
    return 0


if __name__ == "__main__":
    sys.exit(main())
