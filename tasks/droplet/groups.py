"""Running one command on several hosts: so many at a time, and no further once too many have failed."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tasks.droplet.commands import TIME_LIMIT_S, Argv, Cwd, Env, MaxOutput, Script, Stdin, Timeout
from tasks.droplet.hosts import Hosts
from tasks.droplet.inventory import HostEntry
from tasks.droplet.order import Mode, Order, order
from tasks.droplet.outcome import RemoteResult
from tasks.droplet.remembered import HOST
from tasks.droplet.run_once import Beginning, errand, run_once
from tasks.operation import Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect, ErrorInfo

_MOST_HOSTS = 256


class HostOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How it went on one host."""

    host: str
    status: Literal["succeeded", "failed", "skipped"]
    """`failed`: it ended with another exit code than 0, or `error` says what went wrong; `skipped`: never begun."""
    result: RemoteResult | None = None
    """How the command ended there."""
    error: ErrorInfo | None = None
    """Why there is no such end."""


class GroupResult(msgspec.Struct, frozen=True, kw_only=True):
    """How it went on all hosts, in the order in which they were named."""

    hosts: tuple[HostOutcome, ...]
    succeeded: int
    failed: int
    skipped: int


HostNames = Annotated[
    list[Annotated[str, Meta(min_length=1)]],
    Meta(
        description="Names of hosts and of groups (see list_hosts); a host that is named twice counts once.",
        min_length=1,
        max_length=_MOST_HOSTS,
        examples=[["web-1", "web-2"]],
    ),
]
Concurrency = Annotated[int, Meta(description="On how many hosts at a time.", ge=1, le=32, examples=[4])]
MaxFailures = Annotated[
    int | None,
    Meta(
        description="Once it has failed on more hosts than that, it is begun on no other one; none: on all of them.",
        examples=[0],
    ),
]


def probe_run_group(
    hosts: Hosts,
    attempt: Run,
    *,
    on: list[str],
    argv: list[str] | None,
    script: str | None,
    cwd: str | None,
    env: dict[str, str] | None,
    stdin: str | None,
    timeout_s: float,
    max_output_bytes: int,
    concurrency: int,
    max_failures: int | None,
) -> GroupResult:
    """Finish what an earlier delivery has begun: each host says itself what was done there, and nothing is repeated."""
    wanted = order(argv, script, cwd=cwd, env=env, stdin=stdin, timeout_s=timeout_s, max_output_bytes=max_output_bytes)
    return _on_all(hosts, attempt, _Plan(on, wanted, Mode.AGAIN, concurrency, max_failures))


@operation(
    effect=Effect.VERIFIABLE,
    probe=probe_run_group,
    time_limit_s=TIME_LIMIT_S,
    marks_effect=True,
    destructive=True,
    changes=HOST,
)
def run_group(
    hosts: Hosts,
    attempt: Run,
    *,
    on: HostNames,
    argv: Argv = None,
    script: Script = None,
    cwd: Cwd = None,
    env: Env = None,
    stdin: Stdin = None,
    timeout_s: Timeout = 30.0,
    max_output_bytes: MaxOutput = 65_536,
    concurrency: Concurrency = 8,
    max_failures: MaxFailures = None,
) -> GroupResult:
    """Run one command on several remote hosts.

    As `run` does it on one; `timeout_s` counts on each host by itself. A host that cannot be reached, or where the
    command fails, is told of in the result and fails no call: look at `failed`. With `max_failures` a change that goes
    wrong stops spreading: what runs already is waited for, the other hosts are `skipped`. All names must be of hosts
    that may be used, else nothing is begun anywhere.
    """
    wanted = order(argv, script, cwd=cwd, env=env, stdin=stdin, timeout_s=timeout_s, max_output_bytes=max_output_bytes)
    return _on_all(hosts, attempt, _Plan(on, wanted, Mode.FIRST, concurrency, max_failures))


class _Plan(msgspec.Struct, frozen=True):
    on: list[str]
    wanted: Order
    mode: Mode
    concurrency: int
    max_failures: int | None


class _Budget:
    """How many failures are left."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._failed = 0

    @property
    def spent(self) -> bool:
        with self._lock:
            return self._most is not None and self._failed > self._most

    def fail(self) -> None:
        with self._lock:
            self._failed += 1


def _on_all(hosts: Hosts, attempt: Run, plan: _Plan) -> GroupResult:
    found = hosts.find_all(plan.on, attempt)
    if len(found) > _MOST_HOSTS:
        raise OperationFailed(
            f"on names {len(found)} hosts, more than {_MOST_HOSTS}: name fewer at once",
            code="too_many_hosts",
            before_effect=True,
        )
    attempt.executed_on(", ".join(host.name for host in found)[:200])
    budget = _Budget(plan.max_failures)
    begin = Beginning(attempt)
    done = 0
    told = threading.Lock()

    def on_one(host: HostEntry) -> HostOutcome:
        nonlocal done
        if budget.spent or attempt.stop_requested():
            return HostOutcome(host=host.name, status="skipped")
        outcome = _on_one(hosts, attempt, host, plan, begin)
        if outcome.status == "failed":
            budget.fail()
        with told:
            done += 1
            attempt.tell({"host": host.name, "status": outcome.status, "done": done, "of": len(found)})
        return outcome

    with ThreadPoolExecutor(min(plan.concurrency, len(found)), thread_name_prefix="droplet-group") as threads:
        outcomes = tuple(threads.map(on_one, found))
    counts = {status: sum(outcome.status == status for outcome in outcomes) for status in _STATUSES}
    return GroupResult(hosts=outcomes, **counts)


_STATUSES = ("succeeded", "failed", "skipped")


def _on_one(hosts: Hosts, attempt: Run, host: HostEntry, plan: _Plan, begin: Callable[[], None]) -> HostOutcome:
    try:
        result = run_once(hosts, attempt, errand(hosts, host, attempt, plan.wanted), begin=begin, mode=plan.mode)
    except OperationFailed as error:
        return HostOutcome(host=host.name, status="failed", error=error.info())
    return HostOutcome(host=host.name, status="succeeded" if result.exit_code == 0 else "failed", result=result)
