"""A worker is supervised by its taking tasks, not by its being alive."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from local.probes import HeartbeatProbe
from local.service import DrainStage, ServiceSpec, Timing
from local.services import Plan
from local.snapshot import Phase
from local.state_folder import StateFolder
from local.supervisor import Supervisor
from routing.front import Caller, Front
from store import heartbeat
from store.connection import Broker
from tests.servers.stack import ROOT, Stack
from tests.servers.waiting import until, until_async
from toolswarm.messages import SubmitBody, ToolResult, WorkerStatus

ME = Caller()


async def call(front: Front, operation: str, **arguments: object) -> ToolResult:
    submitted = await front.submit(SubmitBody(operation=operation, arguments=arguments), ME)
    return await front.result(submitted.id, ME, 30)


async def silent_for_s(broker: Broker) -> float:
    """For how long the only worker has not asked for tasks, although it has beaten within two seconds."""
    workers = await heartbeat.workers(broker)
    now = await heartbeat.redis_time(broker)
    return sum(now - worker.polled_at for worker in workers if now - worker.seen_at < 2)


def plan_of(stack: Stack) -> Plan:
    """One worker, and a supervisor that is quick to judge; three seconds are more than two polls and a heartbeat."""
    probe = HeartbeatProbe(stack.valkey.url, "stuck-1")
    environment = {
        **os.environ,
        **stack.settings,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        "TOOLSWARM_WORKER_NAME": "stuck-1",
    }
    spec = ServiceSpec(
        name="stuck-1",
        argv=(sys.executable, "-m", "workers", "stuck"),
        environment=environment,
        probe=probe,
        liveness=probe,
        stage=DrainStage.WORKING,
    )
    timing = Timing(look_ready_s=0.1, silent_after_s=3.0, backoff_first_s=0.05)
    return Plan(specs=(spec,), broker_url=stack.valkey.url, drain_s=5.0, timing=timing)


async def test_a_worker_that_is_connected_but_silent_is_replaced_and_its_queue_served(
    stack: Stack, broker: Broker, tmp_path: Path
) -> None:
    stack.settings["TOOLSWARM_TOOLS__MODULES"] = '["tests.local.stuck_tool"]'
    folder = StateFolder(tmp_path / "state")
    folder.create()
    supervisor = Supervisor(plan_of(stack), folder, observe=lambda snapshot: None)
    running = asyncio.create_task(supervisor.run())
    front = await stack.front()

    async def is_ready() -> bool:
        return supervisor.phase is Phase.READY

    async def is_silent() -> bool:
        return await silent_for_s(broker) > 2

    await until_async(is_ready, "the worker is ready")
    first = (await call(front, "stuck.pid")).value
    os.kill(first, signal.SIGUSR2)
    waiting = await front.submit(SubmitBody(operation="stuck.pid"), ME)
    await until_async(is_silent, "it beats and takes nothing")
    result = await front.result(waiting.id, ME, 20)
    note = supervisor.snapshot().services[0]
    await front.close()
    supervisor.stop()
    await running

    assert result.value not in (None, first)
    assert note.restarts == 1


async def test_a_worker_whose_slots_are_all_taken_is_not_silent(stack: Stack, front: Front, broker: Broker) -> None:
    stack.start_worker("trial", "w1", TOOLSWARM_WORKERS__TRIAL__CONCURRENCY="1")
    probe = HeartbeatProbe(stack.valkey.url, "w1")
    await front.submit(SubmitBody(operation="trial.slow_read", arguments={"label": "a", "seconds": 20.0}), ME)
    until(stack.marked, "the call runs")

    async def is_silent() -> bool:
        return await silent_for_s(broker) > 2.5

    await until_async(is_silent, "it has not asked for long")

    assert await probe.check(within_s=2.0) is None


async def test_a_worker_with_a_free_slot_that_has_not_asked_is_silent(stack: Stack, broker: Broker) -> None:
    status = WorkerStatus(
        name="w1",
        tool="trial",
        kind="asyncio",
        slots=2,
        busy=1,
        done=0,
        service_s=0,
        started_at=0,
        seen_at=0,
        polled_at=0,
    )
    await heartbeat.beat(broker, status, polled_ago_s=60.0)

    silence = await HeartbeatProbe(stack.valkey.url, "w1").check(within_s=15.0)

    assert silence == "last look at its queue 60 s ago"
