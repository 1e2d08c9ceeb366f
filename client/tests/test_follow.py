"""`--follow`: what an operation says is printed while it runs, and then the value."""

import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from client.tests.scripted_gateway import CALL_ID, Answer, ScriptedGateway, ended, running, succeeded
from toolswarm.cli.main import main
from toolswarm.messages import CallEvent
from toolswarm.states import State

SUBMIT = "POST /v1/calls"
CALL = f"GET /v1/calls/{CALL_ID}"
EVENTS = f"GET /v1/calls/{CALL_ID}/events"
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.setenv("TOOLSWARM_URL", gateway.url)
    monkeypatch.setenv("TOOLSWARM_API_KEY", "the-key")

    def run(*words: str) -> tuple[int, str, str]:
        status = main(words)
        out, err = capsys.readouterr()
        return status, out, err

    return run


def said(*outputs: dict[str, Any], end: bool = True) -> Answer:
    """A stream of events in which the operation says this."""
    events = [("state", CallEvent(id=CALL_ID, state=State.RUNNING, at=1.0))]
    events += [("output", CallEvent(id=CALL_ID, state=State.RUNNING, at=1.0, output=output)) for output in outputs]
    if end:
        events.append(("state", CallEvent(id=CALL_ID, state=State.SUCCEEDED, at=2.0, result=succeeded(3))))
    return Answer(
        chunks=tuple(b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(event)) for name, event in events)
    )


def is_running(gateway: ScriptedGateway, *outputs: dict[str, Any], end: bool = True) -> None:
    gateway.answers(SUBMIT, running())
    gateway.answers(CALL, running(), succeeded(3))
    gateway.answers(EVENTS, said(*outputs, end=end))


def test_text_goes_to_its_stream_and_the_value_comes_last(gateway: ScriptedGateway, cli: Cli) -> None:
    is_running(gateway, *({"stream": stream, "text": f"to {stream}\n"} for stream in ("stdout", "stderr", "stdout")))

    assert cli("call", "x", "--follow") == (0, "to stdout\nto stdout\n3\n", "to stderr\n")


def test_what_is_no_text_is_a_line_of_json_on_stderr(gateway: ScriptedGateway, cli: Cli) -> None:
    is_running(gateway, {"done": 3, "of": 5}, {"stream": "stdout", "text": 5}, {"stream": "log", "text": "a\nb"})

    status, out, err = cli("call", "x", "--follow")

    assert (status, out) == (0, "3\n")
    assert [msgspec.json.decode(line) for line in err.splitlines()] == [
        {"done": 3, "of": 5},
        {"stream": "stdout", "text": 5},
        {"stream": "log", "text": "a\nb"},
    ]


def test_with_json_stdout_has_the_one_document(gateway: ScriptedGateway, cli: Cli) -> None:
    is_running(gateway, {"stream": "stdout", "text": "hello\n"})

    status, out, err = cli("call", "x", "--follow", "--json")

    assert (status, msgspec.json.decode(out)["value"]) == (0, 3)
    assert msgspec.json.decode(err) == {"stream": "stdout", "text": "hello\n"}


def test_a_line_that_was_left_open_is_ended_before_the_value(gateway: ScriptedGateway, cli: Cli) -> None:
    is_running(gateway, {"stream": "stdout", "text": "50 %"}, {"stream": "stdout", "text": " … 100 %"})

    assert cli("call", "x", "--follow") == (0, "50 % … 100 %\n3\n", "")


def test_a_stream_that_breaks_is_told_and_the_end_is_waited_for(gateway: ScriptedGateway, cli: Cli) -> None:
    is_running(gateway, {"stream": "stdout", "text": "hello\n"}, end=False)

    status, out, err = cli("call", "x", "--follow")

    assert (status, out) == (0, "hello\n3\n")
    assert err == "cannot follow the call any more (gateway_unreachable); waiting for its end\n"


def test_a_gateway_without_events_is_no_obstacle(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers(SUBMIT, running())
    gateway.answers(CALL, running(), ended(State.FAILED))

    status, out, err = cli("call", "x", "--follow")

    assert (status, out) == (1, "")
    assert err.endswith("error: not_found: there is no such file\n")


def test_a_call_that_has_ended_already_is_not_followed(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers(SUBMIT, succeeded(3))

    assert cli("call", "x", "--follow") == (0, "3\n", "")
    assert gateway.asked_for(EVENTS) == []


def test_result_follows_too_and_waits(gateway: ScriptedGateway, cli: Cli) -> None:
    is_running(gateway, {"stream": "stdout", "text": "hello\n"})

    assert cli("result", CALL_ID, "--follow") == (0, "hello\n3\n", "")


def test_the_timeout_holds_while_the_call_is_followed(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers(SUBMIT, running())
    gateway.answers(CALL, running())
    gateway.answers(EVENTS, said(end=False))

    assert cli("call", "x", "--follow", "--timeout", "0.2")[0] == 4


def test_a_terminal_is_not_steered_by_what_an_operation_says(
    gateway: ScriptedGateway, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    is_running(gateway, {"stream": "stdout", "text": "a\tb\x1b[2J\n"})

    assert cli("call", "x", "--follow")[1] == "a\tb\\x1b[2J\n3\n"
