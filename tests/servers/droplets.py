"""The tool `droplet` on hosts of the tests, and calls of its operations without a worker."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from store.configuration import Configuration
from store.tool_settings import Desktop, Droplet, DropletHost, DropletTenant
from tasks.droplet import TOOL
from tasks.droplet.hosts import Hosts
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import OperationFailed


@contextmanager
def droplets(
    hosts: dict[str, DropletHost],
    *,
    local: Path | None = None,
    roots: tuple[str, ...] = (),
    **settings: Any,
) -> Generator[Hosts, None, None]:
    """The hosts of one worker process. `local` is the root folder of all tenants here, `roots` those on the hosts."""
    tenants = {"default": DropletTenant(hosts=("*",), roots=roots)} if roots else {}
    desktop = Desktop(roots={"default": str(local)}) if local is not None else Desktop()
    configuration = Configuration(desktop=desktop, droplet=Droplet(hosts=hosts, tenants=tenants, **settings))
    opened = TOOL.open(configuration)
    assert isinstance(opened, Hosts)
    try:
        yield opened
    finally:
        opened.close()


def call(hosts: Hosts, operation: str, run: FakeRun | None = None, /, **arguments: Any) -> Any:
    """What the operation returns; its arguments are converted as a worker does it."""
    declared = TOOL.operations[operation]
    return declared.function(hosts, run or FakeRun(), **declared.convert(arguments))


def probe(hosts: Hosts, operation: str, run: FakeRun | None = None, /, **arguments: Any) -> Any:
    """What the operation's probe returns."""
    declared = TOOL.operations[operation]
    assert declared.probe is not None
    return declared.probe(hosts, run or FakeRun(), **declared.convert(arguments))


def failure(hosts: Hosts, operation: str, run: FakeRun | None = None, /, **arguments: Any) -> OperationFailed:
    """What the operation fails with; that it succeeds is an error."""
    try:
        result = call(hosts, operation, run, **arguments)
    except OperationFailed as error:
        return error
    raise AssertionError(f"{operation} succeeded: {result}")
