"""Plain Celery on Redis or RabbitMQ in the same trial: its workers, its callers, the same checker."""

import asyncio
import contextlib
import json
import subprocess
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis.asyncio
from amqp.exceptions import AMQPError
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from tests.chaos.callers import Refused
from tests.chaos.swarm import TWO_HOURS_AHEAD, Swarm
from tests.chaos.trial import Setup, Trial, begin_journal
from tests.servers.celery_tool import QUEUE, make_app
from tests.servers.rabbitmq import RabbitMq
from tests.servers.relay import Relay, relay
from tests.servers.stack import Stack
from toolswarm.messages import ToolResult
from toolswarm.states import State

_LOOK_EVERY_S = 0.1
_STATES = {"SUCCESS": State.SUCCEEDED, "FAILURE": State.FAILED, "REVOKED": State.CANCELLED}


class CelerySwarm(Swarm):
    """Workers of one variant of `tests.servers.celery_tool`; there is nothing else to run."""

    queue = QUEUE
    held_key = "unacked"

    def __init__(
        self,
        stack: Stack,
        *,
        variant: str,
        broker_url: str,
        setup: Setup,
        settings: Mapping[str, Mapping[str, str]],
    ) -> None:
        super().__init__(stack, workers=setup.workers, settings=settings)
        self._variant = variant
        self._broker_url = broker_url
        self._slots = setup.slots

    @property
    def names(self) -> tuple[str, ...]:
        return self.workers

    def start_one(self, name: str) -> subprocess.Popen[bytes]:
        ready = self.stack.folder / f"ready-{name}"
        ready.unlink(missing_ok=True)
        own = {
            "TOOLSWARM_WORKER_NAME": name,  # the name of its log
            "CELERY_BROKER": self._broker_url,
            "CELERY_RESULTS": self.stack.valkey.tcp_url,
            "CELERY_VARIANT": self._variant,
            "CELERY_READY_FILE": str(ready),
        }
        return self.stack.start(
            *("celery", "-A", "tests.servers.celery_tool", "worker", "--pool", "prefork"),
            *("--concurrency", str(self._slots), "--hostname", f"{name}@chaos", "--loglevel", "WARNING"),
            *("--without-gossip", "--without-mingle"),
            settings=own | dict(self._settings.get(name, {})),
        )

    def is_up(self, name: str) -> bool:
        process = self.processes[name]
        assert process.poll() is None, f"{name} ended:\n{self.stack.log(name)[-3000:]}"
        ready = self.stack.folder / f"ready-{name}"
        return ready.exists() and ready.read_text() == str(process.pid)

    def ring(self) -> None:
        """Celery's workers wait on the queue itself."""

    def held(self) -> list[tuple[str, bytes]]:
        with self.stack.valkey.client() as connected:
            client: Any = connected
            held: list[bytes] = client.hvals(self.held_key)
        return [(QUEUE, json.dumps(json.loads(one)[0]).encode()) for one in held]

    def describe(self, call_ids: list[str]) -> str:
        return f"{len(call_ids)} without an end"


class CeleryCalls:
    """Publishes tasks, and looks for their results where the result backend puts them."""

    def __init__(self, stack: Stack, *, variant: str, broker_url: str, callers: int) -> None:
        self._app = make_app(broker_url, variant)
        self._threads = ThreadPoolExecutor(callers)
        # Any: redis-py annotates each command with **kwargs of an unknown type.
        self._client: Any = redis.asyncio.Redis(unix_socket_path=str(stack.valkey.socket), socket_timeout=2)

    async def submit(self, operation: str, *, seconds: float, key: str) -> str:
        """A new id each time: Celery knows no idempotency keys."""
        task_id = str(uuid.uuid4())

        def publish() -> None:
            self._app.send_task(f"chaos.{operation}", args=(seconds,), task_id=task_id)

        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, publish)
        except (KombuError, AMQPError, RedisError, OSError, AttributeError) as error:
            # AttributeError: kombu asks a connection that it has closed for its parameters (kombu #582)
            raise Refused from error
        return task_id

    async def result(self, call_id: str, wait_s: float) -> ToolResult | None:
        until = time.monotonic() + wait_s
        while True:
            with contextlib.suppress(RedisError, OSError):  # the broker is away: looked for again
                found = await self._client.get(f"celery-task-meta-{call_id}")
                meta: dict[str, Any] = json.loads(found) if found else {}
                state = _STATES.get(meta.get("status", ""))
                if state is not None:
                    return ToolResult(id=call_id, status=state, value=meta["result"])
            if time.monotonic() > until:
                return None
            await asyncio.sleep(_LOOK_EVERY_S)

    async def close(self) -> None:
        await self._client.aclose()
        self._app.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


@contextlib.asynccontextmanager
async def celery_trial(
    stack: Stack, setup: Setup, *, variant: str, drain_s: float, rabbit: RabbitMq | None = None
) -> AsyncGenerator[Trial]:
    """The same trial with plain Celery; what has no end after `drain_s` counts as lost.

    Results are kept in Redis, also when RabbitMQ carries the tasks.
    """
    journal = begin_journal(stack)
    broker_url = stack.valkey.tcp_url if rabbit is None else rabbit.url
    async with contextlib.AsyncExitStack() as held:
        port = stack.valkey.port if rabbit is None else rabbit.port
        way_in = held.enter_context(relay(port)) if setup.relayed else None
        swarm = CelerySwarm(
            stack, variant=variant, broker_url=broker_url, setup=setup, settings=_own(setup, broker_url, port, way_in)
        )
        swarm.start()
        calls = CeleryCalls(stack, variant=variant, broker_url=broker_url, callers=setup.callers + 4)
        held.push_async_callback(calls.close)
        running = Trial(swarm, [calls], setup=setup, way_in=way_in, journal=journal)
        held.callback(running.history.close)
        if rabbit is not None:
            running.faults.broker = rabbit
        async with running.supervised():
            held.push_async_callback(running.load.give_up)
            running.load.start()
            yield running
            await running.load.stop()
            until = time.monotonic() + drain_s
            while time.monotonic() < until and not await running.load.all_told():
                await asyncio.sleep(0.5)
            await running.load.give_up()
            running.judge()


def _own(setup: Setup, broker_url: str, port: int, way_in: Relay | None) -> dict[str, dict[str, str]]:
    own: dict[str, dict[str, str]] = {}
    for name in setup.relayed:
        assert way_in is not None
        own[name] = {"CELERY_BROKER": broker_url.replace(f":{port}/", f":{way_in.port}/")}
    for name in setup.ahead:
        own[name] = {**own.get(name, {}), **TWO_HOURS_AHEAD}
    return own
