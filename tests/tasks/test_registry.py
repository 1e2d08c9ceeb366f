import subprocess
import sys

import pytest

from tasks.registry import TOOLS
from toolswarm.messages import Effect

EFFECTS = {
    "desktop.read_file": Effect.READ,
    "desktop.write_file": Effect.IDEMPOTENT,
    "desktop.list_directory": Effect.READ,
    "desktop.search": Effect.READ,
    "desktop.run_command": Effect.ONCE,
    "github.get_repo": Effect.READ,
    "github.get_contents": Effect.READ,
    "github.search_issues": Effect.READ,
    "droplet.run": Effect.ONCE,
    "droplet.read_file": Effect.READ,
}
"""What each operation declares. That it is so is shown by the tests of the operation beside this file."""


def test_every_operation_declares_its_effect_as_the_table_says() -> None:
    declared = {operation.full_name: operation.effect for tool in TOOLS.values() for operation in tool.describe()}

    assert declared == EFFECTS


def test_what_must_not_run_twice_says_itself_when_its_effect_begins() -> None:
    declarations = [declaration for tool in TOOLS.values() for declaration in tool.operations.values()]

    assert all(declaration.marks_effect == (declaration.effect is Effect.ONCE) for declaration in declarations)


def test_every_operation_and_argument_is_described() -> None:
    for tool in TOOLS.values():
        for operation in tool.describe():
            assert operation.title
            assert len(operation.title) < 60
            properties = operation.parameters["properties"]
            assert all(argument.get("description") for argument in properties.values()), operation.full_name
            assert operation.parameters["additionalProperties"] is False


def test_the_context_fills_repository_and_host() -> None:
    filled = {
        operation.full_name: operation.from_context
        for tool in TOOLS.values()
        for operation in tool.describe()
        if operation.from_context
    }

    assert filled == {
        "github.get_repo": {"repo": "repo"},
        "github.get_contents": {"repo": "repo"},
        "droplet.run": {"host": "host"},
        "droplet.read_file": {"host": "host"},
    }


@pytest.mark.parametrize(
    ("tool", "unwanted"),
    [("desktop", ("github", "paramiko", "requests")), ("github", ("paramiko",)), ("droplet", ("github", "requests"))],
)
def test_a_worker_loads_only_its_own_tool(tool: str, unwanted: tuple[str, ...]) -> None:
    program = f"import sys; from tasks.registry import TOOLS; TOOLS[{tool!r}]; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert not set(unwanted) & set(loaded)


def test_an_unknown_tool_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        TOOLS["nothing"]
    assert "nothing" not in TOOLS
