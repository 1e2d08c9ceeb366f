"""How an attempt ends: from what came of the operation to what is told, or to another attempt.

Nothing here does anything; it decides. The rule that all of it keeps: once an effect that must not be repeated may
have happened, whatever goes wrong afterwards is never told as a failure. It is looked for when it can be
(`verifiable`), and told as `unknown` when it cannot.
"""

import hashlib
import random
import time
from typing import Any

import msgspec

from store.ledger import Grant
from tasks.operation import OperationDeclaration, Postponed
from toolswarm.errors import InvalidArguments, OperationFailed
from toolswarm.messages import Effect, ErrorInfo, ResultMeta, ToolResult, WholeValue, encode
from toolswarm.states import State
from workers import retry
from workers.attempt import Attempt, StopReason

_ENCODER = msgspec.json.Encoder()
MAX_VALUE_BYTES = 8 * 1024 * 1024
"""Of a value in the ledger, as JSON."""
_MAX_DETAILS_BYTES = 64 * 1024
_BEGINNING_CHARACTERS = 16 * 1024
"""So much of a value that is too large is told all the same."""
_LOST_SIGHT = ("connection_lost", "watcher_lost")
_LOOK_AFTER_S = 1.0
"""After a `verifiable` operation lost sight of its effect, another attempt looks for it this much later."""


class GiveBack(msgspec.Struct, frozen=True, kw_only=True):
    """The call is to be run again, by an attempt of its own."""

    delay_s: float = 0.0
    counts: bool = False
    """Whether this attempt was one."""
    fall_back: bool = False
    """To be run by the next operation of its chain instead."""
    code: str
    otherwise: ToolResult | None = None
    """How the call ends when its deadline or its last attempt comes first."""


