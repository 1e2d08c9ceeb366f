"""One request over HTTP and its whole answer: bounded in time and size, never repeated, never redirected."""

import time
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import requests
from requests.utils import requote_uri
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from tasks.github.conditional import Answer
from tasks.github.failures import AnswerTooLarge, Unanswered
from tasks.operation import Run
from toolswarm.errors import OperationFailed

_CHUNK_BYTES = 65_536
_LEAST_S = 0.05
_NOT_SENT = (NewConnectionError, ConnectTimeoutError)


def send(
    session: requests.Session,
    run: Run,
    request: requests.PreparedRequest,
    *,
    timeout_s: float,
    limit_bytes: int,
) -> Answer:
    """Send the request once and read its answer.

    Raises:
        Unanswered: no whole answer came within `timeout_s` of silence and the time that is left to the call.
        AnswerTooLarge: more came than `limit_bytes`.
        OperationFailed: `time_limit`, `stopped`: nothing was sent.
    """
    patience_s = _patience_s(run, timeout_s)
    url = request.url or ""
    settings = session.merge_environment_settings(url, {}, True, None, None)
    try:
        # Not by the session: it would read a redirect's body to its end, however long, and follow it.
        response = session.get_adapter(url).send(request, timeout=patience_s, **settings)
    except requests.exceptions.Timeout as error:
        raise _unanswered("did not answer in time", error, sent=_was_sent(error)) from None
    except requests.exceptions.ConnectionError as error:
        raise _unanswered("cannot be reached", error, sent=_was_sent(error)) from None
    except requests.exceptions.RequestException as error:
        raise _unanswered("gave an answer that is not HTTP", error, sent=True) from None
    with response:
        headers = {name.lower(): value for name, value in response.headers.items()}
        try:
            body = _body(response, run, limit_bytes=limit_bytes)
        except requests.exceptions.RequestException as error:
            raise _unanswered("broke off its answer", error, sent=True, status=response.status_code) from None
        return Answer(status=response.status_code, headers=headers, body=body)


def prepared(
    session: requests.Session, verb: str, url: str, *, headers: Mapping[str, str], body: bytes | None
) -> requests.PreparedRequest:
    """The request as it is sent: the URL is taken as it is, only its characters are made safe.

    Raises:
        OperationFailed: `path_refused`, when the URL would change on its way: a part of it led somewhere else.
    """
    made = session.prepare_request(requests.Request(verb, url, headers=dict(headers), data=body))
    path = urlsplit(requote_uri(url)).path
    if urlsplit(made.url or "").path != path or any(_leads_away(unquote(part)) for part in path.split("/")):
        raise OperationFailed(
            "a name in the request cannot be part of GitHub's URLs; check the arguments",
            code="path_refused",
            before_effect=True,
        )
    return made


def _leads_away(part: str) -> bool:
    return "\\" in part or any(inner in (".", "..") for inner in part.split("/"))


def _body(response: requests.Response, run: Run, *, limit_bytes: int) -> bytes:
    ends_at = time.monotonic() + run.remaining_s()  # the request is sent: whatever comes now is no refusal
    chunks = bytearray()
    for chunk in response.iter_content(_CHUNK_BYTES):
        chunks += chunk
        if len(chunks) > limit_bytes:
            raise AnswerTooLarge(limit_bytes=limit_bytes, status=response.status_code)
        if time.monotonic() > ends_at or run.stop_requested():
            raise requests.exceptions.ReadTimeout
    return bytes(chunks)


def _patience_s(run: Run, timeout_s: float) -> float:
    if run.stop_requested():
        raise OperationFailed("the call is being stopped", code="stopped", before_effect=True)
    left_s = run.remaining_s()
    if left_s < _LEAST_S:
        raise OperationFailed(
            "no time is left to ask GitHub; give the call a later deadline",
            code="time_limit",
            retryable=True,
            before_effect=True,
        )
    return min(timeout_s, left_s)


def _was_sent(error: requests.exceptions.RequestException) -> bool:
    """False only where no connection came about: then GitHub knows nothing of the request."""
    cause: object = error.args[0] if error.args else None
    if isinstance(cause, MaxRetryError):
        cause = cause.reason
    return not (isinstance(error, requests.exceptions.ConnectTimeout) or isinstance(cause, _NOT_SENT))


def _unanswered(what: str, error: Exception, *, sent: bool, status: int = 0) -> Unanswered:
    # The error's own text has the whole URL in it; its class says enough.
    return Unanswered(
        f"GitHub {what}; check github.base_url and the network",
        sent=sent,
        status=status,
        reason=type(error).__name__,
    )
