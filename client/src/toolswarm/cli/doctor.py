"""`doctor`: what is wrong, and what to do about it. Each check stands on the one before."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from toolswarm.cli.exits import OK, UNREACHABLE
from toolswarm.cli.flags import Json, Url
from toolswarm.cli.output import print_json, print_line
from toolswarm.client import open_transport
from toolswarm.endpoint import Endpoint, find_endpoint, shown_url
from toolswarm.errors import AuthenticationFailed, PermissionDenied, ToolswarmError
from toolswarm.http import HttpTransport
from toolswarm.messages import Operation, SwarmStatus
from toolswarm.transport import Transport

POLL_STALE_S = 15.0
"""A worker asks the broker every few seconds; one that has not for this long is connected but silent."""


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the report."""

    name: str
    ok: bool
    found: str
    fix: str | None = None


def doctor(*, json: Json = False, url: Url = None) -> int:
    """Check the way from here to the workers, and say how to repair it.

    Args:
        json: Print one JSON document.
        url: The swarm, when it should not be found by itself.
    """
    checks: list[Check] = []
    for check in examine(url):
        checks.append(check)
        if not json:
            print_line(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.found}")
            if check.fix is not None:
                print_line(f"      fix: {check.fix}")
    ok = all(check.ok for check in checks)
    if json:
        print_json({"ok": ok, "checks": checks})
    return OK if ok else UNREACHABLE


def examine(url: str | None) -> Iterator[Check]:
    """Make the checks one after another, up to the first on which all later ones depend."""
    try:
        endpoint = find_endpoint(url, None, environ=os.environ, folder=Path.cwd())
    except ToolswarmError as error:
        yield Check(name="endpoint", ok=False, found=error.message, fix="correct the URL or key that it names")
        return
    yield Check(name="endpoint", ok=True, found=f"{shown_url(endpoint.url)} (from {endpoint.origin})")
    try:
        transport = open_transport(endpoint)
    except ToolswarmError as error:
        yield Check(name="client", ok=False, found=error.message, fix="install or set what it names")
        return
    try:
        yield from _examine_transport(endpoint, transport)
    finally:
        transport.close()


def _examine_transport(endpoint: Endpoint, transport: Transport) -> Iterator[Check]:
    if isinstance(transport, HttpTransport):
        for check in (_reachable(transport), _ready(transport)):
            yield check
            if not check.ok:
                return
    try:
        status = transport.status()
    except (AuthenticationFailed, PermissionDenied) as error:
        yield Check(name="key", ok=False, found=error.message, fix=_key_fix(endpoint))
        return
    except ToolswarmError as error:
        yield Check(name="answer", ok=False, found=error.message, fix="start the swarm: make up; then see its logs")
        return
    yield Check(name="key", ok=True, found="accepted")
    try:
        operations = transport.tools(None)
    except ToolswarmError as error:
        yield Check(name="catalogue", ok=False, found=error.message, fix="see the gateway's log")
        return
    yield _catalogue(operations)
    yield from _workers(status, operations)


def _reachable(transport: HttpTransport) -> Check:
    return _page(transport, "/healthz", "gateway", "start the swarm: make up; or set TOOLSWARM_URL to where it runs")


def _ready(transport: HttpTransport) -> Check:
    return _page(transport, "/readyz", "ready", "the gateway runs but its broker does not answer: start the broker")


def _page(transport: HttpTransport, path: str, name: str, fix: str) -> Check:
    try:
        code = transport.probe(path)
    except ToolswarmError as error:
        return Check(name=name, ok=False, found=error.message, fix=fix)
    ok = code == 200
    return Check(name=name, ok=ok, found=f"{path} answers {code}", fix=None if ok else fix)


def _key_fix(endpoint: Endpoint) -> str:
    if endpoint.api_key:
        return "set TOOLSWARM_API_KEY to the key of this swarm (make up keeps it in .toolswarm/api_key)"
    return "no key was found: set TOOLSWARM_API_KEY (make up keeps it in .toolswarm/api_key)"


def _catalogue(operations: list[Operation]) -> Check:
    if not operations:
        fix = "start a worker: it publishes its operations"
        return Check(name="catalogue", ok=False, found="no operation is published", fix=fix)
    names = sorted({each.tool for each in operations})
    return Check(name="catalogue", ok=True, found=f"{len(operations)} operations of {', '.join(names)}")


def _workers(status: SwarmStatus, operations: list[Operation]) -> Iterator[Check]:
    for worker in status.workers:
        age_s = max(0.0, status.at - worker.polled_at)
        full = worker.busy >= worker.slots > 0  # then it has no reason to poll
        ok = full or age_s <= POLL_STALE_S
        fix = None if ok else "it is connected but takes no tasks: restart it"
        found = f"polled {age_s:.1f} s ago{', all slots are taken' if full else ''}"
        yield Check(name=f"worker {worker.name}", ok=ok, found=found, fix=fix)
    for tool in sorted({each.tool for each in operations} - {worker.tool for worker in status.workers}):
        waiting = status.backlog.get(f"tool.{tool}", 0)
        yield Check(
            name=f"pool {tool}",
            ok=False,
            found=f"no worker, {waiting} tasks wait",
            fix=f"start one: python -m workers {tool}",
        )
