"""PyGithub, set up so that it neither waits nor repeats on its own, one object for each thread."""

import threading
from urllib.parse import urlsplit

from github import Auth, Github
from urllib3.util import Retry

from store.configuration import Configuration
from store.tool_settings import Github as GithubSettings

_USER_AGENT = "toolswarm"


class Clients:
    """What the operations of `github` share: the settings, and a client for the thread that asks."""

    def __init__(self, settings: GithubSettings) -> None:
        self._settings = settings
        self._of_thread = threading.local()
        self.default_owner = settings.default_owner
        self.host = urlsplit(settings.base_url).netloc.rpartition("@")[2]

    @classmethod
    def open(cls, configuration: Configuration) -> "Clients":
        """The clients of one worker process; connects to nothing yet."""
        return cls(configuration.github)

    @property
    def github(self) -> Github:
        """This thread's client: PyGithub's objects change while they are read, so they are never shared."""
        client: Github | None = getattr(self._of_thread, "client", None)
        if client is None:
            client = self._of_thread.client = self._make()
        return client

    def _make(self) -> Github:
        settings = self._settings
        return Github(
            auth=Auth.Token(settings.token.reveal()) if settings.token else None,
            base_url=settings.base_url.rstrip("/"),
            timeout=max(1, round(settings.timeout_s)),
            user_agent=_USER_AGENT,
            retry=_retry(),
            seconds_between_requests=0,
            seconds_between_writes=0,
            lazy=True,
        )


def _retry() -> Retry:
    """Only what is safe and quick to repeat: a slow answer or a rate limit would hold the slot, and is reported."""
    return Retry(
        total=2,
        connect=1,
        read=1,
        status=2,
        redirect=0,
        allowed_methods=("GET", "HEAD"),
        status_forcelist=(500, 502, 503, 504),
        respect_retry_after_header=False,
        raise_on_status=False,
        backoff_factor=0.1,
    )
