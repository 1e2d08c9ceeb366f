"""Heartbeats of worker processes: written by each, read by the supervisor, `status` and later the autoscaler."""

from typing import Any

from store import keys
from store.connection import Broker, text
from toolswarm.messages import WorkerStatus

KEEP_S = 30


async def beat(broker: Broker, status: WorkerStatus, *, polled_ago_s: float) -> None:
    """Say that this worker lives; `seen_at` and `polled_at` are set here, on Redis' clock."""
    fields: list[Any] = []
    for name in status.__struct_fields__:
        if name not in ("seen_at", "polled_at"):
            fields += [name, getattr(status, name)]
    names = [keys.worker_key(status.name), keys.WORKERS]
    await broker.script("beat", names, [status.name, KEEP_S, polled_ago_s, *fields])


async def workers(broker: Broker) -> list[WorkerStatus]:
    """The last heartbeat of every worker that has been seen within KEEP_S."""
    now = await redis_time(broker)
    names = [text(name) for name in await broker.command("ZRANGEBYSCORE", keys.WORKERS, now - KEEP_S, "+inf")]
    found: list[WorkerStatus] = []
    for name in sorted(names):
        reply = await broker.command("HGETALL", keys.worker_key(name))
        if reply:
            fields = {text(reply[at]): text(reply[at + 1]) for at in range(0, len(reply), 2)}
            found.append(_decode(fields))
    return found


async def leave(broker: Broker, name: str) -> None:
    """This worker has stopped in good order."""
    await broker.command("ZREM", keys.WORKERS, name)
    await broker.command("DEL", keys.worker_key(name))


async def redis_time(broker: Broker) -> float:
    """Redis' clock, in Unix seconds: the only one that leases and heartbeats are compared on."""
    seconds, microseconds = await broker.command("TIME")
    return int(seconds) + int(microseconds) / 1e6


def _decode(fields: dict[str, str]) -> WorkerStatus:
    return WorkerStatus(
        name=fields["name"],
        tool=fields["tool"],
        kind=fields["kind"],
        slots=int(fields["slots"]),
        busy=int(fields["busy"]),
        done=int(fields["done"]),
        service_s=float(fields["service_s"]),
        started_at=float(fields["started_at"]),
        seen_at=float(fields["seen_at"]),
        polled_at=float(fields["polled_at"]),
    )
