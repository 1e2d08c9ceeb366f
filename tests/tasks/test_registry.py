import subprocess
import sys
from pathlib import Path

import pytest

from tasks.error_page import error_page
from tasks.pages import page
from tasks.registry import TOOLS
from tasks.settings_page import settings_page
from toolswarm.messages import Effect

EFFECTS: dict[str, dict[Effect, str]] = {
    "desktop": {
        Effect.READ: "allowed_roots file_info list_directory process_list process_read read_file read_files search",
        Effect.IDEMPOTENT: "make_directory process_stop",
        Effect.VERIFIABLE: "append_file batch copy delete edit_file move write_file",
        Effect.ONCE: "process_signal process_start process_write run_command",
    },
    "github": {
        Effect.READ: (
            "batch get_commit get_contents get_issue get_pull get_repo get_tree list_branches "
            "list_comments list_commits list_issues list_pulls list_repos rate_limit_status search_code "
            "search_issues search_repositories search_users"
        ),
        Effect.IDEMPOTENT: "update_comment update_issue",
        Effect.VERIFIABLE: (
            "batch_changes create_branch create_comment create_issue create_pull create_repo "
            "create_repo_from_template delete_file merge_pull push_files put_file"
        ),
    },
    "droplet": {
        Effect.READ: "host_status job_list job_poll list_directory list_hosts read_file stat",
        Effect.IDEMPOTENT: "download job_kill make_directory upload write_file",
        Effect.VERIFIABLE: "delete job_start move run run_group",
    },
}
"""What each operation declares. That it is so is shown by the tests of the operation beside this file."""
PAGES = Path(__file__).parents[2] / "docs/tools"


def test_every_operation_declares_its_effect_as_the_table_says() -> None:
    declared = {(tool.name, one.name): one.effect for tool in TOOLS.values() for one in tool.describe()}

    expected = {
        (tool, name): effect
        for tool, effects in EFFECTS.items()
        for effect, names in effects.items()
        for name in names.split()
    }

    assert declared == expected


def test_what_must_not_run_twice_says_itself_when_its_effect_begins() -> None:
    declarations = [declaration for tool in TOOLS.values() for declaration in tool.operations.values()]

    assert all(one.marks_effect for one in declarations if one.effect in (Effect.ONCE, Effect.VERIFIABLE))


def test_what_only_reads_overwrites_nothing() -> None:
    declarations = [declaration for tool in TOOLS.values() for declaration in tool.operations.values()]

    assert not [one.name for one in declarations if one.effect is Effect.READ and one.destructive]


def test_every_operation_and_argument_is_described() -> None:
    for tool in TOOLS.values():
        for operation in tool.describe():
            assert operation.title
            assert len(operation.title) <= 80, operation.full_name
            properties = operation.parameters["properties"]
            assert all(argument.get("description") for argument in properties.values()), operation.full_name
            assert operation.parameters["additionalProperties"] is False


def test_the_context_fills_repository_host_and_session() -> None:
    declared = [operation for tool in TOOLS.values() for operation in tool.describe()]

    for operation in declared:
        properties = operation.parameters["properties"]
        for argument, field in {"repo": "repo", "host": "host"}.items():
            fills = operation.from_context.get(argument)
            assert fills in (None, field), operation.full_name
            assert argument not in properties or fills or operation.name.startswith("search_"), operation.full_name


@pytest.mark.parametrize("tool", list(TOOLS))
def test_the_page_of_each_tool_says_what_its_declarations_say(tool: str) -> None:
    assert (PAGES / f"{tool}.md").read_text() == page(TOOLS[tool]), "write it anew: make docs"


def test_the_page_of_errors_says_what_the_source_says() -> None:
    assert (PAGES.parent / "errors.md").read_text() == error_page(), "write it anew: make docs"


def test_the_page_of_settings_says_what_the_source_says() -> None:
    assert (PAGES.parent / "configuration.md").read_text() == settings_page(), "write it anew: make docs"


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
