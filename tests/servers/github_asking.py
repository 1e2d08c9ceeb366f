"""Plain HTTP to the fake GitHub, as a client would send it that follows nothing and adds nothing."""

from typing import Any, Self

import requests

from tests.servers.github import FakeGithub


class Api:
    """Asks with one token, or (None) as nobody."""

    def __init__(self, github: FakeGithub, token: str | None) -> None:
        self._url = github.url
        self.session = requests.Session()
        if token is not None:
            self.session.headers["Authorization"] = f"token {token}"

    def __call__(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.session.request(method, self._url + path, allow_redirects=False, timeout=20, **more)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
