"""Answers that are remembered with their validator, so that asking for them again costs no quota.

GitHub is asked every time, with `If-None-Match`: nothing is ever served without its word (304), so our own write is
seen by our next read. An answer is found again only by who got it: the key holds the credential's fingerprint.
"""

import hashlib
from collections.abc import Mapping

import msgspec

from store import keys

_KEPT_HEADERS = frozenset(("content-type", "link", "last-modified", "etag"))


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of GitHub's; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def key_of(credential: str, url: str, accept: str) -> str:
    """Where the answer to this GET is remembered."""
    digest = hashlib.sha256("\x00".join((credential, "GET", url, accept)).encode()).hexdigest()
    return keys.answer_key(digest)


def packed(answer: Answer, *, limit_bytes: int) -> bytes | None:
    """The answer as it is remembered; None when it cannot be asked for again, or is too large."""
    if answer.status != 200 or not answer.headers.get("etag") or len(answer.body) > limit_bytes:
        return None
    kept = {name: value for name, value in answer.headers.items() if name in _KEPT_HEADERS}
    return msgspec.msgpack.encode(Answer(status=200, headers=kept, body=answer.body))


def unpacked(remembered: bytes | None) -> Answer | None:
    """The remembered answer; None when there is none, or it is not one of ours."""
    if remembered is None:
        return None
    try:
        answer = msgspec.msgpack.decode(remembered, type=Answer)
    except msgspec.MsgspecError:
        return None
    return answer if answer.headers.get("etag") else None


def still_holds(answer: Answer, headers: Mapping[str, str]) -> Answer:
    """The remembered answer under the headers of the 304 that confirmed it."""
    return Answer(status=200, headers=answer.headers | dict(headers), body=answer.body)
