"""Where requests go, and why; pure."""

import pytest

from routing.classify import classify
from store.configuration import Routing, RoutingRule
from toolswarm.errors import UnknownOperation
from toolswarm.messages import Context, Effect, Operation, SubmitBody


def operation(full_name: str, effect: Effect = Effect.READ, **more: object) -> Operation:
    tool, _, name = full_name.partition(".")
    values: dict[str, object] = {"title": name, "description": name, "parameters": {"type": "object"}, **more}
    return Operation(tool=tool, name=name, effect=effect, **values)  # type: ignore[arg-type]  # one dict of all fields


CATALOGUE = {
    entry.full_name: entry
    for entry in (
        operation("desktop.read_file"),
        operation("desktop.write_file", Effect.IDEMPOTENT),
        operation("desktop.run_command", Effect.ONCE),
        operation("droplet.read_file", from_context={"host": "host"}),
        operation("droplet.run", Effect.ONCE),
        operation("github.get_contents", aliases=("read_file",), from_context={"repo": "repo"}),
        operation("github.search_issues"),
    )
}


@pytest.mark.parametrize(
    ("path", "repo", "goes_to", "rule"),
    [
        ("config/nginx.conf", None, "droplet.read_file", "server-configuration"),
        ("/etc/nginx/nginx.conf", "acme/app", "droplet.read_file", "server-configuration"),
        ("tests/test_app.py", None, "desktop.read_file", "tests-are-local"),
        ("tests/test_app.py", "acme/app", "desktop.read_file", "tests-are-local"),
        ("tests/config.yaml", None, "desktop.read_file", "tests-are-local"),
        ("./tests/../tests/conftest.py", None, "desktop.read_file", "tests-are-local"),
        ("src/app.py", "acme/app", "github.get_contents", "source-of-the-repository"),
        ("src/app.py", None, "desktop.read_file", "default"),
        (".github/workflows/test.yml", "acme/app", "github.get_contents", "repository-settings"),
        ("notes.txt", None, "desktop.read_file", "default"),
    ],
)
def test_a_path_finds_its_tool(path: str, repo: str | None, goes_to: str, rule: str) -> None:
    body = SubmitBody(operation="read_file", arguments={"path": path}, context=Context(repo=repo))

    route = classify(body, CATALOGUE, Routing())

    assert (route.operation, route.decided_by.rule) == (goes_to, rule)


def test_the_same_request_has_the_same_route_and_names_the_runner_up() -> None:
    body = SubmitBody(operation="read_file", arguments={"path": "config/nginx.conf"})

    routes = [classify(body, CATALOGUE, Routing()) for _ in range(3)]

    assert routes[0] == routes[1] == routes[2]
    assert routes[0].runner_up is not None
    assert routes[0].runner_up.operation == "desktop.read_file"


def test_a_named_tool_is_taken_at_its_word_and_never_falls_back() -> None:
    body = SubmitBody(operation="droplet.read_file", arguments={"path": "tests/test_app.py"})

    route = classify(body, CATALOGUE, Routing())

    assert (route.operation, route.decided_by.rule, route.fallbacks) == ("droplet.read_file", "named", ())


def test_a_named_host_goes_before_the_path() -> None:
    body = SubmitBody(operation="read_file", arguments={"path": "tests/test_app.py"}, context=Context(host="web1"))

    route = classify(body, CATALOGUE, Routing())

    assert (route.operation, route.filled) == ("droplet.read_file", {"host": "web1"})


def test_a_read_may_fall_back_and_a_command_may_not() -> None:
    read = classify(SubmitBody(operation="read_file", arguments={"path": "/etc/hosts"}), CATALOGUE, Routing())
    command = classify(SubmitBody(operation="run_command"), CATALOGUE, Routing())

    assert read.fallbacks == ("desktop.read_file",)
    assert command.fallbacks == ()


def test_an_operators_rule_comes_before_the_built_in_ones() -> None:
    mine = RoutingRule(name="mine", tool="desktop", path=("config/**",))

    route = classify(
        SubmitBody(operation="read_file", arguments={"path": "config/nginx.conf"}), CATALOGUE, Routing(rules=(mine,))
    )

    assert (route.operation, route.decided_by.rule) == ("desktop.read_file", "mine")


@pytest.mark.parametrize("name", ["read_fil", "desktop.read_fil", "desktp.read_file"])
def test_an_unknown_operation_is_told_the_nearest_names(name: str) -> None:
    with pytest.raises(UnknownOperation) as refused:
        classify(SubmitBody(operation=name), CATALOGUE, Routing())

    assert any("read_file" in near for near in refused.value.details["nearest"])
