"""What may be done with dead letters: look, run again as a new call, resolve an unknown outcome, drop."""

from collections.abc import Awaitable, Callable

import msgspec

from store.dead import DeadLetters, group, redact
from toolswarm.errors import InvalidRequest
from toolswarm.messages import DeadLetter, DeadPage, DeadRequest, Operation, SubmitBody, ToolCall, ToolResult
from toolswarm.states import State

Submit = Callable[[SubmitBody, str, str], Awaitable[ToolResult]]
"""Submits a call for a tenant and a principal."""
ACTIONS = ("list", "retry", "resolve", "drop")
_LONGEST_NOTE = 1000


class DeadDesk:
    """The four actions, each on the letters of one tenant that match."""

    def __init__(
        self, letters: DeadLetters, *, operations: Callable[[], Awaitable[list[Operation]]], submit: Submit
    ) -> None:
        self._letters = letters
        self._operations = operations
        self._submit = submit

    async def act(self, action: str, tenant: str, request: DeadRequest) -> DeadPage:
        """Do it; the answer has the letters that were touched, at most `request.limit` of them.

        Raises:
            InvalidRequest: there is no such action, or it needs something that is not there.
        """
        if action not in ACTIONS:
            raise InvalidRequest(f"dead letters can be {', '.join(ACTIONS)}, not {action[:20]!r}", field="action")
        if not 1 <= request.limit <= 10_000:
            raise InvalidRequest("limit: must be 1 to 10000", field="limit")
        if action == "resolve" and request.outcome not in (State.SUCCEEDED, State.FAILED):
            raise InvalidRequest("outcome: must be succeeded or failed, as you have found out", field="outcome")
        found = await self._letters.find(tenant, request)
        if action == "retry" and not request.ids and request.state is not State.UNKNOWN:
            # What may have happened is run again only by who says so.
            found = [one for one in found if one[0].state is not State.UNKNOWN]
        if action == "resolve":
            found = [one for one in found if one[0].state is State.UNKNOWN]
        if action == "list":
            page = [letter for letter, _ in await self._shown(found[: request.limit])]
            return DeadPage(groups=group(letter for letter, _ in found), letters=tuple(page), total=len(found))
        touched = [
            letter
            for one in await self._shown(found[: request.limit])
            if (letter := await self._do(action, tenant, one, request)) is not None
        ]
        return DeadPage(groups=group(touched), letters=tuple(touched), total=len(found))

    async def _do(
        self, action: str, tenant: str, one: tuple[DeadLetter, ToolCall], request: DeadRequest
    ) -> DeadLetter | None:
        letter, call = one
        if action == "drop":
            return letter if await self._letters.remove(tenant, letter.id, note="dropped", value="1") else None
        if action == "resolve":
            assert request.outcome is not None
            value = f"{request.outcome}: {request.note[:_LONGEST_NOTE]}"
            if not await self._letters.remove(tenant, letter.id, note="resolved", value=value):
                return None
            return msgspec.structs.replace(letter, resolved=request.outcome)
        # The key makes it one new call, however often and by however many this is asked.
        again = SubmitBody(
            operation=call.operation,
            arguments=call.arguments,
            context=call.context,
            priority=call.priority,
            idempotency_key=f"retry of {letter.id}",
        )
        submitted = await self._submit(again, call.tenant, call.principal)
        await self._letters.remove(tenant, letter.id, note="retried_as", value=submitted.id)
        return msgspec.structs.replace(letter, retried_as=submitted.id)

    async def _shown(self, found: list[tuple[DeadLetter, ToolCall]]) -> list[tuple[DeadLetter, ToolCall]]:
        secrets = {one.full_name: one.secret_arguments for one in await self._operations()}
        return [
            (
                msgspec.structs.replace(
                    letter, arguments=redact(call.arguments, secrets.get(call.operation, tuple(call.arguments)))
                ),
                call,
            )
            for letter, call in found
        ]
