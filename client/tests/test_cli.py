"""The command `toolswarm`: what it prints, and the exit status of each end."""

import io
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import pytest

from client.tests.scripted_gateway import (
    CALL_ID,
    READ_FILE,
    Answer,
    ScriptedGateway,
    ended,
    problem,
    running,
    succeeded,
)
from toolswarm.cli.main import main
from toolswarm.messages import Effect, Operation, Priority, Route, RouteReason, SwarmStatus, WorkerStatus
from toolswarm.states import State

SUBMIT = "POST /v1/calls"
CALL = f"GET /v1/calls/{CALL_ID}"


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    def json(self) -> Any:
        return msgspec.json.decode(self.out)


Cli = Callable[..., Ran]


@pytest.fixture
def cli(gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.setenv("TOOLSWARM_URL", gateway.url)
    monkeypatch.setenv("TOOLSWARM_API_KEY", "the-key")

    def run(*words: str, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = main(words)
        out, err = capsys.readouterr()
        return Ran(status, out, err)

    return run


def test_call_prints_the_content_of_a_text_as_it_is(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers(SUBMIT, succeeded({"content": "a\nb", "size_bytes": 3}))

    assert cli("call", "read_file", "path=a") == (0, "a\nb", "")
    assert gateway.asked[0].json()["arguments"] == {"path": "a"}


@pytest.mark.parametrize("value", [{"a": [1]}, {"content": 3}, ["x"], "text", None])
def test_call_prints_any_other_value_as_json(value: Any, gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers(SUBMIT, succeeded(value))

    ran = cli("call", "x")

    assert (ran.status, ran.json(), ran.err) == (0, value, "")


def test_call_waits_for_the_end_and_prints_the_whole_result_with_json(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers(SUBMIT, running())
    gateway.answers(CALL, running(), succeeded(7))

    ran = cli("call", "x", "--json")

    assert (ran.status, ran.json()["status"], ran.json()["value"]) == (0, "succeeded", 7)


def test_the_flags_of_a_call_arrive(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers(SUBMIT, succeeded(1))
    flags = "--priority interactive --repo a/b --host web --idempotency-key k --deadline 60 --no-cache --timeout 9"

    cli("call", "x", "path=a", *flags.split())

    body = gateway.asked[0].json()
    assert (body["priority"], body["cache"], body["idempotency_key"]) == ("interactive", "skip", "k")
    assert body["context"] == {"repo": "a/b", "host": "web"}
    assert body["deadline"] > 1_700_000_000


def test_a_value_that_could_be_a_number_is_coerced_by_the_schema(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers(SUBMIT, succeeded(1))
    gateway.answers("GET /v1/tools/read_file", {"operations": [READ_FILE]})

    cli("call", "read_file", "path=12", "limit=12")

    assert gateway.asked_for(SUBMIT)[0].json()["arguments"] == {"path": "12", "limit": 12}


def test_arguments_can_come_from_standard_input(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers(SUBMIT, succeeded(1))

    cli("call", "read_file", "-", stdin='{"path": "x"}')

    assert gateway.asked[0].json()["arguments"] == {"path": "x"}


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (ended(State.FAILED), 1, "error: not_found: there is no such file\n"),
        (ended(State.CANCELLED, "cancelled"), 1, "error: cancelled: there is no such file\n"),
        (ended(State.EXPIRED, "expired"), 1, "error: expired: there is no such file\n"),
        (problem("invalid_arguments", 422, "path is missing"), 2, "error: invalid_arguments: path is missing\n"),
        (problem("made_up", 400, "no"), 2, "error: made_up: no\n"),
        (problem("authentication_failed", 401, "wrong key"), 2, "error: authentication_failed: wrong key\n"),
        (
            problem("broker_unavailable", 503, "the broker is down"),
            3,
            "error: broker_unavailable: the broker is down\n",
        ),
        (problem("internal", 500, "incident 1"), 3, "error: internal: incident 1\n"),
    ],
)
def test_each_end_has_its_exit_status_and_message(
    answer: object, status: int, message: str, gateway: ScriptedGateway, cli: Cli
) -> None:
    gateway.answers(SUBMIT, answer)

    plain, json = cli("call", "x"), cli("call", "x", "--json")

    assert plain == (status, "", message)
    assert (json.status, json.err) == (status, message)
    assert json.json()["error"]["message"]


def test_an_unknown_outcome_shows_its_evidence(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers(SUBMIT, ended(State.UNKNOWN, "worker_lost", worker="w1"))

    ran = cli("call", "x")

    assert ran.status == 5
    assert "w1" in ran.err


def test_the_nearest_operation_is_offered(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers(SUBMIT, problem("unknown_operation", 404, "there is no raed_file", nearest=["read_file"]))

    ran = cli("call", "raed_file", "path=a")

    assert ran.status == 2
    assert ran.err == "error: unknown_operation: there is no raed_file; did you mean read_file?\n"


def test_control_characters_of_an_error_do_not_reach_the_terminal(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers(SUBMIT, problem("invalid_request", 400, "\x1b[2Jgone"))

    assert "\x1b" not in cli("call", "x").err


def test_a_call_that_goes_on_exits_with_4(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers(SUBMIT, running())
    gateway.answers(CALL, running())

    ran = cli("call", "x", "--timeout", "0.2")

    assert (ran.status, CALL_ID in ran.err) == (4, True)


def test_a_gateway_that_is_not_there_exits_with_3(cli: Cli) -> None:
    ran = cli("status", "--url", "http://127.0.0.1:1")

    assert ran.status == 3
    assert ran.err.startswith("error: gateway_unreachable: ")


@pytest.mark.parametrize(
    "words",
    [
        ("call",),
        ("nonsense",),
        ("call", "x", "--timeout", "long"),
        ("call", "x", "--priority", "soon"),
        ("call", "x", "--no-such-flag"),
        ("call", "x", "word"),
        ("result",),
        ("status", "--url", "amqp://h"),
    ],
)
def test_wrong_usage_exits_with_2_and_one_line(words: tuple[str, ...], gateway: ScriptedGateway, cli: Cli) -> None:
    ran = cli(*words)

    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    assert gateway.asked == []


def test_wrong_usage_with_json_is_a_document(cli: Cli) -> None:
    ran = cli("result", "--json")

    assert (ran.status, ran.json()["error"]["code"]) == (2, "invalid_request")


def test_submit_prints_the_id_and_result_and_cancel_take_it(gateway: ScriptedGateway, cli: Cli) -> None:
    gateway.answers(SUBMIT, running())
    gateway.answers(CALL, running(), running(), succeeded(3))
    gateway.answers(f"DELETE /v1/calls/{CALL_ID}", running())

    assert cli("submit", "x") == (0, f"{CALL_ID}\n", "")
    assert cli("result", CALL_ID).status == 4
    assert cli("cancel", CALL_ID) == (0, "running\n", "")
    assert cli("result", CALL_ID, "--wait", "3") == (0, "3\n", "")
    assert cli("submit", "x", "--json").json()["id"] == CALL_ID
    assert cli("cancel", CALL_ID, "--json").json()["status"] == "running"


def test_route_says_where_and_why(gateway: ScriptedGateway, cli: Cli) -> None:
    found = Route(
        operation="droplet.read_file",
        tool="droplet",
        queue="tool.droplet",
        priority=Priority.NORMAL,
        effect=Effect.READ,
        decided_by=RouteReason(rule="path config/**", operation="droplet.read_file", why="it is a server's path"),
        runner_up=RouteReason(rule="default", operation="desktop.read_file", why="the default tool"),
        fallbacks=("desktop.read_file",),
        filled={"host": "web1"},
    )
    gateway.answers("POST /v1/route", found)

    ran = cli("route", "read_file", "path=config/nginx.conf")

    assert ran.status == 0
    for part in ("tool.droplet", "path config/**", "it is a server's path", "default", 'host="web1"', "fallbacks"):
        assert part in ran.out
    assert cli("route", "read_file", "--json").json()["queue"] == "tool.droplet"


def test_tools_lists_all_and_shows_one(gateway: ScriptedGateway, cli: Cli) -> None:
    bare = Operation(tool="github", name="ping", title="Ping", description="", parameters={"type": "object"})
    gateway.answers("GET /v1/tools", {"operations": [READ_FILE, bare]})
    gateway.answers("GET /v1/tools/read_file", {"operations": [READ_FILE]})
    gateway.answers("GET /v1/tools/ping", {"operations": [bare]})

    assert "desktop.read_file  read    Read a text file" in cli("tools").out
    one = cli("tools", "read_file").out
    assert "desktop.read_file(path: string, limit: integer | null = null" in one
    assert "argv: array of string = []" in one
    assert "effect: read; time limit: 10 s" in one
    assert cli("tools", "ping").out.startswith("github.ping()")
    assert len(cli("tools", "--json").json()["operations"]) == 2


def worker(polled_at: float = 99.0, tool: str = "desktop") -> WorkerStatus:
    return WorkerStatus(
        name=f"{tool}-1",
        tool=tool,
        kind="asyncio",
        slots=16,
        busy=2,
        done=40,
        service_s=0.0123,
        started_at=10.0,
        seen_at=polled_at,
        polled_at=polled_at,
    )


def test_status_shows_workers_backlogs_and_counts(gateway: ScriptedGateway, cli: Cli) -> None:
    status = SwarmStatus(
        at=100.0, workers=(worker(),), backlog={"tool.desktop": 5}, ended={"desktop": {"failed": 1, "succeeded": 9}}
    )
    gateway.answers("GET /v1/status", status, SwarmStatus(at=1.0))

    ran = cli("status")

    for part in ("desktop-1", "2/16", "12.3 ms", "0:01:30", "1.0 s ago", "tool.desktop", "1 failed, 9 succeeded"):
        assert part in ran.out
    assert "no worker has reported" in cli("status").out
    assert cli("status", "--json").json()["at"] == 1.0


def healthy(gateway: ScriptedGateway) -> None:
    gateway.answers("GET /healthz", {})
    gateway.answers("GET /readyz", {})
    gateway.answers("GET /v1/status", SwarmStatus(at=100.0, workers=(worker(),)))
    gateway.answers("GET /v1/tools", {"operations": [READ_FILE]})


def test_doctor_finds_nothing_wrong_with_a_healthy_swarm(gateway: ScriptedGateway, cli: Cli) -> None:
    healthy(gateway)

    ran = cli("doctor")

    assert (ran.status, "FAIL" in ran.out) == (0, False)
    assert cli("doctor", "--json").json()["ok"] is True


@pytest.mark.parametrize(
    ("route", "answer", "name", "fix"),
    [
        ("GET /healthz", Answer(lost=True), "gateway", "make up"),
        ("GET /readyz", problem("broker_unavailable", 503, "down"), "ready", "start the broker"),
        ("GET /v1/status", problem("authentication_failed", 401, "wrong key"), "key", "TOOLSWARM_API_KEY"),
        ("GET /v1/status", SwarmStatus(at=200.0, workers=(worker(),)), "worker desktop-1", "restart it"),
        ("GET /v1/status", SwarmStatus(at=100.0), "pool desktop", "python -m workers desktop"),
        ("GET /v1/tools", {"operations": list[str]()}, "catalogue", "start a worker"),
    ],
)
def test_doctor_names_what_is_wrong_and_how_to_repair_it(
    route: str, answer: object, name: str, fix: str, gateway: ScriptedGateway, cli: Cli
) -> None:
    healthy(gateway)
    gateway.answers(route, answer)

    ran = cli("doctor", "--json")

    (failed,) = [check for check in ran.json()["checks"] if not check["ok"]]
    assert (ran.status, failed["name"]) == (3, name)
    assert fix in failed["fix"]
    assert "the-key" not in ran.out
    assert f"FAIL  {name}" in cli("doctor").out


def test_completion_prints_a_script(cli: Cli) -> None:
    ran = cli("completion", "bash")

    assert ran.status == 0
    assert "doctor" in ran.out