class Endings:
    """What is told of the attempts of one worker."""

    def __init__(self, tool: str, worker: str) -> None:
        self._tool = tool
        self._worker = worker

    def success(
        self, attempt: Attempt, asked_at: float, declaration: OperationDeclaration, value: Any
    ) -> tuple[ToolResult, bytes | None]:
        """The operation answered: the result, and its whole value when that is too large for it.

        What it changed is done, also when its answer cannot be told.
        """
        result = self.result(attempt, asked_at, State.SUCCEEDED, value=value)
        try:
            whole = _ENCODER.encode(value)
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            message = f"{declaration.name} answered what cannot be written as JSON ({type(error).__name__})"
            if declaration.effect is Effect.READ:
                info = ErrorInfo(code="internal", message=message)
                return self.result(attempt, asked_at, State.FAILED, error=info), None
            return self.result(attempt, asked_at, State.SUCCEEDED, value={"left_out": message}), None
        if len(whole) <= MAX_VALUE_BYTES:
            return result, None
        told = msgspec.structs.replace(result, value=_beginning(whole))
        return told, whole

    def too_large(
        self,
        attempt: Attempt,
        asked_at: float,
        declaration: OperationDeclaration,
        result: ToolResult,
        whole: bytes,
        *,
        kept: bool,
    ) -> ToolResult:
        """What is told of a value that is too large; a read that nobody could get whole has failed."""
        if not kept and declaration.effect is Effect.READ:
            message = f"the value has {len(whole)} bytes, more than {MAX_VALUE_BYTES}: ask for less at once"
            info = ErrorInfo(code="result_too_large", message=message)
            return self.result(attempt, asked_at, State.FAILED, error=info)
        where = WholeValue(size_bytes=len(whole), sha256=hashlib.sha256(whole).hexdigest(), kept=kept)
        return msgspec.structs.replace(result, meta=msgspec.structs.replace(result.meta, whole=where))

    def failure(
        self,
        attempt: Attempt,
        asked_at: float,
        declaration: OperationDeclaration,
        error: OperationFailed | InvalidArguments,
    ) -> ToolResult | GiveBack:
        """The operation said that it failed."""
        info = _bounded(error.info())
        lost_sight = info.code in _LOST_SIGHT or (isinstance(error, OperationFailed) and error.in_doubt)
        in_doubt = lost_sight and attempt.effect_begun
        if not (in_doubt or attempt.in_doubt) or declaration.effect.may_run_again:
            failed = self.result(attempt, asked_at, State.FAILED, error=info)
            refused = isinstance(error, OperationFailed) and error.before_effect
            begun = attempt.effect_begun and not refused
            if attempt.grant.can_fall_back and retry.may_fall_back(info, effect=declaration.effect, effect_begun=begun):
                return GiveBack(fall_back=True, code="fall_back", otherwise=failed)
            pause_s = retry.pause_s(
                info,
                effect=declaration.effect,
                effect_begun=attempt.effect_begun and not (refused and declaration.effect is Effect.VERIFIABLE),
                attempt=attempt.grant.attempt,
                now=time.time(),
                random=random.random(),
            )
            return failed if pause_s is None else GiveBack(delay_s=pause_s, counts=True, code="retry", otherwise=failed)
        unknown = self.result(attempt, asked_at, State.UNKNOWN, error=info)
        if declaration.effect is Effect.VERIFIABLE and (in_doubt or info.retryable):
            return GiveBack(delay_s=_LOOK_AFTER_S, counts=True, code="released", otherwise=unknown)
        return unknown

    def broken(
        self, attempt: Attempt, asked_at: float, declaration: OperationDeclaration, info: ErrorInfo
    ) -> ToolResult | GiveBack:
        """The operation ended in a way that nobody foresaw."""
        if not _uncertain(attempt, declaration):
            return self.result(attempt, asked_at, State.FAILED, error=info)
        message = f"{info.message}; its effect had begun: look before you repeat it"
        told = msgspec.structs.replace(info, message=message, details=info.details | self._evidence(attempt))
        unknown = self.result(attempt, asked_at, State.UNKNOWN, error=told)
        if declaration.effect is Effect.VERIFIABLE:
            return GiveBack(delay_s=_LOOK_AFTER_S, counts=True, code="released", otherwise=unknown)
        return unknown

    def postponed(self, attempt: Attempt, asked_at: float, error: Postponed) -> GiveBack:
        """The operation is to come again, and has done nothing."""
        info = ErrorInfo(code=error.failure_code, message=error.message, retryable=True, details=error.details)
        state = State.UNKNOWN if attempt.in_doubt else State.FAILED
        failed = self.result(attempt, asked_at, state, error=_bounded(info))
        return GiveBack(delay_s=error.delay_s, code="postponed", otherwise=failed)

    def stopped(
        self, attempt: Attempt, asked_at: float, declaration: OperationDeclaration
    ) -> ToolResult | GiveBack | None:
        """The operation was interrupted; None when the attempt is another's now."""
        reason = attempt.stopped_by
        if reason is StopReason.LOST:
            return None
        uncertain = _uncertain(attempt, declaration)
        if reason is StopReason.DRAIN and (not uncertain or declaration.effect is Effect.VERIFIABLE):
            return GiveBack(code="released")
        if uncertain:
            message = f"stopped ({reason}) after its effect had begun: look before you repeat it"
            details = {"stopped_by": str(reason)} | self._evidence(attempt)
            info = ErrorInfo(code="outcome_unknown", message=message, details=details)
            return self.result(attempt, asked_at, State.UNKNOWN, error=info)
        if reason is StopReason.CANCEL:
            info = ErrorInfo(code="cancelled", message="the call was cancelled while it ran")
            return self.result(attempt, asked_at, State.CANCELLED, error=info)
        if reason is StopReason.DEADLINE and not attempt.effect_begun:
            info = ErrorInfo(code="deadline_passed", message="the deadline passed while it ran", retryable=True)
            return self.result(attempt, asked_at, State.EXPIRED, error=info)
        message = f"{declaration.name} took longer than its limit of {declaration.time_limit_s:g} s and was stopped"
        info = ErrorInfo(code="time_limit", message=message, retryable=declaration.effect.may_run_again)
        return self.result(attempt, asked_at, State.FAILED, error=info)

    def result(
        self,
        attempt: Attempt,
        asked_at: float,
        state: State,
        *,
        value: Any = None,
        error: ErrorInfo | None = None,
    ) -> ToolResult:
        """A result with how the call was run."""
        grant: Grant = attempt.grant
        return ToolResult(
            id=grant.id,
            status=state,
            value=value,
            error=error,
            meta=ResultMeta(
                tool=self._tool,
                operation=grant.call.operation,
                worker=self._worker,
                attempts=grant.attempt,
                accepted_at=grant.accepted_at,
                queued_s=round(grant.claimed_at - grant.accepted_at, 6),
                ran_s=round(time.monotonic() - asked_at, 6),
                executed_on=attempt.place,
                fallback_from=grant.fallback_from,
            ),
        )

    def _evidence(self, attempt: Attempt) -> dict[str, Any]:
        return {"worker": self._worker, "fence": attempt.fence}


def _uncertain(attempt: Attempt, declaration: OperationDeclaration) -> bool:
    """Whether an effect that must not be repeated may have happened."""
    return (attempt.effect_begun or attempt.in_doubt) and not declaration.effect.may_run_again


def _beginning(whole: bytes) -> dict[str, Any]:
    """What is told of a value that is too large: of another shape, so that nobody takes a part for the whole."""
    beginning = whole[: 4 * _BEGINNING_CHARACTERS].decode(errors="ignore")[:_BEGINNING_CHARACTERS]
    return {"truncated": True, "size_bytes": len(whole), "beginning": beginning}


def _bounded(info: ErrorInfo) -> ErrorInfo:
    """The error, without details that cannot be written as JSON or that are a burden."""
    try:
        if len(encode(info.details)) <= _MAX_DETAILS_BYTES:
            return info
        left_out = "too large"
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        left_out = type(error).__name__
    return msgspec.structs.replace(info, details={"left_out": left_out})
