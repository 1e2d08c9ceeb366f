"""`python -m workers TOOL`: one worker process of a tool's pool; `python -m workers intake`: the router pool."""

import asyncio
import importlib
import logging
import os
import resource
import socket
import sys
from collections.abc import Callable
from typing import Any

from celery.signals import worker_ready, worker_shutdown
from celery.worker import state as worker_state

import celeryconfig
from routing.signing import HEADER
from store import keys
from store.configuration import Configuration, load
from store.task_broker import TaskBroker
from tasks.operation import Tool
from tasks.registry import TOOLS
from toolswarm.errors import ConfigurationError
from workers.app import app, forget_celerys_tasks, register_intake, register_tool
from workers.beating import Heartbeat, describe_worker
from workers.host import Host
from workers.intake import Intake, open_intake
from workers.loop_thread import LoopThread
from workers.pool import CallRequest, make_pool
from workers.rabbitmq_transport import queues_of
from workers.runner import Outcome, Task

_EXIT_CONFIGURATION = 78


def main(arguments: list[str]) -> int:
    """Run a worker until it is told to stop: TERM drains, QUIT gives back what it can and stops now."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m workers TOOL | intake\n")
        return 2
    _raise_descriptor_limit()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        configuration = load(os.environ)
        name = os.environ.get("TOOLSWARM_WORKER_NAME") or f"{arguments[0]}-{socket.gethostname()}-{os.getpid()}"
        if arguments[0] == keys.INTAKE_QUEUE:
            return run_intake(configuration, name)
        return run_tool(configuration, find_tool(arguments[0], configuration), name)
    except ConfigurationError as error:
        sys.stderr.write(f"workers: {error}\n")
        return _EXIT_CONFIGURATION


def _raise_descriptor_limit() -> None:
    """Allow this process all descriptors it may have; many systems start with 1024, for the sake of `select`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def find_tool(name: str, configuration: Configuration) -> Tool:
    """A built-in tool, or one of the modules in `tools.modules`.

    Raises:
        ConfigurationError: there is no such tool, or a module cannot be imported.
    """
    if name in TOOLS:
        return TOOLS[name]
    known = list(TOOLS)
    for module in configuration.tools.modules:
        try:
            tool = importlib.import_module(module).TOOL
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(f"tools.modules: {module}: {error}") from error
        if isinstance(tool, Tool) and tool.name == name:
            return tool
        known.append(getattr(tool, "name", module))
    raise ConfigurationError(f"there is no tool {name!r}; known: {', '.join(known)}, {keys.INTAKE_QUEUE}")


class _ToolHandler:
    """Runs the calls of one tool in the asyncio pool."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.loop = host.loop
        self.wait: Callable[[Any], Any] = host.wait

    async def handle(self, request: CallRequest) -> Outcome:
        header = request.request_dict.get(HEADER)
        return await self._host.run(Task(id=request.id, operation=request.name, header=header))

    async def revoke(self, request: CallRequest) -> None:
        header = request.request_dict.get(HEADER)
        await self._host.revoke(Task(id=request.id, operation=request.name, header=header))

    def interrupt(self) -> None:
        self._host.interrupt()


class _IntakeHandler:
    """Answers the requests of the queue `intake`."""

    def __init__(self, intake: Intake, thread: LoopThread) -> None:
        self._intake = intake
        self.loop = thread.loop
        self.wait: Callable[[Any], Any] = thread.wait

    async def handle(self, request: CallRequest) -> Outcome:
        return await self._intake.run(request.arguments)

    async def revoke(self, request: CallRequest) -> None:
        """A request that was not answered yet is simply not answered."""

    def interrupt(self) -> None:
        """Whoever waits asks again; what was submitted is in the ledger."""


def run_tool(configuration: Configuration, tool: Tool, name: str) -> int:
    """Run one tool's worker."""
    settings = configuration.pool(tool.name)
    own_pool = settings.kind == "asyncio"
    register_tool(tool, lambda: Host(configuration, tool, worker=f"{name}/{os.getpid()}"), own_pool=own_pool)
    hosts: list[tuple[Host, Heartbeat]] = []

    def start_host(**_: object) -> None:
        host = Host(configuration, tool, worker=name)
        beats = Heartbeat(
            host.broker,
            describe_worker(name, tool.name, settings.kind, settings.concurrency),
            operations=host.operations,
            counts=host.runner,
            busy=lambda: host.runner.busy if own_pool else len(worker_state.active_requests),
        )
        host.wait(beats.start())
        hosts.append((host, beats))

    def stop_host(**_: object) -> None:
        while hosts:
            host, beats = hosts.pop()
            host.wait(beats.stop())
            host.close()

    if own_pool:
        start_host()  # the pool needs its loop before the first task
        pool: Any = make_pool(_ToolHandler(hosts[0][0]))
    else:
        pool = settings.kind
        worker_ready.connect(start_host, weak=False)  # after the children were forked: no thread may run before
    worker_shutdown.connect(stop_host, weak=False)
    return _run_worker(
        name,
        queue=keys.tool_queue(tool.name),
        own=keys.own_queue(tool.name, name),
        pool=pool,
        slots=settings.concurrency,
        broker=configuration.broker,
    )


def run_intake(configuration: Configuration, name: str) -> int:
    """Run a router worker."""
    settings = configuration.pool(keys.INTAKE_QUEUE)
    thread = LoopThread("intake")
    intake, front, broker = thread.wait(open_intake(configuration))
    beats = Heartbeat(
        broker,
        describe_worker(name, keys.INTAKE_QUEUE, "asyncio", settings.concurrency),
        operations=(),
        counts=intake,
        busy=lambda: intake.busy,
    )

    async def close() -> None:
        await beats.stop()
        await asyncio.gather(front.close(), broker.close())

    def stop(**_: object) -> None:
        thread.wait(close())
        thread.stop()

    register_intake()
    thread.wait(beats.start())
    worker_shutdown.connect(stop, weak=False)
    return _run_worker(
        name, queue=keys.INTAKE_QUEUE, pool=make_pool(_IntakeHandler(intake, thread)), slots=settings.concurrency
    )


def _run_worker(
    name: str, *, queue: str, pool: Any, slots: int, own: str = "", broker: TaskBroker | None = None
) -> int:
    forget_celerys_tasks()
    queues = [queue]
    if broker is not None and broker.url:
        queues.append(own)
        app.conf.task_queues = queues_of(broker, *queues)
        if pool == "solo":
            app.conf.broker_heartbeat = 0  # the thread that runs calls would have to beat
    else:
        app.conf.update(celeryconfig.ledger_broker)
        app.conf.broker_transport_options = {**app.conf.broker_transport_options, "takes": queue, "own": own}
    worker = app.Worker(
        hostname=f"{name}@{socket.gethostname()}",
        queues=queues,
        pool=pool,
        concurrency=slots,
        loglevel="WARNING",
        without_gossip=True,  # 50 workers that gossip cost 40 % of a core
        without_mingle=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
