"""PyGithub over our own exchange: its objects and types, none of its waiting, repeating and following.

Everything that PyGithub sends passes `requestJson`; what would pass elsewhere (uploads, streams, another credential)
is refused. `tests/tasks/test_github_requester.py` holds PyGithub to that.
"""

import json
from typing import Any, NoReturn

from github import Github
from github.Requester import Requester

from tasks.github.exchange import Exchange

_NOT_USED = 15


class ExchangeRequester(Requester):
    """The requester of one call."""

    def __init__(self, exchange: Exchange, *, base_url: str) -> None:
        super().__init__(
            None,  # the credential is the exchange's: PyGithub never sees it
            base_url,
            _NOT_USED,
            "toolswarm",
            30,
            True,
            None,
            None,
            seconds_between_requests=0,
            seconds_between_writes=0,
            lazy=True,
        )
        self._exchange = exchange

    def requestJson(
        self,
        verb: str,
        url: str,
        parameters: dict[str, Any] | None = None,
        headers: dict[str, Any] | None = None,
        input: Any | None = None,
        cnx: Any = None,
        follow_302_redirect: bool = False,
    ) -> tuple[int, dict[str, Any], str]:
        """Send one request; redirects are the exchange's business."""
        del cnx, follow_302_redirect
        target = self.add_parameters_to_url(url, parameters or {})
        body = None if input is None else json.dumps(input).encode()
        typed = {"Content-Type": "application/json"} if body is not None else {}
        sent = {name: str(value) for name, value in (headers or {}).items()}
        answer = self._exchange.send(verb, target, headers=typed | sent, body=body)
        return answer.status, dict(answer.headers), answer.body.decode("utf-8", "replace")

    def withLazy(self, lazy: Any) -> Requester:
        """Stays as it is: lazy."""
        del lazy
        return self

    def withApiVersion(self, api_version: str | None) -> Requester:
        """Stays as it is."""
        del api_version
        return self

    def withAuth(self, auth: Any) -> NoReturn:
        """Refused: the credential is the call's."""
        raise RuntimeError("another credential is not used within a call")

    def requestMultipart(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: not counted, not bounded."""
        raise RuntimeError("multipart requests are not sent")

    def requestBlob(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: reads a file of this machine."""
        raise RuntimeError("files are not uploaded")

    def requestMemoryBlobAndCheck(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: not counted, not bounded."""
        raise RuntimeError("uploads are not sent")

    def getStream(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: not counted, not bounded."""
        raise RuntimeError("streams are not read")


class ExchangeGithub(Github):
    """PyGithub's main object over a requester of ours; its own constructor can only make one of its own."""

    def __init__(self, requester: ExchangeRequester) -> None:
        self._Github__requester = requester
