"""What GitHub, or the way to it, answered instead of a result, as an error that says what to do."""

import math
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar, cast

import msgspec
import requests
from github import BadAttributeException, GithubException

from tasks.text import without_hidden
from toolswarm.errors import OperationFailed

_DEFAULT_WAIT_S = 60.0
"""GitHub's advice where it does not say how long."""
_LONGEST_WAIT_S = 3600.0
"""No limit of GitHub's lasts longer than an hour; a later time is a mistake or an attack."""
_NOT_GITHUBS = (
    *(AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError, BadAttributeException),
    msgspec.ValidationError,
)
"""What PyGithub, or `complete`, says of an answer that is not GitHub's: another host's links, no JSON, a wrong type."""
_Result = TypeVar("_Result", bound=msgspec.Struct)


def complete(result: _Result) -> _Result:
    """The result, when each of its fields has a value of its type: PyGithub gives None for what an answer lacks.

    Raises:
        msgspec.ValidationError: `asking` turns it into an error for people.
    """
    return msgspec.convert(msgspec.to_builtins(result), type(result))


@contextmanager
def asking(subject: str) -> Generator[None, None, None]:
    """Turn everything that goes wrong in the block into `OperationFailed`; `subject` says what was asked for.

    Raises:
        OperationFailed: `not_found`, `authentication`, `permission`, `rate_limited`, `upstream_failed`,
            `upstream_unreachable`.
    """
    try:
        yield
    except GithubException as error:
        raise refusal(
            error.status, error.headers or {}, message=_message(error.data), subject=subject, now=time.time()
        ) from None
    except requests.exceptions.Timeout as error:
        raise _unreachable("did not answer in time", error) from None
    except requests.exceptions.ConnectionError as error:
        raise _unreachable("cannot be reached", error) from None
    except requests.exceptions.RequestException as error:
        raise _garbled(subject, error) from None
    except _NOT_GITHUBS as error:
        raise _garbled(subject, error) from None


def refusal(status: int, headers: Mapping[str, Any], *, message: str, subject: str, now: float) -> OperationFailed:
    """The error for an HTTP status that is not a success."""
    details: dict[str, Any] = {"status": status}
    if message:
        details["upstream_message"] = message
    if status == 404:
        text = f"GitHub has no {subject}, or the token may not see it; check the name"
        return OperationFailed(text, code="not_found", before_effect=True, **details)
    if status == 401:
        text = "GitHub does not accept the token; set GITHUB_TOKEN to a valid one"
        return OperationFailed(text, code="authentication", before_effect=True, **details)
    if status == 429 or (status == 403 and _is_rate_limit(headers, message)):
        retry_at = _retry_at(headers, now)
        return OperationFailed(
            f"GitHub's rate limit is used up; try again in {math.ceil(retry_at - now)} s",
            code="rate_limited",
            retryable=True,
            before_effect=True,
            retry_at=retry_at,
            **details,
        )
    if status == 403:
        text = f"GitHub does not permit this for {subject}; give the token the right to it"
        return OperationFailed(text, code="permission", before_effect=True, **details)
    if status >= 500:
        text = f"GitHub failed with status {status}; try again later"
        return OperationFailed(text, code="upstream_failed", retryable=True, before_effect=True, **details)
    text = f"GitHub refused the request for {subject} with status {status}"
    return OperationFailed(text, code="upstream_refused", before_effect=True, **details)


def _is_rate_limit(headers: Mapping[str, Any], message: str) -> bool:
    lowered = message.lower()
    return (
        "retry-after" in headers
        or str(headers.get("x-ratelimit-remaining")) == "0"
        or "rate limit" in lowered
        or "abuse detection" in lowered
    )


def _retry_at(headers: Mapping[str, Any], now: float) -> float:
    """Unix seconds: what GitHub says, within reason."""
    wait_s = _seconds(str(headers.get("retry-after", "")), now)
    if wait_s is None and str(headers.get("x-ratelimit-remaining")) == "0":
        reset_at = _number(str(headers.get("x-ratelimit-reset", "")))
        wait_s = None if reset_at is None else reset_at - now
    if wait_s is None or wait_s < 0:
        wait_s = _DEFAULT_WAIT_S
    return now + min(wait_s + 1.0, _LONGEST_WAIT_S)


def _seconds(retry_after: str, now: float) -> float | None:
    number = _number(retry_after)
    if number is not None or not retry_after:
        return number
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _message(data: Any) -> str:
    found: object = None
    if isinstance(data, dict):
        found = cast("dict[str, object]", data).get("message")
    return without_hidden(found)[:300] if isinstance(found, str) else ""


def _unreachable(what: str, error: Exception) -> OperationFailed:
    # The error's own text has the whole URL in it; its class says enough.
    return OperationFailed(
        f"GitHub {what}; check github.base_url and the network",
        code="upstream_unreachable",
        retryable=True,
        before_effect=True,
        reason=type(error).__name__,
    )


def _garbled(subject: str, error: Exception) -> OperationFailed:
    return OperationFailed(
        f"the answer for {subject} is not one of GitHub's; check that github.base_url is its API",
        code="upstream_failed",
        retryable=True,
        before_effect=True,
        reason=type(error).__name__,
    )
