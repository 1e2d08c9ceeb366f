"""What runs calls of one tool in one process: a loop thread with the runner, the leases and the broker."""

import asyncio
import concurrent.futures
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from cache import Cache
from routing.signing import SignatureRefused, Verifier
from store import keys
from store.background import Background
from store.breakers import BreakerRules, Breakers
from store.configuration import Configuration
from store.connection import Broker
from store.ledger import Ledger
from store.whole import WholeValues
from tasks.operation import Tool
from toolswarm.errors import BrokerUnavailable
from workers.attempt import StopReason
from workers.breaking import Breaking
from workers.loop_thread import LoopThread
from workers.remembering import Remembering, edition_of
from workers.renewal import Renewal
from workers.runner import Outcome, Runner, Task
from workers.spool import Spool

logger = logging.getLogger(__name__)


class Host:
    """Made in the process that runs the calls: after a fork, never before."""

    def __init__(self, configuration: Configuration, tool: Tool, *, worker: str) -> None:
        """Start the loop and open everything.

        Raises:
            ConfigurationError: the public key or the tool's settings are wrong.
        """
        store = configuration.store
        pool = configuration.pool(tool.name)
        slots = pool.concurrency
        rules = BreakerRules(failures=pool.breaker_failures, reset_timeout_s=pool.breaker_reset_timeout_s)
        self._tool = tool.name
        self._queues = (keys.tool_queue(tool.name), keys.own_queue(tool.name, worker))
        self._verifier = Verifier.from_file(configuration.signing.public_key_file)
        resources = tool.open(configuration)
        self._thread = LoopThread("calls")
        self._threads = concurrent.futures.ThreadPoolExecutor(slots, thread_name_prefix="operation")
        self.broker = Broker(store.broker_url, timeout_s=max(1.0, store.lease_s))
        self._whole_server = Broker(store.cache_url, timeout_s=max(1.0, store.lease_s), connections=1)
        self.ledger = Ledger(
            self.broker,
            retention_s=store.retention_s,
            call_deadline_s=store.call_deadline_s,
            max_attempts=store.max_attempts,
        )
        self.cache = Cache.open(configuration, broker=self.broker, remembers=False)
        edition = edition_of(self.cache, configuration, tool.name)
        remembering = Remembering(self.cache, tool, resources, edition=edition, threads=self._threads)
        self.operations = remembering.operations
        """What the catalogue is told of the tool."""
        self.spool = Spool(Path(store.spool).absolute())
        self.renewal = Renewal(self.ledger, lease_s=store.lease_s)
        self.runner = Runner(
            tool,
            resources,
            ledger=self.ledger,
            verifier=self._verifier,
            renewal=self.renewal,
            remembering=remembering,
            results=self.spool,
            whole=WholeValues(self._whole_server, keep_s=store.retention_s),
            breaking=Breaking(Breakers(self.broker, tool.name, rules)),
            worker=worker,
            threads=self._threads,
        )
        self._delivery = Background(self._deliver, "spool")
        self.loop = self._thread.loop
        self.wait = self._thread.wait
        self.wait(self._start())

    async def run(self, task: Task) -> Outcome:
        """Run one task to its end, and count it when it was not believed.

        Raises:
            BrokerUnavailable: the ledger could not be asked; the task must not be acknowledged.
        """
        outcome = await self.runner.run(task)
        if outcome.state is None and outcome.code == SignatureRefused.code:
            await self._count_refused()
        return outcome

    async def revoke(self, task: Task) -> None:
        """Cancel the call of a task that Celery was told to revoke, when the task is genuine."""
        try:
            envelope = self._verifier.verify(
                task.header, call_id=task.id, operation=task.operation, queues=self._queues, now=time.time()
            )
        except SignatureRefused as error:
            logger.error("task %s of %s refused: %s", task.id, task.operation, error.message)
            await self._count_refused()
            return
        await self.ledger.cancel(task.id, envelope.tenant)

    def interrupt(self) -> None:
        """Stop everything that runs: what may run elsewhere is given back."""
        self.loop.call_soon_threadsafe(self.renewal.stop_all, StopReason.DRAIN)

    def close(self) -> None:
        """Close what runs on the loop, then the loop; bears being called twice."""
        if self.loop.is_running():
            self.wait(self._close())
        self._thread.stop()

    async def _start(self) -> None:
        await self.cache.start()
        await self.renewal.start()
        self._delivery.start()

    async def _deliver(self) -> None:
        """Give the ledger what an earlier worker could not."""
        pause_s = 0.1
        while True:
            try:
                taken = await self.spool.deliver(self.ledger)
            except BrokerUnavailable:
                await asyncio.sleep(pause_s)
                pause_s = min(5.0, pause_s * 2)
                continue
            if taken:
                logger.warning("%d spooled results of an earlier worker are in the ledger now", taken)
            return

    async def _count_refused(self) -> None:
        try:
            await self.ledger.count_refused(self._tool)
        except BrokerUnavailable:
            logger.warning("a refused task could not be counted")

    async def _close(self) -> None:
        await self._delivery.stop()
        await self.renewal.stop()
        await self._whole_server.close()
        await self.cache.stop()
        await self.broker.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


_hosts: dict[int, Host] = {}


def host_of_process(make: Callable[[], Host]) -> Host:
    """The host of this process, made on its first call: a forked child must not use its parent's connections."""
    process = os.getpid()
    if process not in _hosts:
        _hosts.clear()
        _hosts[process] = make()
    return _hosts[process]
