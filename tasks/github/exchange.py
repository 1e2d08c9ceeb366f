"""The requests of one call: within its budgets and its time, remembered where that helps, repeated only where safe.

Order matters: the budget is asked before anything is sent; then the effect is marked; then the request goes out once.
GET and HEAD are repeated twice when GitHub fails; nothing else is ever sent again. The credential goes to the host of
`github.base_url` and to no other: no redirect, link or URL of an answer is followed to another one.
"""

import random
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import msgspec
from requests import PreparedRequest

from store.budgets import Known, Lesson, Refusal, Standing, Wish
from store.tool_settings import Github as GithubSettings
from tasks.github import conditional
from tasks.github.conditional import Answer
from tasks.github.credentials import Credential
from tasks.github.failures import AnswerTooLarge, InDoubt, Unanswered, message_of
from tasks.github.limits import LONGEST_WAIT_S, Limited, delay_s, lesson, limited, retry_after_s
from tasks.github.shared import End, Shared
from tasks.github.wire import prepared, send
from tasks.operation import Postponed, Run
from toolswarm.errors import OperationFailed
from toolswarm.messages import Priority

ACCEPT: Final = "application/vnd.github+json"
_USER_AGENT: Final = "toolswarm"
_SAFE: Final = frozenset(("GET", "HEAD"))
_TRIES: Final = 3
_REDIRECTS: Final = 3
_FAILING: Final = frozenset((500, 502, 503, 504))
_MOVED: Final = frozenset((301, 302, 307, 308))
_READ_POINTS, _WRITE_POINTS = 1, 5
_FIRST_PAUSE_S: Final = 0.2
_LOOKS_UP_S: Final = 0.25
_NOT_READY_PAUSE_S: Final = 0.5
_chance = random.SystemRandom()


