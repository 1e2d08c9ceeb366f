"""Every test here starts real processes; none of them may outlive it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.local.fake_system import FakeSystem
from tests.local.systems import RunningSystem


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[FakeSystem], RunningSystem]]:
    """Start a fake system; it is ended after the test."""
    running: list[RunningSystem] = []

    def start_one(system: FakeSystem) -> RunningSystem:
        running.append(RunningSystem(tmp_path, system))
        return running[-1]

    yield start_one
    for one in running:
        one.end()
        left = one.left_over()
        assert left == []
