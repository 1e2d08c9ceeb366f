"""Calls of github's operations against a fake GitHub, as a worker makes them: one loop, real Redis servers or none."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from store.configuration import Configuration, Store
from store.sections import Secret
from store.tool_settings import Github as GithubSettings
from tasks.github import TOOL
from tasks.github.client import Clients
from tasks.operation import NOT_DONE, Postponed
from tests.servers.github import ALICE_TOKEN
from tests.tasks.looped_run import LoopedRun
from toolswarm.errors import OperationFailed
from toolswarm.messages import Priority
from workers.loop_thread import LoopThread

NOWHERE = "unix:///nowhere/redis.sock"


class GithubCalls:
    """One worker process' clients, and calls with them."""

    def __init__(self, loop: LoopThread, settings: GithubSettings, store: Store) -> None:
        self._loop = loop
        opened = TOOL.open(Configuration(github=settings, store=store))
        assert isinstance(opened, Clients)
        self.clients = opened

    def run(
        self, *, tenant: str = "default", priority: Priority = Priority.INTERACTIVE, limit_s: float = 60.0
    ) -> LoopedRun:
        """The run of one call."""
        return LoopedRun(self._loop.loop, tenant=tenant, priority=priority, limit_s=limit_s)

    def do(self, operation: str, run: LoopedRun | None = None, /, **arguments: Any) -> Any:
        """One attempt."""
        declared = TOOL.operations[operation]
        return declared.function(self.clients, run or self.run(), **declared.convert(arguments))

    def probe(self, operation: str, run: LoopedRun, /, **arguments: Any) -> Any:
        """Look whether an attempt was done."""
        declared = TOOL.operations[operation]
        assert declared.probe is not None
        return declared.probe(self.clients, run, **declared.convert(arguments))

    def failure(self, operation: str, run: LoopedRun | None = None, /, **arguments: Any) -> OperationFailed:
        """The error that one attempt ends with."""
        try:
            done = self.do(operation, run, **arguments)
        except OperationFailed as error:
            return error
        raise AssertionError(f"{operation} succeeded: {done}")

    def to_the_end(self, operation: str, /, *, attempts: int = 20, **arguments: Any) -> Any:
        """As workers do: postponed calls come again, calls in doubt are looked after first, safe failures repeated."""
        run, in_doubt = self.run(), False
        for _ in range(attempts):
            try:
                if in_doubt:
                    found = self.probe(operation, run, **arguments)
                    if found is not NOT_DONE:
                        return found
                    in_doubt = False
                return self.do(operation, run, **arguments)
            except Postponed as postponed:
                in_doubt = in_doubt or run.effects_begun > 0
                time.sleep(min(postponed.delay_s, 2.0))
            except OperationFailed as error:
                in_doubt = in_doubt or error.in_doubt
                if not (error.failure_retryable and (error.in_doubt or error.before_effect or in_doubt)):
                    raise
        raise AssertionError(f"{operation} did not end in {attempts} attempts")


def filled(arguments: object, place: str, value: str) -> Any:
    """The arguments with a place in them filled in."""
    if isinstance(arguments, str):
        return arguments.replace(place, value)
    if isinstance(arguments, dict):
        return {key: filled(each, place, value) for key, each in cast("dict[str, object]", arguments).items()}
    if isinstance(arguments, list):
        return [filled(each, place, value) for each in cast("list[object]", arguments)]
    return arguments


@contextmanager
def github_calls(
    url: str, *, broker_url: str = NOWHERE, cache_url: str = NOWHERE, **settings: Any
) -> Generator[GithubCalls, None, None]:
    """Calls to the GitHub at `url`, with alice's token unless another is set."""
    loop = LoopThread("test calls")
    chosen: dict[str, Any] = {"token": Secret(ALICE_TOKEN), "timeout_s": 5.0} | settings
    try:
        store = Store(broker_url=broker_url, cache_url=cache_url)
        calls = GithubCalls(loop, GithubSettings(base_url=url, **chosen), store)
        yield calls
        loop.wait(calls.clients.close())
    finally:
        loop.stop()
        loop.loop.close()
