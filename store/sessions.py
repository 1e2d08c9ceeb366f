"""Where a session lives: its id begins with the name of its worker, whose heartbeat says whether it is there."""

from store import heartbeat, keys
from store.connection import Broker, text
from store.ledger import SESSION_SILENCE_S


async def queue_of_session(broker: Broker, tool: str, session_id: str) -> str:
    """The own queue of the worker that the session lives in; the tool's queue when that worker is gone.

    Any worker of the tool answers `session_lost` for a session that is not its own, so nobody waits for a dead one.
    """
    worker, dot, _ = session_id.rpartition(".")
    if dot:
        found_tool, seen_at = await broker.command("HMGET", keys.worker_key(worker), "tool", "seen_at")
        now = await heartbeat.redis_time(broker)
        if found_tool is not None and text(found_tool) == tool and float(seen_at) > now - SESSION_SILENCE_S:
            return keys.own_queue(tool, worker)
    return keys.tool_queue(tool)
