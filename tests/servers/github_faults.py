"""What can go wrong on the way to GitHub and there: declared as data, so that other processes can ask for it too."""

import random
import re
import threading
from typing import Literal

import msgspec

from tests.servers.github_limits import ABUSE, PRIMARY, SECONDARY

Kind = Literal[
    "status", "reset", "hang", "truncate", "garbage", "slow", "redirect", "link", "endless", "bomb", "no_headers"
]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to fail, for requests that fit; see the functions below for the usual ones."""

    kind: Kind
    """`status`: answer `status` and `message`. `reset`: break the connection. `hang`: answer nothing, until the client
    goes away. `truncate`: half of the true answer. `garbage`: 200 with HTML. `slow`: `delay_s`, then the true answer.
    `redirect`: to `url`. `link`: the true answer, with a Link header whose next page is at `url`. `endless`: a body
    without end. `bomb`: a small gzip body that becomes 256 MiB. `no_headers`: the true answer without rate limits."""
    after: bool = False
    """The request has its effect first: only its answer is lost. True of the faults that spoil the true answer."""
    times: int | None = 1
    """How often; None: for ever."""
    probability: float = 1.0
    method: str = ""
    """Regular expression for the whole method; empty: any."""
    path: str = ""
    """Regular expression found somewhere in the path; empty: any."""
    status: int = 502
    message: str = ""
    """Empty: not GitHub answers but something before it, in HTML."""
    headers: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    reset_in_s: float | None = None
    """Say that nothing remains of the rate limit until then."""
    delay_s: float = 0.0
    url: str = ""

    @property
    def hides_answer(self) -> bool:
        """Whether something else comes instead of the true answer; the others come after the effect in any case."""
        return self.kind not in ("truncate", "slow", "link", "no_headers")

    def on(self, method: str = "", path: str = "") -> "Fault":
        """The same for some requests only."""
        return msgspec.structs.replace(self, method=method, path=path)

    def always(self, probability: float = 1.0) -> "Fault":
        """The same for ever, or each time with a probability."""
        return msgspec.structs.replace(self, times=None, probability=probability)


def bad_gateway(*, after: bool = False, status: int = 502) -> Fault:
    """502; with `after` the request was done all the same."""
    return Fault(kind="status", after=after, status=status)


def reset(*, after: bool = False) -> Fault:
    """The connection breaks."""
    return Fault(kind="reset", after=after)


def hang(*, after: bool = False) -> Fault:
    """No answer comes."""
    return Fault(kind="hang", after=after)


def primary(*, reset_in_s: float = 60.0, status: int = 403) -> Fault:
    """The hourly limit is used up."""
    return Fault(kind="status", status=status, message=PRIMARY, reset_in_s=reset_in_s)


def secondary(*, retry_after: str | None = "60", status: int = 403) -> Fault:
    """A secondary limit is hit."""
    return Fault(kind="status", status=status, message=SECONDARY, headers=_retry_after(retry_after))


def abuse(*, retry_after: str | None = None) -> Fault:
    """As GitHub said it in former years, and some servers still do."""
    return Fault(kind="status", status=403, message=ABUSE, headers=_retry_after(retry_after))


def too_many(*, retry_after: str | None = None) -> Fault:
    """429; `retry_after` is sent as it is, whatever it says."""
    return Fault(kind="status", status=429, message="Too many requests.", headers=_retry_after(retry_after))


def forbidden() -> Fault:
    """A plain 403, which is no limit."""
    return Fault(kind="status", status=403, message="Resource not accessible by personal access token")


def accepted() -> Fault:
    """202 without end: GitHub is still computing."""
    return Fault(kind="status", status=202, message="Accepted", times=None)


def redirect(url: str, *, status: int = 301) -> Fault:
    """Go elsewhere."""
    return Fault(kind="redirect", url=url, status=status)


def _retry_after(value: str | None) -> dict[str, str]:
    return {} if value is None else {"Retry-After": value}


class Plan:
    """The faults to come. Chances are drawn from a seed, so that a run can be repeated."""

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._left: list[tuple[Fault, int | None]] = []

    def seed(self, seed: int) -> None:
        """Draw from this seed now."""
        self._random = random.Random(seed)

    def add(self, *faults: Fault) -> None:
        """Expect these too; for one request the first that fits is taken."""
        with self._lock:
            self._left.extend((fault, fault.times) for fault in faults)

    def clear(self) -> None:
        """Let everything work."""
        with self._lock:
            self._left.clear()

    def pick(self, method: str, path: str) -> Fault | None:
        """The fault of this request."""
        with self._lock:
            for number, (fault, left) in enumerate(self._left):
                if left == 0 or not _fits(fault, method, path) or self._random.random() >= fault.probability:
                    continue
                self._left[number] = (fault, None if left is None else left - 1)
                return fault
        return None


def _fits(fault: Fault, method: str, path: str) -> bool:
    return (not fault.method or re.fullmatch(fault.method, method) is not None) and (
        not fault.path or re.search(fault.path, path) is not None
    )