class Exchange:
    """Sends for one call, and knows what it has cost and changed."""

    def __init__(self, settings: GithubSettings, credential: Credential, *, run: Run, shared: Shared) -> None:
        self._settings = settings
        self.credential: Final = credential
        self.run: Final = run
        self._shared = shared
        base = urlsplit(settings.base_url.rstrip("/"))
        self._origin = f"{base.scheme}://{base.netloc}"
        self._prefix = base.path
        self._harmless = False
        self._marked = False
        self.requests = 0
        self.changed = False
        """Whether a write went out that was not refused, so that something may be different now."""
        self.has_next = False
        """Whether the last answer was not the last page."""

    @contextmanager
    def preparing(self) -> Generator[None, None, None]:
        """Writes in the block are no effect: nobody sees them until a later one refers to them."""
        self._harmless = True
        try:
            yield
        finally:
            self._harmless = False

    def send(self, verb: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Ask GitHub; the answer may be any but a rate limit, a failure (5xx) of a write, or a redirect elsewhere.

        Raises:
            Postponed: a budget or limit is used up and the call has changed nothing.
            InDoubt: a write was sent and nobody knows whether it was done.
            OperationFailed: `upstream_unreachable`, `moved`, `not_ready`, `rate_limited`, and those of `wire`.
        """
        target = self._absolute(url)
        for _ in range(_REDIRECTS + 1):
            answer = (
                self._persistently(verb, target, headers, body)
                if verb in _SAFE
                else self._write(verb, target, headers, body)
            )
            if answer.status not in _MOVED or "location" not in answer.headers:
                self.has_next = 'rel="next"' in answer.headers.get("link", "")
                return answer
            target = self._moved(verb, target, answer.headers["location"])
        raise OperationFailed("GitHub redirects without an end; try again later", code="moved", before_effect=True)

    # -- reads and writes ------------------------------------------------------------------------------------

    def _persistently(self, verb: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        answer: Answer | None = None
        lost: Unanswered | None = None
        for attempt in range(_TRIES):
            try:
                answer, lost = self._once(verb, url, headers, body), None
            except Unanswered as error:
                answer, lost = None, error
            if answer is not None and answer.status not in _FAILING and answer.status != 202:
                return answer
            if answer is not None:
                self._heed(answer)
            pause_s = _NOT_READY_PAUSE_S if answer is not None and answer.status == 202 else _FIRST_PAUSE_S
            if attempt + 1 < _TRIES:
                self.pause(pause_s * 2**attempt * (0.5 + _chance.random() / 2))
        if lost is not None:
            raise lost
        assert answer is not None
        if answer.status == 202:
            raise OperationFailed(
                "GitHub is still working out the answer; try again in a minute",
                code="not_ready",
                retryable=True,
                before_effect=not self.changed,
            )
        return answer

    def _heed(self, answer: Answer) -> None:
        """Return when the answer does not name a time to come again.

        Raises:
            OperationFailed: it does; the call comes again then, and holds no slot meanwhile.
        """
        wait_s = retry_after_s(answer.headers.get("retry-after", ""), time.time())
        if wait_s is not None and wait_s > 0:
            raise OperationFailed(
                f"GitHub answers with status {answer.status} and asks to come again in {wait_s:.0f} s",
                code="upstream_failed",
                retryable=True,
                before_effect=not self.changed,
                status=answer.status,
                retry_after_s=min(wait_s, LONGEST_WAIT_S),
            )

    def _write(self, verb: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        try:
            answer = self._once(verb, url, headers, body)
        except Unanswered as error:
            if not error.sent or 400 <= error.status < 500:
                raise
            raise self._in_doubt(error.message, "upstream_unreachable", **error.details) from None
        except AnswerTooLarge as error:
            if self._harmless or 400 <= error.status < 500:
                raise
            message = "GitHub's answer to a write is longer than any is; look whether it was done"
            raise self._in_doubt(message, "answer_too_large", limit_bytes=error.limit_bytes) from None
        if answer.status >= 500:
            message = f"GitHub failed with status {answer.status} after the request was sent; look whether it was done"
            raise self._in_doubt(message, "upstream_failed", status=answer.status)
        if answer.status < 300:
            self.changed = self.changed or not self._harmless
            if answer.body and not _is_json(answer.body):
                message = "GitHub's answer to a write is not JSON; look whether it was done"
                raise self._in_doubt(message, "upstream_failed", status=answer.status)
        return answer

    def _in_doubt(self, message: str, code: str, **details: Any) -> OperationFailed:
        if self._harmless:
            return OperationFailed(message, code=code, retryable=True, before_effect=not self.changed, **details)
        self.changed = True
        return InDoubt(message, code=code, **details)

    # -- one request -----------------------------------------------------------------------------------------

    def _once(self, verb: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Send one request within the budgets, and learn from its answer."""
        wanted = {"Accept": ACCEPT, "User-Agent": _USER_AGENT, **headers}
        if "Authorization" not in wanted and (authorization := self.credential.authorization(self.run)):
            wanted["Authorization"] = authorization
        # Made first: what cannot be a URL of GitHub's is refused before anything is counted.
        request = prepared(self._shared.session, verb, url, headers=wanted, body=body)
        key = None
        if verb == "GET" and self._settings.conditional:
            key = conditional.key_of(self.credential.fingerprint, url, wanted["Accept"])
        wish = self._wish(url, reading=verb in _SAFE)
        granted, remembered = self._shared.take(self.run, wish, key)
        if isinstance(granted, Refusal):
            raise self._wait(granted.wait_s, strikes=granted.strikes, reason=granted.reason)
        known = conditional.unpacked(remembered)
        if known is not None:
            request.headers["If-None-Match"] = known.headers["etag"]
        answer = self._sent(request, wish, granted, key)
        if answer.status == 304 and known is not None:
            return conditional.still_holds(known, answer.headers)
        return answer

    def _sent(self, request: PreparedRequest, wish: Wish | None, granted: str, key: str | None) -> Answer:
        try:
            if request.method not in _SAFE and not self._harmless and not self._marked:
                self.run.begin_effect()
                self._marked = True
            self.requests += 1
            settings = self._settings
            answer = send(
                self._shared.session,
                self.run,
                request,
                timeout_s=settings.timeout_s,
                limit_bytes=settings.max_answer_bytes,
            )
        except BaseException:
            self._learn(wish, granted, None, None)
            raise
        if answer.status == 401:
            self.credential.refused()
        limit, standing = self._learn(wish, granted, answer, key)
        if limit is not None:
            reason = "primary_limit" if limit.primary else "secondary_limit"
            raise self._wait(standing.blocked_s, strikes=standing.strikes, reason=reason, status=answer.status)
        return answer

    def _wish(self, url: str, *, reading: bool) -> Wish | None:
        path = urlsplit(url).path.removeprefix(self._prefix)
        if path == "/rate_limit":
            return None
        bucket = "core"
        if path.startswith("/search/"):
            bucket = "code_search" if path == "/search/code" else "search"
        limits = self._settings.limits
        reserves = {Priority.NORMAL: limits.normal_reserve, Priority.BACKGROUND: limits.background_reserve}
        return Wish(
            credential=self.credential.fingerprint,
            bucket=bucket,
            points=_READ_POINTS if reading else _WRITE_POINTS,
            writes=0 if reading else 1,
            reserve=reserves.get(Priority(self.run.call.priority), 0.0),
        )

    def _learn(
        self, wish: Wish | None, granted: str, answer: Answer | None, key: str | None
    ) -> tuple[Limited | None, Standing]:
        """Tell the budgets how the request ended; the rate limit that the answer speaks of, and what follows."""
        limit: Limited | None = None
        learned: Lesson | None = None
        wish = wish or self._wish(f"{self._origin}{self._prefix}/", reading=True)
        assert wish is not None
        remembered = None
        if answer is not None:
            now = time.time()
            limit = limited(answer.status, answer.headers, _said(answer), now=now)
            learned = lesson(answer.headers, bucket=wish.bucket, now=now)
            packed = conditional.packed(answer, limit_bytes=self._settings.remember_bytes) if key else None
            remembered = (key, packed) if key and packed else None
        end = End(lesson=learned, limit=limit, well=answer is not None and answer.status < 400, remembered=remembered)
        return limit, self._shared.report(self.run, wish, granted, end)

    def _wait(self, wait_s: float, *, strikes: int, reason: str, status: int = 0) -> OperationFailed | Postponed:
        delay = delay_s(wait_s, strikes=strikes, chance=_chance)
        message = f"GitHub's rate limit is used up ({reason}); try again in {delay:.0f} s"
        details: dict[str, Any] = {"reason": reason, "retry_at": round(time.time() + delay, 3)}
        if status:
            details["status"] = status
        if self.changed:
            return OperationFailed(message, code="rate_limited", retryable=True, in_doubt=True, **details)
        return Postponed(message, delay_s=delay, code="rate_limited", **details)

    # -- where to --------------------------------------------------------------------------------------------

    def _absolute(self, url: str) -> str:
        if url.startswith("/"):
            return f"{self._origin}{self._prefix}{url}"
        return self._same_host(url)

    def _same_host(self, url: str) -> str:
        parts = urlsplit(url)
        if f"{parts.scheme}://{parts.netloc}" != self._origin or not parts.path.startswith(f"{self._prefix}/"):
            raise OperationFailed(
                "an answer of GitHub's leads to another host, which is not followed; check github.base_url",
                code="upstream_failed",
                before_effect=not self.changed,
                reason="foreign_link",
            )
        return url

    def _moved(self, verb: str, url: str, location: str) -> str:
        if verb not in _SAFE:
            raise OperationFailed(
                "the repository has moved, and a write does not follow it; use its new name",
                code="moved",
                before_effect=not self.changed,
            )
        return self._same_host(urljoin(url, location))

    def pause(self, seconds: float) -> bool:
        """Wait, but not longer than the call may; False when it is to stop."""
        ends_at = time.monotonic() + min(seconds, self.run.remaining_s())
        while not self.run.stop_requested() and (left_s := ends_at - time.monotonic()) > 0:
            time.sleep(min(_LOOKS_UP_S, left_s))
        return not self.run.stop_requested() and self.run.remaining_s() > 0

    def known(self, buckets: tuple[str, ...]) -> dict[str, Known]:
        """What all workers together know of the credential's rate buckets."""
        return self._shared.known(self.run, self.credential.fingerprint, buckets)


def _said(answer: Answer) -> str:
    """The message in the body of an error."""
    if answer.status not in (403, 429):
        return ""
    try:
        return message_of(msgspec.json.decode(answer.body)) or "?"
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return answer.body[:300].decode("utf-8", "replace")


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True
