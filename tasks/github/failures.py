"""What GitHub, or the way to it, answered instead of a result, as an error that says what to do."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import msgspec
from github import BadAttributeException, GithubException

from tasks.text import without_hidden
from toolswarm.errors import OperationFailed

NOT_GITHUBS = (
    *(AssertionError, AttributeError, KeyError, IndexError, RuntimeError, TypeError, ValueError),
    BadAttributeException,
)
"""What PyGithub, or `complete`, says of an answer that is not GitHub's: no JSON, a wrong type, a missing field."""
_Result = TypeVar("_Result", bound=msgspec.Struct)


class InDoubt(OperationFailed):
    """A write was sent, and its answer does not say whether it was done: somebody has to look."""

    def __init__(self, message: str, /, *, code: str, **details: Any) -> None:
        super().__init__(message, code=code, retryable=True, in_doubt=True, **details)


class AnswerTooLarge(OperationFailed):
    """The request was answered with `status`, at greater length than is read."""

    def __init__(self, *, limit_bytes: int, status: int) -> None:
        super().__init__(
            f"GitHub's answer has more than {limit_bytes} bytes; ask for less at once",
            code="answer_too_large",
            limit_bytes=limit_bytes,
            before_effect=True,
        )
        self.limit_bytes = limit_bytes
        self.status = status


class Unanswered(OperationFailed):
    """No whole answer came; `sent` says whether the request may have arrived."""

    def __init__(self, message: str, /, *, sent: bool, status: int = 0, **details: Any) -> None:
        super().__init__(message, code="upstream_unreachable", retryable=True, before_effect=True, **details)
        self.sent = sent
        self.status = status


def complete(result: _Result) -> _Result:
    """The result, when each of its fields has a value of its type: PyGithub gives None for what an answer lacks.

    Raises:
        msgspec.ValidationError: `asking` turns it into an error for people.
    """
    return msgspec.convert(msgspec.to_builtins(result), type(result))


@contextmanager
def asking(subject: Callable[[], str], *, changed: Callable[[], bool]) -> Generator[None, None, None]:
    """Turn everything that goes wrong in the block into `OperationFailed`.

    `subject` says what was asked for, `changed` whether the call has changed something.

    Raises:
        OperationFailed: `not_found`, `authentication`, `permission`, `conflict`, `already_exists`, `upstream_refused`,
            `upstream_failed`, `upstream_unreachable`.
    """
    try:
        yield
    except GithubException as error:
        raise refusal(
            error.status,
            message=message_of(error.data),
            subject=subject(),
            before_effect=not changed(),
            problems=_problems(error.data),
        ) from None
    except NOT_GITHUBS as error:
        raise garbled(error, subject=subject(), before_effect=not changed()) from None


def refusal(
    status: int, *, message: str, subject: str, before_effect: bool = True, problems: tuple[str, ...] = ()
) -> OperationFailed:
    """The error for an HTTP status that is not a success; rate limits are told apart before."""
    details: dict[str, Any] = {"status": status}
    if message:
        details["upstream_message"] = message
    if problems:
        details["problems"] = list(problems)
    code, text = _sentence(status, subject, " ".join((message, *problems)).lower())
    return OperationFailed(text, code=code, retryable=status >= 500, before_effect=before_effect, **details)


def _sentence(status: int, subject: str, said: str) -> tuple[str, str]:
    if status in (404, 410):
        return "not_found", f"GitHub has no {subject}, or the token may not see it; check the name"
    if status == 401:
        return "authentication", "GitHub does not accept the token; set GITHUB_TOKEN to a valid one"
    if status in (403, 451):
        return "permission", f"GitHub does not permit this for {subject}; give the token the right to it"
    if status in (409, 412):
        return "conflict", f"GitHub's state of {subject} is another than expected; read it again, then repeat"
    if status == 422 and "already exists" in said:
        return "already_exists", f"GitHub has {subject} already; choose another name, or change what is there"
    if status >= 500:
        return "upstream_failed", f"GitHub failed with status {status}; try again later"
    if 300 <= status < 400:
        return "moved", f"GitHub says that {subject} has moved; use its new name"
    return "upstream_refused", f"GitHub refused the request for {subject} with status {status}"


def garbled(error: Exception, *, subject: str, before_effect: bool = True) -> OperationFailed:
    """The error for an answer that is not one of GitHub's; its text could hold data, its class says enough."""
    return OperationFailed(
        f"the answer for {subject} is not one of GitHub's; check that github.base_url is its API",
        code="upstream_failed",
        retryable=True,
        before_effect=before_effect,
        reason=type(error).__name__,
    )


def message_of(data: Any) -> str:
    """What GitHub says in the body of an error, at a bearable length."""
    found: object = None
    if isinstance(data, dict):
        found = cast("dict[str, object]", data).get("message")
    return without_hidden(found)[:300] if isinstance(found, str) else ""


def _problems(data: Any) -> tuple[str, ...]:
    errors: object = cast("dict[str, object]", data).get("errors") if isinstance(data, dict) else None
    told: list[str] = []
    for error in cast("list[object]", errors)[:10] if isinstance(errors, list) else ():
        if isinstance(error, str):
            told.append(error)
        elif isinstance(error, Mapping):
            named = cast("Mapping[str, object]", error)
            parts = [str(named[key]) for key in ("resource", "field", "code", "message") if named.get(key)]
            told.append(" ".join(parts))
    return tuple(without_hidden(text)[:300] for text in told if text)
