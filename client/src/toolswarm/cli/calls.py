"""`call`, `submit`, `result`, `cancel`."""

import sys
from typing import Annotated

from cyclopts import Parameter

from toolswarm.cli.exits import OK, exit_of_state
from toolswarm.cli.flags import CallFlags, Follow, Json, Url, Words, arguments_of
from toolswarm.cli.follow import Follower
from toolswarm.cli.output import print_json, print_line, print_value
from toolswarm.client import Client
from toolswarm.handle import CallHandle
from toolswarm.messages import ToolResult
from toolswarm.options import DEFAULT_TIMEOUT_S, value_of

PLAIN_FLAGS = CallFlags()


def call(operation: str, /, *words: Words, follow: Follow = False, flags: CallFlags = PLAIN_FLAGS) -> int:
    """Run an operation, wait, and print its value.

    Args:
        operation: `tool.operation`, or the operation alone.
        words: The arguments: key=value, key:=json, key=@file, or a single - for a JSON object on standard input.
        follow: Print what the operation says while it runs.
        flags: What can be said of the call beside its arguments.
    """
    with Client(flags.url) as client:
        swarm = client.options(**flags.options())
        # Submit first, wait then: whoever presses Ctrl-C learns the id of the call that goes on.
        handle = swarm.submit(operation, **arguments_of(swarm, operation, words))
        try:
            ended = _outcome(handle, flags.timeout_s, follow=follow, json=flags.json)
            return _show(handle, ended, json=flags.json)
        except KeyboardInterrupt:
            sys.stderr.write(f"the call goes on: toolswarm result {handle.id}, or toolswarm cancel {handle.id}\n")
            raise


def submit(operation: str, /, *words: Words, flags: CallFlags = PLAIN_FLAGS) -> int:
    """Have an operation run, and print the id of the call without waiting.

    Args:
        operation: `tool.operation`, or the operation alone.
        words: The arguments: key=value, key:=json, key=@file, or a single - for a JSON object on standard input.
        flags: What can be said of the call beside its arguments.
    """
    with Client(flags.url) as client:
        swarm = client.options(**flags.options())
        handle = swarm.submit(operation, **arguments_of(swarm, operation, words))
        if flags.json:
            print_json(handle.latest)
        else:
            print_line(handle.id)
        return OK


def result(
    call_id: str,
    /,
    *,
    timeout_s: Annotated[float | None, Parameter(name=["--timeout", "--wait"])] = None,
    follow: Follow = False,
    json: Json = False,
    url: Url = None,
) -> int:
    """Print the result of a call that was submitted before.

    Args:
        call_id: The id that `submit` printed.
        timeout_s: Seconds to wait for the end; left out: not at all, and with --follow as long as `call` waits.
        follow: Print what the operation says while it runs.
        json: Print one JSON document.
        url: The swarm, when it should not be found by itself.
    """
    if timeout_s is None:
        timeout_s = DEFAULT_TIMEOUT_S if follow else 0.0
    with Client(url) as client:
        handle = client.handle(call_id)
        ended = _outcome(handle, timeout_s, follow=follow, json=json)
        return _show(handle, ended, json=json)


def cancel(call_id: str, /, *, json: Json = False, url: Url = None) -> int:
    """Ask that a call stop, and print what came of it so far.

    Args:
        call_id: The id that `submit` printed.
        json: Print one JSON document.
        url: The swarm, when it should not be found by itself.
    """
    with Client(url) as client:
        handle: CallHandle = client.handle(call_id)
        state = handle.cancel()
        if json:
            print_json(handle.latest)
        else:
            print_line(state.value)
        return OK


def _outcome(handle: CallHandle, timeout_s: float, *, follow: bool, json: bool) -> ToolResult:
    if not follow or handle.latest.status.terminal:
        return handle.outcome(timeout_s)
    with Follower(handle, json=json) as follower:
        ended = handle.outcome(timeout_s)
        follower.catch_up()
        return ended


def _show(handle: CallHandle, ended: ToolResult, *, json: bool) -> int:
    value_of(ended)
    if json:
        print_json(ended)
    else:
        print_value(handle.result())
    return exit_of_state(ended.status)
