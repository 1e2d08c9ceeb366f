"""The sessions of one worker process: whose they are, and how many; they end with the worker.

A session that is not here answers `session_lost`, whether it is another tenant's, another worker's, or never was.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager

from store.tool_settings import Desktop
from tasks.confined import shown
from tasks.desktop.session import Session
from toolswarm.errors import OperationFailed


class Sessions:
    """All of them by their id. What has ended can be read for as long as it might have been left alone."""

    def __init__(self, settings: Desktop) -> None:
        self._limit = settings.sessions
        self._sessions: dict[str, Session] = {}
        self._starting: dict[str, int] = {}

    @contextmanager
    def room(self, tenant: str) -> Generator[None, None, None]:
        """Hold a place for a session that is being started.

        Raises:
            OperationFailed: `too_many_sessions`.
        """
        starting = self._starting.get(tenant, 0)
        if starting + sum(session.running for session in self.of(tenant)) >= self._limit:
            raise OperationFailed(
                f"you have {self._limit} sessions in this worker; end one with process_stop, or wait",
                code="too_many_sessions",
                retryable=True,
                before_effect=True,
            )
        self._starting[tenant] = starting + 1
        try:
            yield
        finally:
            self._starting[tenant] -= 1
            if not self._starting[tenant]:
                del self._starting[tenant]

    def add(self, session: Session) -> None:
        """A session has been started."""
        self._sessions[session.terms.id] = session

    def get(self, session_id: str, tenant: str) -> Session:
        """A session of the tenant.

        Raises:
            OperationFailed: `session_lost`.
        """
        self._forget_old()
        session = self._sessions.get(session_id)
        if session is None or session.terms.tenant != tenant:
            raise OperationFailed(
                f"session_id {shown(session_id)} is no session: it was stopped and forgotten, its worker has ended, or "
                "it never was; start a new one with process_start",
                code="session_lost",
                before_effect=True,
            )
        return session

    def of(self, tenant: str) -> list[Session]:
        """The tenant's sessions, the oldest first."""
        self._forget_old()
        return [session for session in self._sessions.values() if session.terms.tenant == tenant]

    def _forget_old(self) -> None:
        now = time.monotonic()
        ended: dict[str, list[Session]] = {}
        for session in self._sessions.values():
            if not session.running:
                ended.setdefault(session.terms.tenant, []).append(session)
        for of_tenant in ended.values():
            of_tenant.sort(key=lambda session: session.ended_at)
            kept = of_tenant[-self._limit :]
            for session in of_tenant:
                if session not in kept or now - session.ended_at > session.terms.idle_timeout_s:
                    del self._sessions[session.terms.id]
