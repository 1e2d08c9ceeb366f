"""PyGithub sends nothing but through our own exchange."""

import inspect
from collections.abc import Callable
from operator import methodcaller
from typing import Any

import github
import pytest
from github.Requester import Requester

from tasks.github.requester import ExchangeGithub, ExchangeRequester
from tests.servers.github import ALICE_TOKEN, FakeGithub
from tests.tasks.github_calls import github_calls

PUBLIC_SENDERS = {
    *("requestJson", "requestMultipart", "requestBlob", "requestMemoryBlobAndCheck", "getStream"),
}
"""What in PyGithub 2.10 calls the private method that sends."""


def test_every_way_to_send_is_ours() -> None:
    senders = {
        name
        for name, method in inspect.getmembers(Requester, inspect.isfunction)
        if "__requestEncode(" in inspect.getsource(method) and not name.startswith("_Requester__")
    }

    assert senders == PUBLIC_SENDERS
    assert all(name in vars(ExchangeRequester) for name in senders)


def test_the_main_object_is_made_of_its_requester_alone(fake_github: FakeGithub) -> None:
    with github_calls(fake_github.url) as calls, calls.clients.for_call(calls.run()) as call:
        plain = github.Github(base_url=fake_github.url)

        assert isinstance(call.client, ExchangeGithub)
        assert vars(call.client).keys() == vars(plain).keys()
        assert isinstance(call.client.requester, ExchangeRequester)
        assert call.client.requester.auth is None
        assert ALICE_TOKEN not in repr(vars(call.client.requester))


@pytest.mark.parametrize(
    "send",
    [
        methodcaller("requestMultipart", "POST", "/x"),
        methodcaller("requestBlob", "POST", "/x", input="/etc/passwd"),
        methodcaller("requestMemoryBlobAndCheck", "POST", "/x", None, {}, None),
        methodcaller("getStream", "/x"),
        methodcaller("getFile", "/x", "/tmp/x"),
        methodcaller("withAuth", None),
    ],
    ids=str,
)
def test_what_would_pass_by_is_refused(fake_github: FakeGithub, send: Callable[[Any], Any]) -> None:
    with (
        github_calls(fake_github.url) as calls,
        calls.clients.for_call(calls.run()) as call,
        pytest.raises(RuntimeError),
    ):
        send(call.client.requester)

    assert fake_github.requests == []


def test_lazy_objects_stay_with_the_call(fake_github: FakeGithub) -> None:
    with github_calls(fake_github.url) as calls, calls.clients.for_call(calls.run()) as call:
        repository = call.repository("alice/demo")
        issue = repository.get_issue(1)

        assert call.api_requests == 0
        assert issue.requester is repository.requester is call.client.requester
        assert issue.title == "Login fails"
        assert call.api_requests == 1
