"""`route`, `tools`, `status`: look, and change nothing."""

from datetime import timedelta
from typing import Any

from toolswarm.cli.exits import OK
from toolswarm.cli.flags import CallFlags, Json, Url, Words, arguments_of
from toolswarm.cli.output import pretty, print_json, print_line, print_table
from toolswarm.client import Client
from toolswarm.messages import Operation, Route, SwarmStatus, WorkerStatus

PLAIN_FLAGS = CallFlags()


def route(operation: str, /, *words: Words, flags: CallFlags = PLAIN_FLAGS) -> int:
    """Show where a call would go, and why; nothing runs.

    Args:
        operation: `tool.operation`, or the operation alone.
        words: The arguments: key=value, key:=json, key=@file, or a single - for a JSON object on standard input.
        flags: What can be said of the call beside its arguments.
    """
    with Client(flags.url) as client:
        swarm = client.options(**flags.options())
        found = swarm.route(operation, **arguments_of(swarm, operation, words))
    if flags.json:
        print_json(found)
    else:
        _print_route(found)
    return OK


def tools(name: str | None = None, /, *, json: Json = False, url: Url = None) -> int:
    """List the operations, or show one: its arguments, its effect, its time limit.

    Args:
        name: An operation, with or without its tool, or a tool.
        json: Print one JSON document.
        url: The swarm, when it should not be found by itself.
    """
    with Client(url) as client:
        operations = client.tools(name)
    if json:
        print_json({"operations": operations})
    elif name is not None and len(operations) == 1:
        _print_operation(operations[0])
    else:
        print_table(
            ("OPERATION", "EFFECT", "WHAT IT DOES"),
            [(each.full_name, each.effect.value, each.title) for each in operations],
        )
    return OK


def status(*, json: Json = False, url: Url = None) -> int:
    """Show workers, backlogs and counts.

    Args:
        json: Print one JSON document.
        url: The swarm, when it should not be found by itself.
    """
    with Client(url) as client:
        found = client.status()
    if json:
        print_json(found)
    else:
        _print_status(found)
    return OK


def _print_route(found: Route) -> None:
    print_line(f"{found.operation}  queue {found.queue}, priority {found.priority}, effect {found.effect}")
    print_line(f"decided by  {found.decided_by.rule}: {found.decided_by.why}")
    if found.runner_up is not None:
        other = found.runner_up
        print_line(f"runner-up   {other.rule}: {other.operation}, {other.why}")
    if found.filled:
        print_line(f"filled      {', '.join(f'{name}={_short(value)}' for name, value in found.filled.items())}")
    if found.fallbacks:
        print_line(f"fallbacks   {', '.join(found.fallbacks)}")


def _print_operation(each: Operation) -> None:
    properties: dict[str, dict[str, Any]] = each.parameters.get("properties", {})
    required: list[str] = each.parameters.get("required", [])
    print_line(f"{each.full_name}({', '.join(_signature(name, properties[name], required) for name in properties)})")
    print_line(f"  {each.description.strip() or each.title}".replace("\n", "\n  "))
    print_line(f"  effect: {each.effect}; time limit: {each.time_limit_s:g} s")
    if each.aliases:
        print_line(f"  also called: {', '.join(each.aliases)}")
    if properties:
        print_line("")
        print_table(
            ("ARGUMENT", "TYPE", "DEFAULT", "MEANING"),
            [_argument(name, each, required) for name in properties],
        )


def _signature(name: str, schema: dict[str, Any], required: list[str]) -> str:
    return f"{name}: {_type(schema)}" + ("" if name in required else f" = {_default(schema)}")


def _argument(name: str, each: Operation, required: list[str]) -> tuple[str, str, str, str]:
    schema: dict[str, Any] = each.parameters["properties"][name]
    meaning = str(schema.get("description", ""))
    if name in each.from_context:
        meaning += f" (taken from the context's {each.from_context[name]} when left out)"
    return name, _type(schema), "required" if name in required else _default(schema), meaning.strip()


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    parts: list[dict[str, Any]] = schema.get("anyOf") or schema.get("oneOf") or []
    if parts:
        return " | ".join(_type(part) for part in parts)
    if "enum" in schema:
        return " | ".join(_short(value) for value in schema["enum"])
    named: str | list[str] = schema.get("type", "any")
    if named == "array" and isinstance(schema.get("items"), dict):
        return f"array of {_type(schema['items'])}"
    return named if isinstance(named, str) else " | ".join(named)


def _default(schema: dict[str, Any]) -> str:
    return _short(schema["default"]) if "default" in schema else "…"


def _short(value: object) -> str:
    return " ".join(pretty(value).split())


def _print_status(found: SwarmStatus) -> None:
    if not found.workers:
        print_line("no worker has reported; is one running?")
    else:
        print_table(
            ("WORKER", "TOOL", "KIND", "BUSY", "DONE", "MEAN", "UP", "POLLED"),
            [_worker(each, found.at) for each in found.workers],
        )
    print_line("")
    print_table(("QUEUE", "WAITING"), [(queue, str(count)) for queue, count in sorted(found.backlog.items())])
    if found.ended:
        print_line("")
        print_table(
            ("TOOL", "ENDED SO FAR"),
            [
                (tool, ", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
                for tool, counts in sorted(found.ended.items())
            ],
        )


def _worker(each: WorkerStatus, at: float) -> tuple[str, ...]:
    return (
        each.name,
        each.tool,
        each.kind,
        f"{each.busy}/{each.slots}",
        str(each.done),
        f"{each.service_s * 1000:.1f} ms" if each.service_s else "–",
        str(timedelta(seconds=round(max(0.0, at - each.started_at)))),
        f"{max(0.0, at - each.polled_at):.1f} s ago",
    )
