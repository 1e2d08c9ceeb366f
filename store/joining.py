"""Joining a call that runs already: one run for all who ask the same at the same time."""

from store import keys
from store.connection import Broker
from store.ledger import decode_result
from toolswarm.messages import ResultMeta, ToolResult
from toolswarm.states import State


async def join(broker: Broker, call_id: str, *, tenant: str, channel: str) -> ToolResult | None:
    """The call's state or result; until it ends the channel hears of it, and nobody's cancelling stops it any more.

    None: there is no such call of the tenant, or it is being cancelled.

    Raises:
        BrokerUnavailable: no answer; it may have been joined.
    """
    reply = await broker.script("cache_join", [keys.call_key(call_id)], [tenant, channel])
    if not reply:
        return None
    state = State(reply[0].decode())
    result = decode_result(reply[1])
    return result or ToolResult(id=call_id, status=state, meta=ResultMeta(accepted_at=float(reply[2])))
