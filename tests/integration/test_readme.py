"""The examples of the README do what it says, on a real gateway and real workers."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.gateway import start_gateway
from tests.servers.stack import API_KEY, Stack

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MCP_PAGE = (ROOT / "docs" / "mcp.md").read_text(encoding="utf-8")


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


@pytest.fixture
def environment(stack: Stack) -> dict[str, str]:
    """A swarm with a gateway, a desktop and a droplet worker; how a client finds it."""
    stack.start_worker("desktop", "desktop-1")
    stack.start_worker("droplet", "droplet-1")
    stack.start_beat()
    url = start_gateway(stack)
    return {**os.environ, "TOOLSWARM_URL": url, "TOOLSWARM_API_KEY": API_KEY}


def test_the_commands_and_the_program_of_the_readme_run(environment: dict[str, str], tmp_path: Path) -> None:
    commands = [line for block in blocks("console") for line in block.splitlines() if "bin/toolswarm " in line]
    assert len(commands) >= 5

    for command in commands:
        words = shlex.split(command, comments=True)
        words[0] = str(Path(sys.executable).parent / "toolswarm")
        done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    for number, program in enumerate(blocks("python")):
        file = tmp_path / f"example_{number}.py"
        file.write_text(program, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(file)], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr


def test_the_program_of_the_mcp_page_runs(environment: dict[str, str], tmp_path: Path) -> None:
    (program,) = blocks("python", MCP_PAGE)
    file = tmp_path / "example.py"
    file.write_text(program, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, str(file)], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert "hello" in done.stdout
