"""The table of errors, and what an unforeseen one looks like from outside."""

import inspect
import logging

import pytest

from gateway.errors import problem_of
from tests.gateway.serving import Served
from toolswarm import errors
from toolswarm.errors import CallEnded, ToolswarmError
from toolswarm.messages import ErrorInfo, ToolResult
from toolswarm.states import State

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLASSES = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, ToolswarmError)]


@pytest.mark.parametrize("kind", CLASSES)
async def test_every_error_has_a_problem_of_its_own(kind: type[ToolswarmError]) -> None:
    result = ToolResult(id="x", status=State.FAILED, error=ErrorInfo(code="some_code", message="m"))
    error = kind(result) if issubclass(kind, CallEnded) else kind("m")

    problem = problem_of(error)

    assert 400 <= problem.status < 600
    assert problem.type.startswith("/problems/")
    assert "_" not in problem.type
    assert problem.title
    assert problem.detail == "m"


async def test_an_unforeseen_error_shows_an_incident_and_nothing_else(
    gateway: Served, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.front.raising["submit"] = ValueError("canary-internal")

    answer = await gateway.http.post("/v1/calls", json={"operation": "echo.say"})

    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems/internal"
    assert "canary" not in answer.text
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert answer.json()["details"]["incident"] in record.getMessage()
    assert record.exc_info is not None


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/calls/", "/v2/calls", "/tools/echo", "/v1/calls/a/b", "/../etc"])
async def test_an_unknown_path_is_a_problem(gateway: Served, path: str) -> None:
    answer = await gateway.http.get(path)

    assert answer.status_code == 404
    assert answer.json()["type"] == "/problems/no-such-path"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/v1/calls", "POST"), ("PUT", "/v1/calls/x", "DELETE, GET"), ("POST", "/healthz", "GET, HEAD")],
)
async def test_a_wrong_method_is_told_the_right_ones(gateway: Served, method: str, path: str, allowed: str) -> None:
    answer = await gateway.http.request(method, path)

    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert answer.json()["type"] == "/problems/method-not-allowed"
