"""What the client's tests share: a clean environment and real servers."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.tests.scripted_gateway import ScriptedGateway, running_gateway


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # pyright: ignore[reportUnusedFunction]
    """No swarm is found by accident: an empty working folder, and none of our variables."""
    for name in list(os.environ):
        if name.startswith(("TOOLSWARM_", "MCP_API_KEY")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    with running_gateway() as script:
        yield script
