"""What the operations of `github` share, and how each call gets its client.

```python
@operation(effect=Effect.VERIFIABLE, marks_effect=True, probe=_probe_label, from_context={"repo": "repo"})
def create_label(clients: Clients, run: Run, *, repo: Repo, name: …) -> Label:
    \"\"\"Create a label.\"\"\"
    with clients.for_call(run) as github:             # one GithubCall; what goes wrong in it comes out as our errors
        full_name = github.full_name(repo)            # checked, and its owner filled in
        github.about(f"label {name} in {full_name}")  # what errors speak of
        return github.once(                           # POST; after a 502, reset or timeout: look, never a second POST
            lambda: _shown(github.repository(full_name).create_label(name, "ededed"), github),
            look=lambda: _look(github, full_name, name),  # the result, or NOT_DONE
        )
```

- `github.client` is PyGithub's main object for this call, lazy; `github.repository(full_name)` a repository, of which
  nothing was asked yet. PyGithub's objects belong to the call: none is kept.
- `github.page(found, key=…, limit=…, cursor=…)` is one page of a PaginatedList, in one request.
- `github.json(verb, path, parameters=…, body=…)` is a plain answer, where PyGithub has no method for it.
- `github.api_requests` counts what was sent: it goes into the result's field `api_requests`.
- The layer marks the effect itself, once the budget is granted and right before the call's first request that is
  neither GET nor HEAD. So whatever writes is declared with `marks_effect=True`. What nobody can see of it (a blob, a
  tree, a commit without a reference) goes into `with github.preparing():` and is no effect.
- A probe opens its own `with clients.for_call(run) as github:` and only reads.
- A rate limit raises `Postponed` while the call has changed nothing; everything else is `OperationFailed`.
"""

import ipaddress
from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import urlsplit

from store.configuration import Configuration
from tasks.github.call import GithubCall
from tasks.github.credentials import Credentials
from tasks.github.exchange import Exchange
from tasks.github.names import web_host_of
from tasks.github.owners import Owners
from tasks.github.shared import Shared
from tasks.operation import Run
from toolswarm.errors import ConfigurationError


class Clients:
    """One worker process's way to GitHub: credentials, connections of each thread, budgets and remembered answers."""

    def __init__(self, configuration: Configuration) -> None:
        base = urlsplit(configuration.github.base_url)
        if base.scheme not in ("http", "https") or not base.hostname or base.query or base.fragment or base.username:
            raise ConfigurationError("github.base_url must be like https://api.github.com or https://HOST/api/v3")
        if base.scheme == "http" and not _is_loopback(base.hostname) and not configuration.github.allow_plain_http:
            raise ConfigurationError(
                "github.base_url is http:// on another machine, so tokens would travel in clear; use https://, or set"
                " github.allow_plain_http = true if the way there is safe"
            )
        self._settings = configuration.github
        self._shared = Shared(configuration)
        self._credentials = Credentials(configuration.github, self._shared)
        self.templates = configuration.github.templates
        self._owners = Owners(web_host_of(configuration.github.base_url))
        self.host = base.netloc

    @classmethod
    def open(cls, configuration: Configuration) -> "Clients":
        """The clients of one worker process; connects to nothing yet.

        Raises:
            ConfigurationError: a setting of `github` is wrong; the message names it.
        """
        return cls(configuration)

    async def close(self) -> None:
        """Close what is open on the running loop; bears being called twice."""
        await self._shared.close()

    @contextmanager
    def for_call(self, run: Run) -> Generator[GithubCall, None, None]:
        """A client for one call, with its tenant's credential.

        Raises:
            Postponed: a rate limit or budget is used up, and nothing was changed.
            OperationFailed: with the codes of `failures`.
        """
        run.executed_on(self.host)
        credential = self._credentials.of(run.call.tenant)
        exchange = Exchange(self._settings, credential, run=run, shared=self._shared)
        call = GithubCall(exchange, base_url=self._settings.base_url.rstrip("/"), owners=self._owners)
        with call.asking():
            yield call


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name: who answers to it is another machine's word
