"""Calls for the tests of the ledger."""

from store.ledger import Submission
from toolswarm.ids import new_call_id
from toolswarm.messages import Effect, ToolCall


def submission(
    effect: Effect = Effect.READ, *, key: str | None = None, request: str = "request", queue: str = "tool.trial"
) -> Submission:
    """A call of the tool `trial`."""
    call = ToolCall(id=new_call_id(), operation="trial.echo", idempotency_key=key)
    return Submission(
        call=call,
        tool="trial",
        queue=queue,
        effect=effect,
        message=f'{{"properties":{{"delivery_tag":"{call.id}"}}}}'.encode(),
        request_hash=request,
        wake="ts:wake:test",
    )
