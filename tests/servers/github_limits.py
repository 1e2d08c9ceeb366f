"""The fake's rate limits, counted as GitHub does: for each person and bucket; secondary limits on request."""

from collections import defaultdict, deque
from dataclasses import dataclass, field

from tests.servers.github_routes import Json, Refused
from tests.servers.github_world import Viewer

DEFAULT_LIMITS = {"core": 5000, "search": 30, "code_search": 10}
_ANONYMOUS_LIMITS = {"core": 60, "search": 10, "code_search": 10}
_WINDOWS_S = {"core": 3600.0, "search": 60.0, "code_search": 60.0}
PRIMARY = (
    "API rate limit exceeded for user ID 1. If you reach out to GitHub Support for help, please include the request ID."
)
SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. If you reach out to "
    "GitHub Support for help, please include the request ID."
)
ABUSE = "You have triggered an abuse detection mechanism. Please wait a few minutes before you try again."


class OverLimit(Refused):
    """A limit is used up; such a refusal does not count itself."""


@dataclass(kw_only=True)
class Window:
    """What one person has used of one bucket."""

    limit: int
    used: int
    reset_at: float

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)


def bucket_of(path: str) -> str:
    """Which bucket a request counts for; empty when for none."""
    if path == "/rate_limit":
        return ""
    if path.startswith("/search/"):
        return "code_search" if path == "/search/code" else "search"
    return "core"


@dataclass(kw_only=True)
class Limits:
    """All counters; the secondary limits are off (None) until a test sets them: GitHub's own are in the comments."""

    limits: dict[str, int] = field(default_factory=lambda: dict(DEFAULT_LIMITS))
    content_per_minute: int | None = None  # 80
    content_per_hour: int | None = None  # 500
    points_per_minute: int | None = None  # 900: a read costs 1, a write 5
    concurrent: int | None = None  # 100
    retry_after_s: int = 60
    """What a refusal by a secondary limit says."""
    highest_concurrency: int = 0
    """The most requests that were ever in work at once."""
    _windows: dict[tuple[str, str], Window] = field(default_factory=dict[tuple[str, str], Window])
    _running: int = 0
    _times: defaultdict[tuple[str, str], deque[float]] = field(default_factory=lambda: defaultdict(deque))

    def window(self, viewer: Viewer, bucket: str, now: float) -> Window:
        """The counter, started anew when its time is over."""
        key = (viewer.budget, bucket)
        found = self._windows.get(key)
        if found is None or now >= found.reset_at:
            limit = self.limits[bucket] if viewer.budget else _ANONYMOUS_LIMITS[bucket]
            found = self._windows[key] = Window(limit=limit, used=0, reset_at=now + _WINDOWS_S[bucket])
        return found

    def set(
        self, viewer: Viewer, bucket: str, now: float, *, remaining: int | None = None, reset_in_s: float | None = None
    ) -> None:
        """Let a person have so much left, for so long."""
        found = self.window(viewer, bucket, now)
        if remaining is not None:
            found.used = found.limit - remaining
        if reset_in_s is not None:
            found.reset_at = now + reset_in_s

    def headers(self, viewer: Viewer, bucket: str, now: float) -> dict[str, str]:
        """What every answer says of the limit."""
        shown = bucket or "core"
        found = self.window(viewer, shown, now)
        return {
            "X-RateLimit-Limit": str(found.limit),
            "X-RateLimit-Remaining": str(found.remaining),
            "X-RateLimit-Used": str(found.used),
            "X-RateLimit-Reset": str(int(found.reset_at)),
            "X-RateLimit-Resource": shown,
        }

    def overview(self, viewer: Viewer, now: float, example: Json) -> Json:
        """The body of /rate_limit."""
        figures = dict(example["resources"])
        for bucket in DEFAULT_LIMITS:
            found = self.window(viewer, bucket, now)
            figures[bucket] = {
                "limit": found.limit,
                "used": found.used,
                "remaining": found.remaining,
                "reset": int(found.reset_at),
            }
        return {"resources": figures, "rate": figures["core"]}

    def check(self, viewer: Viewer, bucket: str, method: str, now: float) -> None:
        """Refuse a request that is over a limit.

        Raises:
            OverLimit: 403, as GitHub says it.
        """
        if bucket and self.window(viewer, bucket, now).remaining == 0:
            raise OverLimit(403, PRIMARY)
        if self.concurrent is not None and self._running > self.concurrent:
            self._refuse()
        writes = method not in ("GET", "HEAD")
        for name, limit, seconds, cost in (
            ("points", self.points_per_minute, 60, 5 if writes else 1),
            ("content in a minute", self.content_per_minute, 60, int(writes)),
            ("content in an hour", self.content_per_hour, 3600, int(writes)),
        ):
            times = self._times[viewer.budget, name]
            while times and times[0] <= now - seconds:
                times.popleft()
            if limit is not None and cost and len(times) + cost > limit:
                self._refuse()
            times.extend([now] * cost)

    def charge(self, viewer: Viewer, bucket: str, now: float) -> None:
        """Count a request."""
        if bucket:
            self.window(viewer, bucket, now).used += 1

    def enter(self) -> None:
        """One more request is in work."""
        self._running += 1
        self.highest_concurrency = max(self.highest_concurrency, self._running)

    def leave(self) -> None:
        """One less."""
        self._running -= 1

    def _refuse(self) -> None:
        raise OverLimit(403, SECONDARY, headers={"Retry-After": str(self.retry_after_s)})
