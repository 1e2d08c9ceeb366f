"""`call`, `submit`, `result`, `cancel`."""

import sys
from typing import Annotated

from cyclopts import Parameter

from toolswarm.cli.exits import OK, exit_of_state
from toolswarm.cli.flags import CallFlags, Json, Url, Words, arguments_of
from toolswarm.cli.output import print_json, print_line, print_value
from toolswarm.client import Client
from toolswarm.handle import CallHandle
from toolswarm.messages import ToolResult
from toolswarm.options import value_of

PLAIN_FLAGS = CallFlags()


def call(operation: str, /, *words: Words, flags: CallFlags = PLAIN_FLAGS) -> int:
    """Run an operation, wait, and print its value.

    Args:
        operation: `tool.operation`, or the operation alone.
        words: The arguments: key=value, key:=json, key=@file, or a single - for a JSON object on standard input.
        flags: What can be said of the call beside its arguments.
    """
    with Client(flags.url) as client:
        swarm = client.options(**flags.options())
        # Submit first, wait then: whoever presses Ctrl-C learns the id of the call that goes on.
        handle = swarm.submit(operation, **arguments_of(swarm, operation, words))
        try:
            return _show(handle, handle.outcome(), json=flags.json)
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
    timeout_s: Annotated[float, Parameter(name=["--timeout", "--wait"])] = 0.0,
    json: Json = False,
    url: Url = None,
) -> int:
    """Print the result of a call that was submitted before.

    Args:
        call_id: The id that `submit` printed.
        timeout_s: Seconds to wait for the end.
        json: Print one JSON document.
        url: The swarm, when it should not be found by itself.
    """
    with Client(url) as client:
        handle = client.handle(call_id)
        return _show(handle, handle.outcome(timeout_s), json=json)


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


def _show(handle: CallHandle, ended: ToolResult, *, json: bool) -> int:
    value_of(ended)
    if json:
        print_json(ended)
    else:
        print_value(handle.result())
    return exit_of_state(ended.status)
