"""Calls of the desktop's operations as they come from the wire, without a worker: JSON in, JSON out."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from store.configuration import Configuration
from store.tool_settings import Desktop as DesktopSettings
from tasks.desktop import TOOL
from tasks.desktop.desk import Desk
from tasks.operation import NOT_DONE
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed


def open_desk(workspaces: Path, **settings: Any) -> Desk:
    opened = TOOL.open(Configuration(desktop=DesktopSettings(workspaces=str(workspaces), **settings)))
    assert isinstance(opened, Desk)
    return opened


class Calls:
    """What one tenant asks of one desk."""

    def __init__(self, desk: Desk, tenant: str = "default") -> None:
        self.desk = desk
        self.tenant = tenant

    @property
    def folder(self) -> Path:
        return self.desk.root(self.tenant).root

    def __call__(self, operation: str, /, run: FakeRun | None = None, **arguments: Any) -> Any:
        declaration = TOOL.operations[operation]
        result = declaration.function(
            self.desk, run or FakeRun(tenant=self.tenant), **declaration.convert(_wire(arguments))
        )
        return _wire(result)

    def probe(self, operation: str, /, run: FakeRun, **arguments: Any) -> Any:
        """What the next attempt is told: the result, or NOT_DONE."""
        declaration = TOOL.operations[operation]
        assert declaration.probe is not None
        told = declaration.probe(self.desk, run, **declaration.convert(_wire(arguments)))
        return NOT_DONE if told is NOT_DONE else _wire(told)

    def failure(self, operation: str, /, run: FakeRun | None = None, **arguments: Any) -> OperationFailed:
        """The error that the call ends with."""
        with pytest.raises(OperationFailed) as caught:
            self(operation, run, **arguments)
        return caught.value

    def code(self, operation: str, /, run: FakeRun | None = None, **arguments: Any) -> str:
        """The code of that error."""
        return self.failure(operation, run, **arguments).failure_code


def _wire(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def litter(folder: Path) -> list[str]:
    """Names that no list shows."""
    return sorted(path.name for path in folder.rglob("*.toolswarm-tmp"))


def second_attempt(run: FakeRun) -> FakeRun:
    """The same call, given to another worker."""
    again = FakeRun(tenant=run.call.tenant)
    again.call = run.call
    again.fence = run.fence + 1
    return again
