"""The way in of the command `toolswarm`: finds the command, runs it, and turns errors into messages and exit codes."""

import os
import sys
from collections.abc import Sequence

from cyclopts import App
from cyclopts.exceptions import CycloptsError

from toolswarm.cli import exits
from toolswarm.cli.output import print_error
from toolswarm.errors import InvalidRequest, ToolswarmError

COMMANDS = {
    "call": ("toolswarm.cli.calls:call", "Run an operation, wait, and print its value."),
    "submit": ("toolswarm.cli.calls:submit", "Have an operation run, and print the id of the call."),
    "result": ("toolswarm.cli.calls:result", "Print the result of a call that was submitted before."),
    "cancel": ("toolswarm.cli.calls:cancel", "Ask that a call stop."),
    "route": ("toolswarm.cli.look:route", "Show where a call would go, and why."),
    "tools": ("toolswarm.cli.look:tools", "List the operations, or show one."),
    "dead": ("toolswarm.cli.dead:dead", "Look at dead letters, run them again, resolve or drop them."),
    "fallback": ("toolswarm.cli.fallback:fallback", "Look at the fallback chains, or set one."),
    "cache": ("toolswarm.cli.cache:cache", "Look at the result cache, invalidate tags, refresh what is popular."),
    "status": ("toolswarm.cli.look:status", "Show workers, backlogs and counts."),
    "doctor": ("toolswarm.cli.doctor:doctor", "Find out what is wrong, and how to repair it."),
    "completion": ("toolswarm.cli.completion:completion", "Print the completion script of a shell."),
}
"""Command -> where its function is, imported when it runs, and its line in the list."""


def build_app() -> App:
    """The command line."""
    app = App(
        name="toolswarm",
        help="Call the tools of a swarm. Exit status: 0 ok, 1 the call failed, 2 usage or refused request,"
        " 3 not reachable, 4 timed out, 5 outcome unknown.",
        version=_version,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for name, (place, line) in COMMANDS.items():
        app.command(place, name=name, help=line)
    return app


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit status."""
    given = list(sys.argv[1:] if words is None else words)
    json = "--json" in given
    try:
        status = run(given)
        sys.stdout.flush()
    except CycloptsError as error:
        print_error(InvalidRequest(str(error).strip()), json=json)
        return exits.REFUSED
    except ToolswarmError as error:
        print_error(error, json=json)
        return exits.exit_of_error(error)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        # Nobody reads any more (`toolswarm tools | head`); the interpreter must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.BROKEN_PIPE
    return status


def run(words: Sequence[str]) -> int:
    """Run one command and let its errors through."""
    if list(words) == ["--version"]:  # cyclopts would print it through rich, which takes 0.15 s to import
        sys.stdout.write(f"{_version()}\n")
        return exits.OK
    status = build_app()(list(words), exit_on_error=False, print_error=False)
    return status if isinstance(status, int) else exits.OK


def _version() -> str:
    from importlib.metadata import version

    return version("toolswarm")
